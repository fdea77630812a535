"""The detectors by name, and what every detector promises."""

from __future__ import annotations

import numpy as np
import pytest

from faceum.detect.base import AUTO, DETECTORS, Detection, Detector, detect_many, load_detector
from faceum.errors import ImageError, ModelError


@pytest.fixture(scope="module", params=[*DETECTORS, "auto"])
def detector(request: pytest.FixtureRequest) -> Detector:
    return load_detector(request.param, threads=1)


def test_detectors_have_their_names() -> None:
    assert {name: load_detector(name).name for name in DETECTORS} == {name: name for name in DETECTORS}
    assert load_detector().name == AUTO


def test_unknown_detector_names_the_nearest() -> None:
    with pytest.raises(ModelError, match="did you mean 'centerface'"):
        load_detector("centreface")


def test_detection_has_the_promised_shapes_and_order(detector: Detector, portrait: np.ndarray) -> None:
    (face,) = detector.detect(portrait)
    assert face.box.shape == (4,) and face.box.dtype == np.float32
    assert face.points5.shape == (5, 2) and face.points5.dtype == np.float32
    assert isinstance(face.score, float) and 0 <= face.score <= 1
    x0, y0, x1, y1 = face.box
    assert (face.points5 > (x0, y0)).all() and (face.points5 < (x1, y1)).all()
    left_eye, right_eye, nose, left_mouth, right_mouth = face.points5
    assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[0] < nose[0] < right_mouth[0]
    assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 700), (3, 2), (31, 33), (100, 20_000), (20_000, 100), (1025, 1025)]
)
def test_images_of_any_size_without_a_face(detector: Detector, shape: tuple[int, int]) -> None:
    assert detector.detect(np.full((*shape, 3), 90, np.uint8)) == []


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_other_arrays_raise(detector: Detector, wrong: np.ndarray) -> None:
    with pytest.raises(ImageError, match="RGB image as uint8"):
        detector.detect(wrong)


def test_min_score_reaches_the_detector(detector: Detector, portrait: np.ndarray) -> None:
    assert len(detector.detect(portrait, min_score=1e-5)) > len(detector.detect(portrait)) == 1
    assert detector.detect(portrait, min_score=1.0) == []


def test_many_images_are_detected_as_each_alone(detector: Detector, portrait: np.ndarray) -> None:
    images = [portrait, portrait[::-1, ::-1], portrait[:300], np.roll(portrait, 40, axis=1), portrait[:300]]
    together = detect_many(detector, images, min_score=0.3)
    for image, faces in zip(images, together, strict=True):
        alone = detector.detect(image, min_score=0.3)
        assert len(faces) == len(alone)
        for one, other in zip(faces, alone, strict=True):
            np.testing.assert_allclose(one.box, other.box, atol=0.05)
            np.testing.assert_allclose(one.points5, other.points5, atol=0.05)


def test_detect_many_serves_detectors_that_only_detect() -> None:
    class Lone:
        name = "lone"

        def detect(self, image_HWC: np.ndarray, *, min_score: float = 0.5) -> list[Detection]:
            return [Detection(box=np.zeros(4), score=min_score)] * len(image_HWC)

    found = detect_many(Lone(), [np.zeros((n, 2, 3), np.uint8) for n in (1, 2)], min_score=0.2)
    assert [len(faces) for faces in found] == [1, 2] and found[0][0].score == 0.2
