"""Parsing and landmarks of faces whose answers are known beforehand, in the whole image."""

import numpy as np
import pytest

from faceum.crop import crop_face
from faceum.errors import DataError
from faceum.evaluate.dense import REGIONS, evaluate_landmarks, evaluate_parsing
from faceum.evaluate.samples import cut_faces
from faceum.geometry import invert, transform_points
from faceum.metrics.landmarks import OUTER_EYES


def answered_points(toy, one) -> np.ndarray:
    """Where the fake network puts the points of a row, in the image."""
    crop = crop_face(one.image, toy.SPEC, one.box, one.points5)
    return transform_points(invert(crop.matrix), toy.POINTS * toy.SPEC.size)


def with_landmarks(toy, name: str, shift: float):
    one = toy.row(name, 0)
    points = answered_points(toy, one)
    eyes = np.linalg.norm(points[OUTER_EYES[0]] - points[OUTER_EYES[1]])
    return toy.row(name, 0, landmarks68=points + np.array([shift * eyes, 0]))


def test_landmarks_in_image_pixels(toy, runner):
    rows = [
        with_landmarks(toy, "right", 0),
        with_landmarks(toy, "near", 0.04),
        with_landmarks(toy, "far", 0.2),
    ]
    result = evaluate_landmarks(runner, cut_faces(rows, runner, None, task="landmarks", tight=True), "toy")
    assert result.scores["nme"].value == pytest.approx(8, abs=1e-3)
    assert result.scores["fr10"].value == pytest.approx(100 / 3)
    assert result.scores["auc10"].value == pytest.approx(160 / 3, abs=1e-2)
    assert result.worst[0].id == "far"
    assert result.best[0].answer == pytest.approx(rows[0].labels["landmarks68"], abs=1e-3)
    assert sum(cells[1] for cells in result.tables[0].rows) == 68
    assert result.curves["ced"]["share"][-1] == pytest.approx(2 / 3, abs=1e-4)


def test_every_point_has_one_region():
    assert sorted(point for points in REGIONS.values() for point in points) == list(range(68))


def test_missed_face_is_a_failure(toy, runner):
    rows = [with_landmarks(toy, "right", 0)]
    samples = cut_faces(rows, runner, toy.Detector(), task="landmarks", tight=False)
    result = evaluate_landmarks(runner, samples)
    assert result.scores["nme"].value is None
    assert result.scores["nme_with_set_box"].value == pytest.approx(0, abs=1e-3)
    assert (result.scores["fr10"].value, result.scores["auc10"].value) == (100, 0)
    assert result.curves["ced"]["share"][-1] == 0


def striped(toy, name: str, label_shift: int = 0):
    """Class 2 in a 24-pixel square of class 1, in an image of class 0; the fake network sees red / 10."""
    classes = np.zeros((100, 100), np.uint8)
    classes[30:70, 30:70] = 1
    classes[40:64, 40:64] = 2
    one = toy.row(name, 0, parsing=np.roll(classes, label_shift, axis=1))
    one.image[..., 0] = classes * 10
    return one


def test_parsing_of_the_whole_image(toy, runner):
    samples = cut_faces([striped(toy, "a"), striped(toy, "b")], runner, None, task="parsing", tight=True)
    result = evaluate_parsing(runner, samples, "toy")
    # The squares' edges lie on crop pixels, so nothing is lost between image and crop.
    assert result.scores["f1_18"].value == 100
    assert result.scores["pixel_accuracy"].value == 100
    assert "f1_15" not in result.scores
    assert result.best[0].answer.shape == (100, 100)
    counts = np.array(result.curves["confusion"]["counts"])
    assert counts.sum() == 2 * 100 * 100
    assert counts[3:].sum() == 0


def test_parsing_score_names_number_of_classes(toy, runner):
    rows = [striped(toy, str(index)) for index in range(20)]
    result = evaluate_parsing(runner, cut_faces(rows, runner, None, task="parsing", tight=True), "toy")
    assert list(result.scores) == ["f1_2", "f1_18", "pixel_accuracy"]
    assert result.scores["f1_2"].value == pytest.approx(result.scores["f1_18"].value)


def test_shifted_label_scores_by_hand(toy, runner):
    (good,) = cut_faces([striped(toy, "a")], runner, None, task="parsing", tight=True)
    shifted = evaluate_parsing(
        runner, cut_faces([striped(toy, "a", label_shift=12)], runner, None, task="parsing", tight=True)
    )
    # Half of the inner square's pixels lie under the shifted label: F1 = 1/2.
    inner = next(cells for cells in shifted.tables[0].rows if cells[0] == "nose")
    assert inner[2] == pytest.approx(50, abs=4)
    assert good.truth["parsing"].shape == (100, 100)


def test_missed_face_is_all_background(toy, runner):
    samples = cut_faces([striped(toy, "a")], runner, toy.Detector(), task="parsing", tight=False)
    result = evaluate_parsing(runner, samples)
    assert result.scores["f1_18"].value == 0
    assert result.scores["pixel_accuracy"].value == pytest.approx(100 * (1 - 0.16))


def test_no_faces_gives_a_sentence(runner):
    for evaluate in (evaluate_landmarks, evaluate_parsing):
        with pytest.raises(DataError, match="There are no faces"):
            evaluate(runner, [])
