"""The records of a video: a frame, and a face in it that belongs to a track."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from faceum.detect.base import Detection
from faceum.results import Face, Result

SCHEMA = "faceum.frame/1"
"""The name and version that every `Frame.to_dict()` carries under "schema"."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrackedFace(Face):
    """A face of a frame, with the answers of its track so far.

    The fields of `Face` hold what was averaged along the track (age, attributes, expression, embedding) and
    smoothed (box, points); where that is switched off, the latest values.

    track_id: the same number for the same person, from 1. name: the person's name in the gallery; None
    without a gallery, and for people who are not in it. detected: whether the detector found the face in this
    frame; otherwise it was followed from the frame before. raw: what was measured in this frame alone: box
    and points of every frame, answers only where the face was detected. weight: that of this frame's answers
    in the track's averages, 0..1.
    """

    track_id: int = 0
    name: str | None = None
    detected: bool = True
    raw: Face | None = None
    weight: float = 0.0

    def __repr__(self) -> str:
        name = "" if self.name is None else f"name={self.name!r}, "
        return f"TrackedFace(track_id={self.track_id}, {name}{super().__repr__().removeprefix('Face(')}"

    def to_dict(self, *, parsing: Any = "rle") -> dict[str, Any]:
        """Return plain values, ready for JSON; see `Face.to_dict`."""
        return {
            "track_id": self.track_id,
            "name": self.name,
            "detected": self.detected,
            "weight": round(float(self.weight), 4),
            **super().to_dict(parsing=parsing),
            "raw": None if self.raw is None else self.raw.to_dict(parsing=parsing),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame(Result):
    """One frame of a video and the faces in it.

    index: number of the frame from 0, counted from where reading started; frames that a live source left out
    are counted. time: seconds from the start of the video, by its own time stamps. untracked: faces of low
    score that belong to no track; only hiding faces uses them. joined: tracks that turned out to show people
    of older tracks: from this frame on, the new number (key) is the old one (value).
    """

    index: int = 0
    time: float = 0.0
    faces: Sequence[TrackedFace] = ()
    untracked: Sequence[Detection] = ()
    joined: Mapping[int, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"Frame(index={self.index}, time={self.time:.3f}, {self.width}x{self.height}, "
            f"faces={list(self.faces)!r})"
        )

    def to_dict(self, *, parsing: Any = "rle") -> dict[str, Any]:
        """Return the JSON object of a frame."""
        return {
            "schema": SCHEMA,
            "index": self.index,
            "time": round(float(self.time), 6),
            "width": self.width,
            "height": self.height,
            "faces": [face.to_dict(parsing=parsing) for face in self.faces],
            "joined": {str(new): old for new, old in self.joined.items()},
        }


def weight_of(face: Detection | Face) -> float:
    """Return how much a face's answers count in an average, 0.01..1.

    The face's measured quality; where there is none, the product of the detector's score, of the eye
    distance up to 30 pixels, and of how near the nose is to the middle between the eyes, which falls as the
    head turns.
    """
    quality = getattr(face, "quality", None)
    if quality is not None:
        return float(np.clip(quality, 0.01, 1.0))
    score = 1.0 if face.score is None else float(face.score)
    if face.points5 is None:
        return max(0.01, 0.5 * score)
    left, right, nose = np.asarray(face.points5[:3], np.float64)
    across = right - left
    distance = float(np.hypot(*across))
    if distance < 1e-6:
        return 0.01
    aside = abs(float((nose - (left + right) / 2) @ across)) / distance**2
    return float(np.clip(score * min(1.0, distance / 30) * (1 - 2 * min(aside, 0.45)), 0.01, 1.0))
