"""Analyze a video: from its frames to tracked faces with averaged answers, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from faceum.analyzer import FaceAnalyzer
from faceum.detect.base import Detection
from faceum.errors import FaceumError, ModelError
from faceum.geometry import compose, transform_points
from faceum.results import Face, Parsing
from faceum.threads import usable_threads
from faceum.video.ahead import read_ahead
from faceum.video.follow import View
from faceum.video.frames import Section, SourceFrame, Video
from faceum.video.records import Frame, TrackedFace, weight_of
from faceum.video.schedule import DetectionPace, detect_ahead
from faceum.video.source import VideoInput, open_video
from faceum.video.tracker import Tracker
from faceum.video.tracks import Track, TrackConfig

READ_AHEAD = 4
"""Frames that are decoded before their turn."""

SAME_FMR = 1e-3
"""A person who comes back is known again at the cosine of this false match rate, or at `SAME_COSINE`."""

SAME_COSINE = 0.5
"""Used where the network has no measured thresholds."""

NAME_AT = (1, 2, 4, 8, 16, 32, 64)
"""Numbers of samples at which a track is searched in the gallery."""


class Names(Protocol):
    """A gallery, as far as names of tracks need it; `faceum.Gallery` is one."""

    def search_vectors(self, vectors: np.ndarray, k: int = 5, *, model: str) -> Sequence[Any]:
        """Return for each embedding (n, D) a search whose `name` is a person's or "unknown"."""
        ...


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """How a video is analyzed.

    every: detect faces, and answer the tasks, in every n-th frame; faces are followed in between. None for
    about six times a second of video. fps: instead, choose n so that this many frames a second are done.
    average: average age, attributes, expression and embedding along each track. smooth: smooth points and
    boxes. tracks: how detections become tracks.
    """

    every: int | None = None
    fps: float | None = None
    average: bool = True
    smooth: bool = True
    tracks: TrackConfig = field(default_factory=TrackConfig)

    def __post_init__(self) -> None:
        if self.every is not None and self.every < 1:
            raise FaceumError(f"every is {self.every}; give at least 1 to detect in every frame.")
        if self.fps is not None and not self.fps > 0:
            raise FaceumError(f"fps is {self.fps}; give the frames a second to hold, above 0.")


def analyze_video(
    source: VideoInput | Video,
    *,
    analyzer: FaceAnalyzer | None = None,
    start: float = 0.0,
    end: float | None = None,
    gallery: Names | None = None,
    config: VideoConfig | None = None,
) -> Iterator[Frame]:
    """Yield the frames of a video with their tracked faces, as they are done, in constant memory.

    source: a file, a folder of images, a camera's number, an address (rtsp, http), RGB arrays, or what
        `faceum.video.source.open_video` returned. Needs the extra `video`.
    analyzer: answers the tasks; the default model by default. Without the task recognition, people are
        tracked by motion alone.
    start, end: the section in seconds. gallery: gives names to tracks. config: see `VideoConfig`.
    Each frame keeps its image. Frames of a live source that come while the analysis is busy are left out.
    Raises FaceumError if the video cannot be read or has no frame.
    """
    config = VideoConfig() if config is None else config
    section = Section(start=start, end=end)
    analyzer = FaceAnalyzer() if analyzer is None else analyzer
    video: Any = source if hasattr(source, "frames") else open_video(source)
    return _analyze(video, section, analyzer, gallery, config)


def _analyze(
    video: Video, section: Section, analyzer: FaceAnalyzer, gallery: Names | None, config: VideoConfig
) -> Iterator[Frame]:
    state = _Analysis(analyzer, gallery, config)
    pace = DetectionPace(every=config.every, fps=config.fps, rate=video.rate)
    workers = max(1, usable_threads(analyzer.threads) - 1)
    frames = read_ahead(video.frames(section), READ_AHEAD, drop=video.live)
    scheduled = detect_ahead(frames, state.detect, pace, workers=workers)
    with closing(scheduled):  # type: ignore[type-var]
        for frame, future in scheduled:
            yield state.step(frame, None if future is None else future.result())
            pace.frame_done()


