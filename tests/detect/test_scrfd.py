"""A detector in SCRFD's convention: nine outputs, decoded as worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from faceum.analyzer import FaceAnalyzer
from faceum.detect.base import load_detector
from faceum.detect.scrfd import SCRFD, decode_stride
from faceum.errors import ModelError

onnx = pytest.importorskip("onnx", reason="needs the extra `export`")

SIDE = 64
"""Pixels a side of the test network's input: 64, 16 and 4 cells."""


def write_network(path: Path, faces: list[tuple[int, int, float]], outputs: int = 9) -> Path:
    """A network that always finds the same faces.

    faces: the stride's place among 8, 16, 32, the anchor, and the score. Each box reaches one stride to the
    left and up and two to the right and down; its points lie at 0.1, 0.2 ... 1.0 strides.
    """
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    counts = [2 * (SIDE // stride) ** 2 for stride in (8, 16, 32)]
    arrays = [np.zeros((count, width), np.float32) for width in (1, 4, 10) for count in counts]
    for place, anchor, score in faces:
        arrays[place][anchor] = score
        arrays[place + 3][anchor] = 1, 1, 2, 2
        arrays[place + 6][anchor] = np.arange(1, 11) / 10
    nodes, values = [], []
    for number, array in enumerate(arrays[:outputs]):
        tensor = helper.make_tensor(f"w{number}", kind, array.shape, array.ravel())
        # The zero of the input is added, so that the output depends on it as a real one does.
        nodes.append(helper.make_node("Constant", [], [f"c{number}"], value=tensor))
        nodes.append(helper.make_node("Add", [f"c{number}", "zero"], [f"o{number}"]))
        values.append(helper.make_tensor_value_info(f"o{number}", kind, list(array.shape)))
    nodes.insert(0, helper.make_node("ReduceMax", ["input.1"], ["most"], keepdims=0))
    nodes.insert(1, helper.make_node("Sub", ["most", "most"], ["zero"]))
    graph = helper.make_graph(
        nodes, "faces", [helper.make_tensor_value_info("input.1", kind, [1, 3, SIDE, SIDE])], values
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_face_lies_where_its_anchor_and_distances_say() -> None:
    scores, boxes, points = np.zeros((8, 1)), np.zeros((8, 4)), np.zeros((8, 10))
    scores[7], boxes[7], points[7] = 0.9, (1, 0.5, 2, 1.5), np.arange(10) / 10
    found = decode_stride(scores, boxes, points, 32, (64, 64), 0.5)
    # Anchor 7 is the second one of the fourth cell, (1, 1): its middle is at (32, 32).
    assert found.boxes.tolist() == [[32 - 32, 32 - 16, 32 + 64, 32 + 48]]
    assert found.points[0] == pytest.approx(32 + 32 * np.arange(10).reshape(5, 2) / 10, abs=1e-4)
    assert found.scores == pytest.approx([0.9])


def test_faces_come_back_in_pixels_of_the_image(tmp_path: Path) -> None:
    detector = SCRFD(write_network(tmp_path / "scrfd.onnx", [(0, 2 * (3 * 8 + 5), 0.75)]))
    # The image is twice as large as the input: cell (5, 3) of stride 8 is at (40, 24), here at (80, 48).
    (face,) = detector.detect(np.zeros((100, 128, 3), np.uint8))
    assert face.box == pytest.approx(np.array([80 - 16, 48 - 16, 80 + 32, 48 + 32]) + 0.5)
    assert face.points5[0] == pytest.approx(np.array([80 + 1.6, 48 + 3.2]) + 0.5, abs=1e-4)
    assert face.score == pytest.approx(0.75)
    assert detector.name == "scrfd"


def test_overlapping_and_weak_faces_are_dropped(tmp_path: Path) -> None:
    faces = [(0, 10, 0.6), (0, 11, 0.9), (2, 6, 0.8), (1, 20, 0.3)]
    detector = SCRFD(write_network(tmp_path / "scrfd.onnx", faces))
    image = np.zeros((64, 64, 3), np.uint8)
    assert [round(face.score, 2) for face in detector.detect(image)] == [0.8, 0.9]
    assert len(detector.detect(image, min_score=0.2)) == 3


def test_path_names_such_a_detector(tmp_path: Path, portrait: np.ndarray) -> None:
    path = write_network(tmp_path / "scrfd.onnx", [(1, 2 * (1 * 4 + 1), 0.8)])
    assert isinstance(load_detector(str(path)), SCRFD)
    result = FaceAnalyzer(tasks=["age"], detector=str(path)).analyze(portrait)
    assert len(result.faces) == 1


@pytest.mark.parametrize("name", ["absent.onnx", "broken.onnx", "six.onnx"])
def test_files_of_another_kind_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    write_network(tmp_path / "six.onnx", [], outputs=6)
    with pytest.raises(ModelError, match=name):
        SCRFD(tmp_path / name)
