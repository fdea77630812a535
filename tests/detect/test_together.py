"""Images of many threads are searched together, and each thread gets its own faces or its own error."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from faceum.analyzer import FaceAnalyzer
from faceum.detect.base import Detection, load_detector
from faceum.detect.together import BATCH, TogetherDetector
from faceum.errors import ImageError

LONG = 60
"""Seconds after which a test gives up; far more than any of them takes."""


class Recorder:
    """Finds as many faces as the image is high; its first call lasts until `release` is set."""

    name = "recorder"

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.entered, self.release = threading.Event(), threading.Event()

    def detect(self, image_HWC: np.ndarray, *, min_score: float = 0.5) -> list[Detection]:
        return self.detect_many([image_HWC], min_score=min_score)[0]

    def detect_many(self, images: list[np.ndarray], *, min_score: float) -> list[list[Detection]]:
        self.batches.append(len(images))
        self.entered.set()
        assert self.release.wait(LONG)
        if any(image.shape[1] == 13 for image in images):
            raise ImageError("13 pixels are too wide.")
        return [[Detection(box=np.zeros(4), score=min_score)] * len(image) for image in images]


def image(height: int, width: int = 8) -> np.ndarray:
    return np.zeros((height, width, 3), np.uint8)


def search(detector: TogetherDetector, inner: Recorder, calls: list[tuple[np.ndarray, float]]) -> list:
    """Search the first image, and the others while the first search lasts; return the futures."""
    with ThreadPoolExecutor(len(calls)) as pool:
        futures = [pool.submit(detector.detect, calls[0][0], min_score=calls[0][1])]
        assert inner.entered.wait(LONG)
        futures += [pool.submit(detector.detect, one, min_score=score) for one, score in calls[1:]]
        while len(detector._waiting) < len(calls) - 1:
            threading.Event().wait(0.001)
        inner.release.set()
    return futures


def test_waiting_images_are_searched_in_one_call() -> None:
    inner = Recorder()
    count = BATCH + 4
    calls = [(image(height), 0.5) for height in range(1, count + 2)]
    futures = search(TogetherDetector(inner), inner, calls)
    assert [len(future.result()) for future in futures] == list(range(1, count + 2))
    assert inner.batches == [1, BATCH, 4]


def test_every_call_keeps_its_own_lowest_score() -> None:
    inner = Recorder()
    futures = search(TogetherDetector(inner), inner, [(image(1), s) for s in (0.1, 0.2, 0.3, 0.2)])
    assert [future.result()[0].score for future in futures] == [0.1, 0.2, 0.3, 0.2]
    assert sorted(inner.batches) == [1, 1, 2]


def test_failure_reaches_only_the_thread_of_its_image() -> None:
    inner = Recorder()
    futures = search(TogetherDetector(inner), inner, [(image(2), 0.5), (image(3, 13), 0.5), (image(4), 0.5)])
    assert [len(futures[0].result()), len(futures[2].result())] == [2, 4]
    with pytest.raises(ImageError, match="too wide"):
        futures[1].result()


def test_analyze_many_finds_the_same_faces_together(tiny_model, portrait: np.ndarray) -> None:
    images = [portrait, portrait[:, ::-1].copy(), np.zeros_like(portrait)]
    weights = tiny_model.with_suffix(".onnx")
    plain = FaceAnalyzer(weights, threads=2, tasks=["age"])
    together = FaceAnalyzer(weights, threads=2, tasks=["age"], detector=TogetherDetector(load_detector()))
    for one, other in zip(plain.analyze_many(images), together.analyze_many(images), strict=True):
        assert len(one) == len(other)
        assert all(a.box == pytest.approx(b.box, abs=0.01) for a, b in zip(one, other, strict=True))
