"""Searching a reduced copy: coordinates of the image itself, points measured again, small faces missed."""

from __future__ import annotations

import numpy as np
import pytest

from faceum.detect.base import Detection, load_detector
from faceum.detect.reduced import ReducedDetector, reduce_detector


class Recorder:
    """Finds one face in the middle of each image, and remembers the images' sizes."""

    name = "recorder"

    def __init__(self) -> None:
        self.sizes: list[tuple[int, ...]] = []

    def detect(self, image_HWC: np.ndarray, *, min_score: float = 0.5) -> list[Detection]:
        """A face a quarter of the image wide and high."""
        self.sizes.append(image_HWC.shape[:2])
        height, width = image_HWC.shape[:2]
        box = np.array([0.375 * width, 0.375 * height, 0.625 * width, 0.625 * height], np.float32)
        points = np.tile(np.array([width, height], np.float32) / 2, (5, 1))
        return [Detection(box=box, points5=points, score=0.9)]


def test_faces_are_those_of_the_whole_image() -> None:
    detector = Recorder()
    (face,) = ReducedDetector(detector, 60).detect(np.zeros((480, 640, 3), np.uint8))
    assert detector.sizes == [(192, 256)]
    assert face.box.tolist() == [240, 180, 400, 300] and face.score == 0.9
    assert face.points5 is not None and face.points5.tolist() == [[320, 240]] * 5
    assert not hasattr(ReducedDetector(detector, 60), "refine_points")


def test_nothing_is_reduced_for_the_smallest_faces() -> None:
    detector = Recorder()
    assert reduce_detector(detector, 24) is detector and reduce_detector(detector, 10) is detector
    assert reduce_detector(detector, 25) is not detector


@pytest.mark.parametrize("min_face", [48, 96])
def test_the_portrait_is_found_with_equal_points(portrait: np.ndarray, min_face: float) -> None:
    whole = load_detector()
    (face,), (other,) = whole.detect(portrait), reduce_detector(whole, min_face).detect(portrait)
    side = float((face.box[2:] - face.box[:2]).max())
    assert np.abs(other.box - face.box).max() < 0.15 * side
    assert face.points5 is not None and other.points5 is not None
    assert np.abs(other.points5 - face.points5).max() < 0.05 * side
