"""Every detector by its name, and a sentence for a name that there is not."""

from __future__ import annotations

import numpy as np
import pytest

from faceum.detect.protocol import Detector
from faceum.detect.registry import AUTO, DETECTORS, load_detector
from faceum.errors import ImageError, ModelError


@pytest.fixture(scope="module", params=[*DETECTORS, "auto"])
def detector(request: pytest.FixtureRequest) -> Detector:
    return load_detector(request.param, threads=1)


def test_each_detector_answers_to_its_name() -> None:
    assert {name: load_detector(name).name for name in DETECTORS} == {name: name for name in DETECTORS}
    assert load_detector().name == AUTO


def test_an_unknown_name_is_a_sentence_with_the_known_ones() -> None:
    with pytest.raises(ModelError, match="did you mean 'centerface'"):
        load_detector("centreface")


def test_the_portrait_has_one_face_and_its_record_keeps_the_contract(
    detector: Detector, portrait: np.ndarray
) -> None:
    (face,) = [face for face in detector.detect(portrait) if face.score >= 0.5]
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
def test_a_image_of_any_size_without_a_face_has_none(detector: Detector, shape: tuple[int, int]) -> None:
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
def test_what_is_no_image_is_a_sentence(detector: Detector, wrong: np.ndarray) -> None:
    with pytest.raises(ImageError, match="RGB image as uint8"):
        detector.detect(wrong)
