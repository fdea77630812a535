"""Hide faces robustly: bridge gaps, begin before the first detection, and continue after the last."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from faceum.errors import FaceumError, unknown_name
from faceum.video.analyze import VideoConfig
from faceum.video.records import Frame

KINDS = ("blur", "mosaic", "box")

MARGIN = 0.2
"""How far the hidden part reaches beyond the face's box on each side, as a share of its longer side."""

AROUND_SECONDS = 1.0
"""A face is hidden for so long before its first and after its last box, and through gaps up to this."""

HIDE_SCORE = 0.2
"""Everything down to this detector score is hidden."""

SAMPLES_TO_SHOW = 3
"""A person counts as known, and is shown, only from so many detections on."""


@dataclass(frozen=True, kw_only=True)
class HideConfig:
    """Whose faces are hidden, and how.

    who: "all", "unknown" (everyone without a name), or names. kind: "blur", "mosaic" or "box".
    """

    who: tuple[str, ...] = ("all",)
    kind: str = "blur"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise FaceumError(unknown_name(self.kind, "way to hide faces", KINDS))

    @property
    def needs_gallery(self) -> bool:
        """Whether names decide who is hidden."""
        return self.who != ("all",)

    def check_names(self, known: Collection[str]) -> None:
        """Raise FaceumError if `who` names a person whom the gallery does not know."""
        if self.who not in (("all",), ("unknown",)):
            for name in self.who:
                if name not in known:
                    raise FaceumError(unknown_name(name, "person in the gallery called", known))

    def careful(self, config: VideoConfig) -> VideoConfig:
        """Return the settings of the analysis for hiding: every frame is searched, for weak faces too."""
        tracks = replace(config.tracks, low_score=min(config.tracks.low_score, HIDE_SCORE))
        return replace(config, every=1, fps=None, tracks=tracks)

    def hides(self, names: Collection[str | None]) -> bool:
        """Return whether a track with these names, one per detection, is hidden; in doubt it is."""
        if self.who == ("all",) or len(names) < SAMPLES_TO_SHOW:
            return True
        if self.who == ("unknown",):
            return None in names
        return any(name in self.who for name in names)


@dataclass(kw_only=True, eq=False)
class _Waiting:
    frame: Frame
    boxes: dict[int, list[np.ndarray]] = field(default_factory=dict)


class FaceHider:
    """Hides faces in frames, which come out `AROUND_SECONDS` of video later."""

    def __init__(self, config: HideConfig) -> None:
        """config: see `HideConfig`."""
        self._config = config
        self._waiting: deque[_Waiting] = deque()
        self._last: dict[int, tuple[float, np.ndarray]] = {}
        self._names: dict[int, deque[str | None]] = {}

    def push(self, frame: Frame) -> Iterator[tuple[Frame, np.ndarray]]:
        """Take the next frame; yield frames that are done, with their image in which faces are hidden."""
        entry = _Waiting(frame=frame)
        self._waiting.append(entry)
        for new, old in frame.joined.items():
            self._rename(new, old)
        for face in frame.faces:
            box = np.asarray(face.box if face.raw is None else _union(face.box, face.raw.box), np.float64)
            if face.detected:
                self._names.setdefault(face.track_id, deque(maxlen=SAMPLES_TO_SHOW)).append(face.name)
            self._reach_back(face.track_id, box, frame.time)
            entry.boxes.setdefault(face.track_id, []).append(box)
            self._last[face.track_id] = frame.time, box
        seen = {face.track_id for face in frame.faces}
        for number, (time, box) in list(self._last.items()):
            if number not in seen and frame.time - time <= AROUND_SECONDS:
                entry.boxes.setdefault(number, []).append(_grown(box, 0.5 * (frame.time - time)))
            elif number not in seen:
                del self._last[number]
        # Weak detections belong to nobody, so they are hidden in their frame and the neighbours.
        for found in frame.untracked:
            for one in list(self._waiting)[-6:]:
                one.boxes.setdefault(-1, []).append(np.asarray(found.box, np.float64))
        while self._waiting and frame.time - self._waiting[0].frame.time > AROUND_SECONDS:
            yield self._finish(self._waiting.popleft())

    def flush(self) -> Iterator[tuple[Frame, np.ndarray]]:
        """Yield what still waits."""
        while self._waiting:
            yield self._finish(self._waiting.popleft())

    def _reach_back(self, number: int, box: np.ndarray, time: float) -> None:
        """Hide a face that appears, or comes back, also in the frames before."""
        before = self._last.get(number)
        if before is not None and len(self._waiting) > 1 and before[0] >= self._waiting[-2].frame.time:
            return
        for entry in list(self._waiting)[:-1]:
            ago = time - entry.frame.time
            if before is None or entry.frame.time > before[0]:
                share = 0.0 if before is None else ago / max(time - before[0], 1e-6)
                between = box if before is None else (1 - share) * box + share * before[1]
                entry.boxes.setdefault(number, []).append(_grown(between, 0.5 * ago))

    def _rename(self, new: int, old: int) -> None:
        for entry in self._waiting:
            if new in entry.boxes:
                entry.boxes.setdefault(old, []).extend(entry.boxes.pop(new))
        if new in self._last:
            self._last[old] = self._last.pop(new)
        if new in self._names:
            self._names[old] = self._names.pop(new)

    def _finish(self, entry: _Waiting) -> tuple[Frame, np.ndarray]:
        assert entry.frame.image is not None
        image = entry.frame.image.copy()
        for number, boxes in entry.boxes.items():
            if number < 0 or self._config.hides(self._names.get(number, ())):
                for box in boxes:
                    hide(image, box, self._config.kind)
        return entry.frame, image


def hide(image: np.ndarray, box: np.ndarray, kind: str) -> None:
    """Hide the part of an RGB image (H, W, 3) in and around a box, in place.

    What is left of the face is 6 x 6 averages at most, whatever its size.
    """
    margin = MARGIN * float(max(box[2:] - box[:2]))
    x0, y0 = np.clip(np.floor(box[:2] - margin), 0, image.shape[1::-1]).astype(int)
    x1, y1 = np.clip(np.ceil(box[2:] + margin), 0, image.shape[1::-1]).astype(int)
    if x1 <= x0 or y1 <= y0:
        return
    part = image[y0:y1, x0:x1]
    if kind == "box":
        part[:] = 0
        return
    small = cv2.resize(part, (min(6, x1 - x0), min(6, y1 - y0)), interpolation=cv2.INTER_AREA)
    how = cv2.INTER_NEAREST if kind == "mosaic" else cv2.INTER_LINEAR
    part[:] = cv2.resize(small, (int(x1 - x0), int(y1 - y0)), interpolation=how)


def _grown(box: np.ndarray, share: float) -> np.ndarray:
    """Return the box larger by a share of its sides."""
    half = (box[2:] - box[:2]) / 2 * share
    return np.concatenate([box[:2] - half, box[2:] + half])


def _union(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.concatenate([np.minimum(first[:2], second[:2]), np.maximum(first[2:], second[2:])])
