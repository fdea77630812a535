"""The corpus in memory: a small made-up folder everywhere, the real one where it is at hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from faceum.crop import box_from_points
from faceum.data.face import LabelledFace, read_face, training_labels
from faceum.data.parquet import read_corpus
from faceum.data.sample import Sample
from faceum.errors import DataError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

Row = dict[str, Any]


def encoded(image: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def colour(number: int) -> np.ndarray:
    """A 20 x 30 RGB image of one colour that tells red from blue."""
    return np.full((20, 30, 3), (200, 100, number), np.uint8)


def row(number: int, **labels: Any) -> Row:
    return {
        "id": f"made/{number}",
        "source": "made",
        "image": encoded(colour(number)[..., ::-1]),
        "box": [2.0, 3.0, 22.5, 18.0],
        "points5": [float(n) for n in range(10)],
        "detector_score": 0.9,
        **labels,
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """Write rows as files of a corpus folder: `made.val` to made.val.parquet, and so on."""

    def files(**named: list[Row]) -> Path:
        for name, rows in named.items():
            path = tmp_path / f"{name.replace('__', '-').replace('_', '.')}.parquet"
            columns = sorted({column for row in rows for column in row})
            table = pa.table({column: [row.get(column) for row in rows] for column in columns})
            parquet.write_table(table, path)
        return tmp_path

    return files


def read(folder: Path) -> list[LabelledFace]:
    return list(map(read_face, read_corpus(folder, "made", "val")))


def test_rows_become_faces_with_what_is_known(write: Callable[..., Path]) -> None:
    mask = (np.arange(600) % 19).reshape(20, 30).astype(np.uint8)
    landmarks = np.arange(136.0) / 7
    folder = write(
        made_val=[
            row(1, age=33.0, attributes=[n % 2 == 0 for n in range(40)], identity=12),
            row(2, mask=encoded(mask), landmarks68=landmarks.tolist()),
            row(3, expression_votes=[0, 4, 0, 0, 0, 6, 0, 0]),
        ]
    )
    first, second, third = read(folder)
    assert (first.source, first.image.dtype) == ("made", np.uint8)
    np.testing.assert_array_equal(first.image, colour(1))
    assert first.box.tolist() == [2.0, 3.0, 22.5, 18.0]
    assert first.points5 is not None and first.points5[1].tolist() == [2.0, 3.0]
    assert set(first.labels) == {"age", "attributes", "identity"}
    assert first.labels["age"] == 33 and first.labels["identity"] == 12
    assert first.labels["attributes"].sum() == 20
    assert set(second.labels) == {"parsing", "landmarks68"}
    np.testing.assert_array_equal(second.labels["parsing"], mask)
    np.testing.assert_allclose(second.labels["landmarks68"].ravel(), landmarks, rtol=1e-6)
    assert third.labels["expression_votes"].tolist() == [0, 4, 0, 0, 0, 6, 0, 0]
    assert all(
        isinstance(value, np.ndarray)
        for face in (first, second, third)
        for value in training_labels(face).values()
    )


def test_guessed_places_are_left_out(write: Callable[..., Path]) -> None:
    known, guessed, missing = read(write(made_val=[row(1), row(2, detector_score=0.0), row(3, points5=None)]))
    assert known.labels == {} and known.points5 is not None
    assert guessed.points5 is None and missing.points5 is None


def test_teachers_answer_by_id_where_they_agree(write: Callable[..., Path]) -> None:
    points = (np.arange(136.0) / 9).tolist()
    folder = write(
        made_val=[row(1), row(2), row(3, landmarks68=[1.0] * 136), row(4)],
        teacher__embedding_made_val=[{"id": "made/2", "embedding": bytes([255, *range(255)])}],
        teacher__landmarks_made_val=[
            {"id": "made/1", "landmarks68": points, "disagreement": 0.02},
            {"id": "made/2", "landmarks68": points, "disagreement": 0.3},
            {"id": "made/3", "landmarks68": points, "disagreement": 0.01},
        ],
    )
    agreed, doubted, annotated, alone = read(folder)
    np.testing.assert_allclose(agreed.labels["landmarks68"].ravel(), points, rtol=1e-6)
    assert agreed.rough_landmarks
    assert set(doubted.labels) == {"embedding"} and not doubted.rough_landmarks
    assert doubted.labels["embedding"].dtype == np.int8 and doubted.labels["embedding"][0] == -1
    assert (annotated.labels["landmarks68"] == 1).all() and not annotated.rough_landmarks
    assert alone.labels == {}


def test_missing_source_says_where_it_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"made\.val\.parquet"):
        read(tmp_path)


@pytest.mark.parametrize(
    "broken",
    [
        {"image": b"no image"},
        {"image": b""},
        {"mask": b"no mask"},
        {"mask": encoded(np.full((20, 30), 19, np.uint8))},
        {"mask": encoded(np.zeros((20, 30, 3), np.uint8))},
        {"expression_votes": [0] * 8},
        {"landmarks68": [1.0] * 134},
        {"age": 300.0},
    ],
    ids=["image", "no bytes", "mask", "class 19", "colours", "silent votes", "67 points", "age 300"],
)
def test_broken_row_is_named(write: Callable[..., Path], broken: Row) -> None:
    with pytest.raises(DataError, match="made/2"):
        read(write(made_val=[row(1, mask=encoded(np.zeros((20, 30), np.uint8))), row(2, **broken)]))


def test_finer_mask_decides_the_size(write: Callable[..., Path]) -> None:
    (face,) = read(write(made_val=[row(1, mask=encoded(np.ones((40, 60), np.uint8)))]))
    assert face.image.shape == (40, 60, 3) and face.labels["parsing"].shape == (40, 60)
    assert face.box.tolist() == [4.0, 6.0, 45.0, 36.0]


def test_face_without_box(landmarks68: np.ndarray) -> None:
    image = encoded(np.zeros((200, 200, 3), np.uint8))
    pointed = read_face(Sample(id="1", source="s", image=image, landmarks68=landmarks68))
    bare = read_face(Sample(id="2", source="s", image=image, identity="Ann"))
    np.testing.assert_allclose(pointed.box, box_from_points(landmarks68), rtol=1e-6)
    assert bare.box is None and bare.place.tolist() == [0, 0, 200, 200]
    assert bare.points5 is None and training_labels(bare) == {}


@pytest.mark.skipif("FACEUM_CORPUS" not in os.environ, reason="needs the corpus: set FACEUM_CORPUS")
@pytest.mark.parametrize(
    ("source", "split", "labels"),
    [
        ("celebamask", "val", {"parsing"}),
        ("helen_afw", "val", {"landmarks68"}),
        ("ytf", "val", {"landmarks68", "embedding"}),
        ("masked", "val", set()),
    ],
)
def test_corpus_is_whole(source: str, split: str, labels: set[str]) -> None:
    faces = list(map(read_face, read_corpus(os.environ["FACEUM_CORPUS"], source, split)))
    assert len(faces) > 50
    for face in faces:
        assert labels <= set(face.labels)
        height, width = face.image.shape[:2]
        x0, y0, x1, y1 = face.box
        assert -width < x0 < x1 < 2 * width and -height < y0 < y1 < 2 * height
        if "landmarks68" in face.labels and not face.rough_landmarks:
            middle = face.labels["landmarks68"].mean(0)
            assert x0 < middle[0] < x1 and y0 < middle[1] < y1
