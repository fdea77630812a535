"""Parquet sets are read row by row, and broken ones are reported."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from faceum.data.check import check_packed
from faceum.data.face import LabelledFace, read_face
from faceum.data.parquet import read_landmarks, read_packed, read_pairs, require_packed_file
from faceum.data.sample import Sample
from faceum.errors import DataError


def png(array: np.ndarray) -> bytes:
    return cv2.imencode(".png", array)[1].tobytes()


def read_rows(path: Path) -> list[LabelledFace]:
    return list(map(read_face, read_packed(path)))


def face(name: str, **columns: object) -> dict[str, object]:
    image = np.zeros((40, 30, 3), np.uint8)
    image[..., 0] = 200  # blue for OpenCV
    return {
        "id": name,
        "source": "toy",
        "image": png(image),
        "box": [5.0, 6.0, 25.0, 36.0],
        "points5": [float(number) for number in range(10)],
        "detector_score": 0.9,
        **columns,
    }


def write(folder: Path, *rows: dict[str, object], name: str = "toy.val.parquet") -> Path:
    parquet.write_table(pa.Table.from_pylist(list(rows)), folder / name)
    return folder / name


def test_rows_come_in_order_with_their_labels(tmp_path):
    mask = np.zeros((40, 30), np.uint8)
    mask[10:20] = 18
    path = write(
        tmp_path,
        face(
            "a",
            age=31,
            gender=1,
            identity=7,
            attributes=[True] + [False] * 39,
            expression_votes=[0, 9, 0, 0, 0, 0, 0, 1],
            mask=png(mask),
            landmarks68=[float(number) for number in range(136)],
        ),
        face("b", age=None, gender=None, detector_score=0.0),
    )
    first, second = read_rows(path)
    assert (first.id, second.id) == ("a", "b")
    assert first.image.shape == (40, 30, 3) and first.image[0, 0].tolist() == [0, 0, 200]
    assert first.box.tolist() == [5, 6, 25, 36]
    assert first.points5.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9]]
    assert (first.labels["age"], first.labels["gender"], first.labels["identity"]) == (31, 1, 7)
    assert first.labels["attributes"].sum() == 1
    assert first.labels["expression_votes"].tolist() == [0, 9, 0, 0, 0, 0, 0, 1]
    assert (first.labels["parsing"] == mask).all()
    assert first.labels["landmarks68"][67].tolist() == [134, 135]
    assert second.labels == {}
    assert second.points5 is None  # a box of score 0 is a guess, and so are its points


def test_many_rows_come_in_order_and_once(tmp_path):
    path = write(tmp_path, *(face(str(number)) for number in range(150)))
    assert [row.id for row in read_rows(path)] == [str(number) for number in range(150)]


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"age": 300}, "its age is 300; ages lie between 0 and 130 years"),
        ({"gender": 2}, "its gender is 2"),
        ({"landmarks68": [1.0] * 134}, "it has 67 landmarks; expected 68"),
        ({"box": [1.0, 2.0, 3.0, float("nan")]}, "not four finite numbers"),
        ({"attributes": [True] * 39}, "it has 39 attributes; expected 40"),
        ({"expression_votes": [0] * 8}, "all zero"),
        ({"mask": png(np.full((40, 30), 19, np.uint8))}, "its parsing holds class 19"),
        ({"mask": b"no image"}, "its parsing cannot be decoded"),
        ({"image": b"no image"}, "not an image"),
    ],
)
def test_wrong_label_is_named_with_its_file_and_face(tmp_path, columns, sentence):
    empty = {column: None for column in columns if column not in face("")}
    path = write(tmp_path, face("fine", **empty), face("wrong", **columns))
    with pytest.raises(DataError, match=sentence) as caught:
        list(read_rows(path))
    assert str(caught.value).startswith(f"{path}, row wrong: ")
    assert str(caught.value).count(path.name) == 1


def test_parsing_of_other_size_scales_image_and_points(tmp_path):
    mask = np.zeros((20, 15), np.uint8)
    points = [float(number) for number in range(136)]
    (row,) = read_rows(write(tmp_path, face("a", mask=png(mask), landmarks68=points)))
    assert row.image.shape == (20, 15, 3) and row.labels["parsing"].shape == (20, 15)
    assert row.box.tolist() == [2.5, 3, 12.5, 18]
    assert row.points5[4].tolist() == [4, 4.5]
    assert row.labels["landmarks68"][67].tolist() == [67, 67.5]


def test_parsing_is_not_read_unless_requested():
    def never() -> np.ndarray:
        raise AssertionError("the mask was read")

    sample = Sample(id="a", source="toy", image=png(np.zeros((4, 4, 3), np.uint8)), parsing=never)
    row = read_face(sample, parsing=False)
    assert row.labels == {} and row.box is None and row.points5 is None


def test_pairs_and_landmarks(tmp_path):
    pairs = read_pairs(
        write(
            tmp_path,
            {"fold": 0, "a": "x", "b": "y", "same": True},
            {"fold": 1, "a": "x", "b": "z", "same": False},
        )
    )
    assert len(pairs) == 2
    assert (pairs.fold.tolist(), pairs.b.tolist(), pairs.same.tolist()) == ([0, 1], ["y", "z"], [True, False])
    points = read_landmarks(write(tmp_path, {"id": "x", "landmarks68": [float(n) for n in range(136)]}))
    assert points["x"].shape == (68, 2) and points["x"][1].tolist() == [2, 3]


def test_files_that_are_none_give_sentences(tmp_path):
    with pytest.raises(DataError, match="There is no file"):
        require_packed_file(tmp_path / "missing.parquet")
    (tmp_path / "text.parquet").write_text("no parquet")
    with pytest.raises(DataError, match="not a Parquet file"):
        require_packed_file(tmp_path / "text.parquet")
    with pytest.raises(DataError, match="not a set of faces: expected the columns id, image, source"):
        list(read_rows(write(tmp_path, {"id": "a"})))
    photos = write(tmp_path, {"id": "a", "image": b"", "boxes": [[1.0]]}, name="photos.val.parquet")
    for read in (read_packed, check_packed):
        with pytest.raises(DataError, match=r"^photos\.val\.parquet is not a set of faces: expected the"):
            list(read(photos if read is read_packed else [photos]))
    with pytest.raises(DataError, match="not a list of pairs: it lacks the columns a, b, fold, same"):
        read_pairs(write(tmp_path, {"id": "a"}))
    with pytest.raises(DataError, match="x: got 2 numbers; expected 136"):
        read_landmarks(write(tmp_path, {"id": "x", "landmarks68": [1.0, 2.0]}))
