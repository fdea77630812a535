"""Summaries of tracks: who was seen from when to when, with the best crop and the averaged answers."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from faceum.errors import FaceumError
from faceum.results import Age
from faceum.video.records import Frame, TrackedFace

MOMENT_SECONDS = 0.5
"""The least distance of two moments of a track; it doubles whenever there are `MOST_MOMENTS`."""

MOST_MOMENTS = 512
CROP_SIDE = 192
"""Longest side of a track's crop, in pixels."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What was said of a person at a time: expression and age, None where not asked for."""

    time: float
    expression: str | None = None
    age: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class TrackSummary:
    """One person's way through a video.

    first, last: times of the first and the last frame with the face, in seconds. frames: how many there are.
    age: mean and, as `std`, deviation of the frames' distributions taken together, which does not shrink with
        more frames, because the errors in frames of one face are alike.
    attributes: mean probabilities. expressions: share of the frames with an answer. moments: expression and
        age over time.
    embedding: mean, of length 1. crop: the best view, (h, w, 3) uint8 RGB, at the time crop_time.
    """

    track_id: int
    name: str | None
    first: float
    last: float
    frames: int
    age: Age | None
    attributes: Mapping[str, float] | None = field(repr=False)
    expressions: Mapping[str, float] = field(repr=False)
    moments: tuple[Moment, ...] = field(repr=False)
    embedding: np.ndarray | None = field(repr=False)
    crop: np.ndarray | None = field(repr=False)
    crop_time: float

    def crop_jpeg(self) -> bytes | None:
        """Return the crop as a JPEG file, None without one."""
        if self.crop is None:
            return None
        return bytes(cv2.imencode(".jpg", np.ascontiguousarray(self.crop[..., ::-1]))[1].tobytes())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON; the crop as JPEG in base64."""
        jpeg = self.crop_jpeg()
        return {
            "track_id": self.track_id,
            "name": self.name,
            "first": self.first,
            "last": self.last,
            "frames": self.frames,
            "age": None if self.age is None else self.age.to_dict(),
            "attributes": None if self.attributes is None else dict(self.attributes),
            "expressions": dict(self.expressions),
            "moments": [vars(moment) for moment in self.moments],
            "embedding": None if self.embedding is None else [float(x) for x in self.embedding],
            "crop": None if jpeg is None else base64.b64encode(jpeg).decode("ascii"),
            "crop_time": self.crop_time,
        }


@dataclass(kw_only=True, eq=False)
class _Sums:
    """What is added up along one track."""

    first: float
    last: float
    name: str | None = None
    frames: int = 0
    weight: float = 0.0
    age: np.ndarray = field(default_factory=lambda: np.zeros(3))  # weight; weighted first and second moments
    attributes: dict[str, float] = field(default_factory=dict)
    expressions: dict[str, int] = field(default_factory=dict)
    moments: list[Moment] = field(default_factory=list)
    step: float = MOMENT_SECONDS
    embedding: np.ndarray | None = None
    crop: np.ndarray | None = None
    crop_quality: float = 0.0
    crop_time: float = 0.0

    def add(self, face: TrackedFace, frame: Frame) -> None:
        self.last, self.name = frame.time, face.name
        self.frames += 1
        if not self.moments or frame.time - self.moments[-1].time >= self.step:
            label = None if face.expression is None else face.expression.label
            years = None if face.age is None else round(float(face.age.years), 1)
            self.moments.append(Moment(time=frame.time, expression=label, age=years))
        if len(self.moments) >= MOST_MOMENTS:
            self.moments, self.step = self.moments[::2], 2 * self.step
        if face.detected and face.raw is not None:
            self._add_answers(face, face.weight)
            if face.weight > 1.05 * self.crop_quality and frame.image is not None:
                self._take_crop(face, frame)

    def _add_answers(self, face: TrackedFace, weight: float) -> None:
        raw = face.raw
        assert raw is not None
        self.weight += weight
        if raw.age is not None:
            self.age += weight * np.array([1.0, raw.age.years, raw.age.years**2 + raw.age.std**2])
        for name, value in (raw.attributes or {}).items():
            self.attributes[name] = self.attributes.get(name, 0.0) + weight * value
        if raw.expression is not None:
            label = raw.expression.label
            self.expressions[label] = self.expressions.get(label, 0) + 1
        if raw.embedding is not None:
            vector = weight * np.asarray(raw.embedding, np.float64)
            self.embedding = vector if self.embedding is None else self.embedding + vector

    def _take_crop(self, face: TrackedFace, frame: Frame) -> None:
        assert face.raw is not None and frame.image is not None
        try:
            crop = face.raw.crop(frame.image)
        except FaceumError:  # the box lies outside the frame
            return
        scale = CROP_SIDE / max(crop.shape[:2])
        if scale < 1:
            size = (max(1, round(crop.shape[1] * scale)), max(1, round(crop.shape[0] * scale)))
            crop = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
        self.crop, self.crop_quality, self.crop_time = crop, face.weight, frame.time

    def merge(self, later: _Sums) -> None:
        """Add a later track of the same person."""
        self.last, self.name = later.last, later.name or self.name
        self.frames += later.frames
        self.weight += later.weight
        self.age = self.age + later.age
        for name, value in later.attributes.items():
            self.attributes[name] = self.attributes.get(name, 0.0) + value
        for label, count in later.expressions.items():
            self.expressions[label] = self.expressions.get(label, 0) + count
        self.moments += later.moments
        if later.embedding is not None:
            self.embedding = later.embedding + (0 if self.embedding is None else self.embedding)
        if later.crop_quality > self.crop_quality:
            self.crop, self.crop_quality, self.crop_time = later.crop, later.crop_quality, later.crop_time

    def summary(self, number: int) -> TrackSummary:
        weight, years = self.age[0], self.age[1] / max(self.age[0], 1e-12)
        spread = float(np.sqrt(max(self.age[2] / max(weight, 1e-12) - years**2, 0.0)))
        answers = sum(self.expressions.values())
        vector = self.embedding
        if vector is not None:
            vector = (vector / max(float(np.linalg.norm(vector)), 1e-12)).astype(np.float32)
        return TrackSummary(
            track_id=number,
            name=self.name,
            first=self.first,
            last=self.last,
            frames=self.frames,
            age=Age(years=float(years), std=spread) if weight else None,
            attributes={name: value / self.weight for name, value in self.attributes.items()} or None,
            expressions={
                label: count / answers
                for label, count in sorted(self.expressions.items(), key=lambda one: -one[1])
            },
            moments=tuple(self.moments),
            embedding=vector,
            crop=self.crop,
            crop_time=self.crop_time,
        )


class TrackCollector:
    """Collects summaries while the frames of a video go by; memory grows with the people, not the frames."""

    def __init__(self) -> None:
        self._sums: dict[int, _Sums] = {}

    def add(self, frame: Frame) -> None:
        """Take the faces of the next frame."""
        for new, old in frame.joined.items():
            later = self._sums.pop(new, None)
            if later is not None and old in self._sums:
                self._sums[old].merge(later)
            elif later is not None:
                self._sums[old] = later
        for face in frame.faces:
            sums = self._sums.setdefault(face.track_id, _Sums(first=frame.time, last=frame.time))
            sums.add(face, frame)

    def summaries(self) -> list[TrackSummary]:
        """Return the summaries so far, by the time of the first frame."""
        ordered = sorted(self._sums.items(), key=lambda one: (one[1].first, one[0]))
        return [sums.summary(number) for number, sums in ordered]


def summarize_tracks(frames: Iterable[Frame]) -> list[TrackSummary]:
    """Return a summary of every person in the frames that `analyze_video` yields."""
    collector = TrackCollector()
    for frame in frames:
        collector.add(frame)
    return collector.summaries()
