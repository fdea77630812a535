"""Choose the frames in which faces are detected, and detect ahead of the tracks in worker threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import perf_counter

import numpy as np

from faceum.detect.base import Detection
from faceum.video.frames import SourceFrame

MOST_EVERY = 12
"""The largest distance of two detections, in frames, that is chosen to hold a rate."""

PER_SECOND = 6.0
"""Detections a second of video where neither a distance nor a rate is given."""


class DetectionPace:
    """The distance of two detections in frames: given, or chosen to hold a rate.

    every: the distance now.
    """

    def __init__(
        self, *, every: int | None, fps: float | None, rate: float, clock: Callable[[], float] = perf_counter
    ) -> None:
        """every: the distance if it is given. fps: the rate to hold otherwise. rate: the video's own."""
        self.every = every or max(1, min(MOST_EVERY, round(rate / PER_SECOND)))
        self._fps = None if every else fps
        self._clock = clock
        self._began = clock()
        self._frames = 0

    def frame_done(self) -> None:
        """Count a finished frame; about once a second of work the distance is adjusted."""
        self._frames += 1
        elapsed = self._clock() - self._began
        if self._fps is None or elapsed < 1 or self._frames < 2 * self.every:
            return
        reached = self._frames / elapsed
        if reached < self._fps:
            self.every = min(MOST_EVERY, self.every + max(1, round(self.every * (self._fps / reached - 1))))
        elif reached > 1.2 * self._fps:
            self.every = max(1, self.every - 1)
        self._began, self._frames = self._clock(), 0


def detect_ahead(
    frames: Iterator[SourceFrame],
    detect: Callable[[np.ndarray], Sequence[Detection]],
    pace: DetectionPace,
    *,
    workers: int,
) -> Iterator[tuple[SourceFrame, Future[Sequence[Detection]] | None]]:
    """Yield each frame with the future of its detections, or None where only following is due.

    Detection runs in `workers` threads while earlier frames are finished; at most two detections' frames are
    held. Closing the iterator cancels what has not begun and waits for what has.
    """
    waiting: deque[tuple[SourceFrame, Future[Sequence[Detection]] | None]] = deque()
    since = pace.every
    with ThreadPoolExecutor(workers, thread_name_prefix="faceum-detect") as pool:
        try:
            for frame in frames:
                due = since >= pace.every
                waiting.append((frame, pool.submit(detect, frame.image) if due else None))
                since = 1 if due else since + 1
                if len(waiting) > workers * pace.every:
                    yield waiting.popleft()
            while waiting:
                yield waiting.popleft()
        finally:
            for _, future in waiting:
                if future is not None:
                    future.cancel()
            if hasattr(frames, "close"):
                frames.close()
