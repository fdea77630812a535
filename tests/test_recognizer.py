"""A recognition network in insightface's convention answers recognition in place of ours."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from faceum.analyzer import FaceAnalyzer
from faceum.crop import crop_face, crop_matrix
from faceum.errors import ModelError
from faceum.recognizer import SPEC, Recognizer
from faceum.weights.thresholds import thresholds_file

onnx = pytest.importorskip("onnx", reason="needs the extra `export`")

TEMPLATE = [
    (38.2946, 51.6963),
    (73.5318, 51.5014),
    (56.0252, 71.7366),
    (41.5493, 92.3655),
    (70.7299, 92.2041),
]
"""The five points as insightface has them: pixels counted by their middles."""


def write_network(path: Path, batch: int | str = "batch", channels: int = 3, outputs: int = 1) -> Path:
    """A network whose embedding is the mean of each channel."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [helper.make_node("ReduceMean", ["input.1"], ["683"], axes=[2, 3], keepdims=0)]
    nodes += [helper.make_node("Identity", ["683"], [f"more{n}"]) for n in range(outputs - 1)]
    names = ["683", *(f"more{n}" for n in range(outputs - 1))]
    graph = helper.make_graph(
        nodes,
        "means",
        [helper.make_tensor_value_info("input.1", kind, [batch, channels, 112, 112])],
        [helper.make_tensor_value_info(name, kind, [batch, channels]) for name in names],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """A network that takes any number of faces."""
    return write_network(tmp_path / "arcface.onnx")


def test_points_on_the_template_move_nothing() -> None:
    points = np.array(TEMPLATE) + 0.5  # here the middle of the first pixel is (0.5, 0.5)
    matrix = crop_matrix(SPEC, np.array([0, 0, 112, 112]), points, (112, 112))
    assert matrix == pytest.approx(np.array([[1, 0, 0], [0, 1, 0]]), abs=1e-9)


def test_turned_and_shifted_face_is_turned_back() -> None:
    # Twice as large, turned by a quarter, shifted by (300, 100): (x, y) -> (300 - 2 y, 100 + 2 x).
    points = np.array([(300 - 2 * (y + 0.5), 100 + 2 * (x + 0.5)) for x, y in TEMPLATE])
    matrix = crop_matrix(SPEC, np.array([0, 0, 1, 1]), points, (600, 600))
    # Back: x = (Y - 100) / 2, y = (300 - X) / 2.
    assert matrix == pytest.approx(np.array([[0, 0.5, -50], [-0.5, 0, 150]]), abs=1e-9)


def test_crop_is_that_of_opencv_in_its_own_counting() -> None:
    image = np.random.default_rng(0).integers(0, 256, (150, 140, 3), np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 2)
    shift = np.array([13.25, 7.5])
    points = np.array(TEMPLATE) * 1.1 + shift  # as insightface counts
    crop = crop_face(image, SPEC, np.array([0, 0, 140, 150]), points + 0.5).image
    # x' = (x - shift) / 1.1 in insightface's counting.
    by_hand = np.array([[1 / 1.1, 0, -shift[0] / 1.1], [0, 1 / 1.1, -shift[1] / 1.1]])
    expected = cv2.warpAffine(image, by_hand, (112, 112), borderValue=0)
    assert np.abs(crop.astype(int) - expected.astype(int)).max() <= 2


def test_pixels_become_minus_one_to_one_in_red_green_blue(network: Path) -> None:
    crops = np.zeros((2, 112, 112, 3), np.uint8)
    crops[0] = 255, 0, 51
    crops[1] = 0, 255, 204
    # (255 - 127.5) / 127.5 = 1, 0 gives -1, (51 - 127.5) / 127.5 = -0.6, 204 gives 0.6.
    assert Recognizer(network).embed(crops) == pytest.approx(
        np.array([[1, -1, -0.6], [-1, 1, 0.6]]), abs=1e-5
    )


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_file_for_a_fixed_number_of_faces_takes_any(tmp_path: Path, network: Path, batch: int) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (5, 112, 112, 3), np.uint8)
    fixed = Recognizer(write_network(tmp_path / "fixed.onnx", batch)).embed(crops)
    assert fixed == pytest.approx(Recognizer(network).embed(crops), abs=1e-6)


@pytest.mark.parametrize("odd", [{"channels": 1}, {"outputs": 2}])
def test_another_convention_is_refused(tmp_path: Path, odd: dict[str, int]) -> None:
    with pytest.raises(ModelError, match="convention"):
        Recognizer(write_network(tmp_path / "odd.onnx", **odd))


def test_files_that_are_no_network_are_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    for name in ("absent.onnx", "broken.onnx"):
        with pytest.raises(ModelError, match=name):
            Recognizer(tmp_path / name)


def test_analyzer_answers_recognition_with_it(network: Path, portrait: np.ndarray) -> None:
    ours = FaceAnalyzer(tasks=["recognition", "age"]).analyze(portrait)[0]
    theirs = FaceAnalyzer(tasks=["recognition", "age"], recognizer=network).analyze(portrait)[0]
    assert theirs.embedding.shape == (3,)
    crop = crop_face(portrait, SPEC, theirs.box, theirs.points5).image
    mean = ((crop.astype(np.float32) - 127.5) / 127.5).mean(axis=(0, 1))
    assert theirs.embedding == pytest.approx(mean / np.linalg.norm(mean), abs=1e-4)
    assert theirs.age.years == pytest.approx(ours.age.years, abs=1e-3)
    assert theirs.model.startswith("arcface@")
    with pytest.raises(ModelError, match="two models"):
        ours.similarity(theirs)


def test_missing_thresholds_error(network: Path) -> None:
    analyzer = FaceAnalyzer(tasks=["recognition"], recognizer=network)
    with pytest.raises(ModelError, match="faceum calibrate"):
        analyzer.thresholds()
    assert not thresholds_file(network).exists()
