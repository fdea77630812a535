"""Search the images of many threads in one call, for devices that serve one call at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from faceum.detect.base import MIN_SCORE, Detection, Detector, detect_many

BATCH = 16
"""Images that are searched in one call at most, so that memory stays bounded."""


@dataclass(eq=False)
class _Call:
    """One image that a thread waits for: its faces, or the error of its search, once it is done."""

    image_HWC: np.ndarray
    min_score: float
    faces: list[Detection] = field(default_factory=list)
    error: Exception | None = None
    done: bool = False


class TogetherDetector:
    """Searches the images of all threads that wait in one call of `detect_many`.

    While a thread uses the inner detector, the images of the others gather; the next thread searches all of
    them. Nothing waits for a batch to fill. The faces are those of the inner detector.
    """

    def __init__(self, inner: Detector) -> None:
        """inner: the detector; a method `detect_many` or `refine_points` of it is used if it has one."""
        self._inner = inner
        self.name = inner.name
        if hasattr(inner, "refine_points"):
            self.refine_points = inner.refine_points
        self._waiting: list[_Call] = []
        self._lock = threading.Lock()
        self._device = threading.Lock()

    def detect(self, image_HWC: np.ndarray, *, min_score: float = MIN_SCORE) -> list[Detection]:
        """Return the faces of one image; see `Detector.detect`."""
        call = _Call(image_HWC, min_score)
        with self._lock:
            self._waiting.append(call)
        while not call.done:
            with self._device:
                if not call.done:
                    self._search(self._take())
        if call.error is not None:
            raise call.error
        return call.faces

    def _take(self) -> list[_Call]:
        """Remove and return the first of the waiting calls with those after it that have its lowest score."""
        with self._lock:
            alike = [call for call in self._waiting if call.min_score == self._waiting[0].min_score][:BATCH]
            self._waiting = [call for call in self._waiting if call not in alike]
        return alike

    def _search(self, calls: Sequence[_Call]) -> None:
        try:
            found = detect_many(self._inner, [call.image_HWC for call in calls], min_score=calls[0].min_score)
        except Exception as error:  # noqa: BLE001 - raised again in the threads whose images fail
            if len(calls) == 1:
                calls[0].error, calls[0].done = error, True
                return
            for call in calls:  # which image it was shows when each is searched alone
                self._search([call])
            return
        for call, faces in zip(calls, found, strict=True):
            call.faces, call.done = faces, True