class _Analysis:
    """The state of one video's analysis."""

    def __init__(self, analyzer: FaceAnalyzer, gallery: Names | None, config: VideoConfig) -> None:
        self._analyzer = analyzer
        self._gallery = gallery
        self._config = config
        same = config.tracks.same_cosine
        self._tracker = Tracker(
            self._answer, config.tracks, same_cosine_of(analyzer) if same is None else same
        )

    def detect(self, image: np.ndarray) -> list[Detection]:
        """Return all faces of a frame, weak ones included; for worker threads."""
        return self._analyzer.detect(image, min_score=self._config.tracks.low_score, one_thread=True)

    def _answer(self, image: np.ndarray, faces: Sequence[Detection]) -> list[Face]:
        """Answer the tasks for detections."""
        return self._analyzer.answer(image, faces)

    def step(self, source: SourceFrame, detections: Sequence[Detection] | None) -> Frame:
        """Return the analyzed frame. A face that cannot be followed has the faces detected at once."""
        view = View.of(source.image)
        followed = self._tracker.follow(view, source.time)
        if detections is None and not followed:
            detections = self.detect(source.image)
        answers: dict[int, Face] = {}
        if detections is not None:
            answers = self._tracker.detect(source.image, detections, source.time)
        faces = [
            self._face(track, answers.get(track.number), source.time) for track in self._tracker.active()
        ]
        height, width = source.image.shape[:2]
        return Frame(
            index=source.index,
            time=source.time,
            width=width,
            height=height,
            faces=faces,
            image=source.image,
            untracked=list(self._tracker.untracked),
            joined=dict(self._tracker.joined),
        )

    def _face(self, track: Track, answer: Face | None, time: float) -> TrackedFace:
        """Return what is said of a track in the current frame."""
        assert track.latest is not None
        if answer is not None:
            self._name(track)
        latest = track.latest
        landmarks, parsing = latest.landmarks, latest.parsing
        if answer is None and landmarks is not None:
            landmarks = transform_points(track.motion, landmarks).astype(np.float32)
        if answer is None and parsing is not None:
            parsing = Parsing(class_map=parsing.class_map, matrix=compose(parsing.matrix, track.motion))
        place: dict[str, Any] = {"box": track.box, "points5": track.points5, "landmarks": landmarks}
        raw = answer or Face(**place, model=latest.model, score=None)
        if self._config.smooth:
            place = _smooth_place(track, place, time)
        said = track.averages.answers(latest) if self._config.average else {}
        return TrackedFace(
            **{
                "score": latest.score, "embedding": latest.embedding, "age": latest.age,
                "attributes": latest.attributes, "expression": latest.expression,
                "quality": latest.quality, **said,
            },
            **place,
            parsing=parsing,
            model=latest.model,
            track_id=track.number,
            name=track.name,
            detected=answer is not None,
            raw=raw,
            weight=weight_of(raw) if answer is not None else 0.0,
        )  # fmt: skip

    def _name(self, track: Track) -> None:
        """Search the gallery for a track, whenever its mean embedding has become better known."""
        mean, due = track.averages.embedding(), [n for n in NAME_AT if n <= track.averages.samples]
        if self._gallery is None or mean is None or not due or due[-1] <= track.named_at:
            return
        track.named_at = due[-1]
        (found,) = self._gallery.search_vectors(mean[None], 1, model=self._analyzer.model_id)
        track.name = None if found.name == "unknown" else found.name


def same_cosine_of(analyzer: FaceAnalyzer) -> float:
    """Return the cosine from which on a face that comes back shows the same person."""
    try:
        return float(analyzer.thresholds().at(SAME_FMR).cosine)
    except ModelError:
        return SAME_COSINE


def _smooth_place(track: Track, place: dict[str, Any], time: float) -> dict[str, Any]:
    """Return box, five points and landmarks smoothed together; the filter starts over if some are missing."""
    parts = {name: np.reshape(value, (-1, 2)) for name, value in place.items() if value is not None}
    unit = float(np.hypot(*(place["box"][2:] - place["box"][:2]))) / 4  # about the distance of the eyes
    if place["points5"] is not None:
        unit = float(np.hypot(*(place["points5"][1] - place["points5"][0])))
    together = track.smoother.smooth(np.concatenate(list(parts.values())), time, unit)
    smoothed, first = dict(place), 0
    for name, part in parts.items():
        values = together[first : first + len(part)].astype(np.float32)
        smoothed[name] = values.reshape(np.shape(place[name]))
        first += len(part)
    return smoothed
