"""Damaged files of data sets: every mutant is read, or ends with one of the package's errors."""

from __future__ import annotations

import pickle
import resource
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from faceum.data.check import check_packed
from faceum.data.columns import COLUMNS
from faceum.data.parquet import read_packed, read_pairs
from faceum.data.sample import Sample, keep_valid
from faceum.data.synthetic import draw_face
from faceum.datasets.insightface_bin import read_bin
from faceum.datasets.recordio import HEADER, MAGIC
from faceum.datasets.registry import read_dataset
from faceum.errors import DataError

PNG = cv2.imencode(".png", np.zeros((12, 12, 3), np.uint8))[1].tobytes()
GRAY = cv2.imencode(".png", np.zeros((12, 12), np.uint8))[1].tobytes()
CELLS = [None, "", "x", b"", b"\xff\xfe", 0, -1, 2**62, 0.5, float("nan"), float("inf"), True]
CELLS += [[], [None], [1.0], ["x"], [float("nan")] * 4, [2**62] * 136, [[1.0, 2.0]], {"a": 1}]


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip, overwrite, cut, double or drop some bytes."""
    mutant = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        place, length = int(rng.integers(len(mutant) + 1)), int(rng.integers(1, 9))
        kind = rng.integers(5)
        if kind == 0 and place < len(mutant):
            mutant[place] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            mutant[place : place + length] = rng.bytes(length)
        elif kind == 2:
            mutant[place : place + length] = rng.choice([b"\xff", b"\0", b"9"]) * length
        elif kind == 3:
            mutant[place:place] = mutant[place : place + length]
        else:
            del mutant[place : place + (length if rng.random() < 0.9 else len(mutant))]
    return bytes(mutant)


def survive(read: Callable[[], object]) -> bool:
    """Whether a reader accepts its file; anything but a DataError fails the test."""
    try:
        read()
    except DataError as error:
        assert str(error)
        return False
    return True


@cache
def drawn(number: int) -> Sample:
    return draw_face(str(number))


def row(number: int) -> dict[str, object]:
    face = drawn(number)
    return {
        "id": face.id, "source": face.source, "image": face.image, "height": 96, "width": 96,
        "box": face.box.tolist(), "points5": face.points5.ravel().tolist(), "detector_score": 0.9,
        "age": face.age, "age_sigma": 1.0, "gender": 1, "smile": True,
        "attributes": face.attributes.tolist(),
        "expression_votes": face.expression_votes.tolist(), "parsing": GRAY,
        "landmarks68": face.landmarks68.ravel().tolist(), "identity": face.identity, "person": "a",
        "wears_mask": False, "rough_landmarks": True, "embedding": [1.0] * 256,
    }  # fmt: skip


def test_wrong_cells_and_columns_are_problems_that_name_them(tmp_path: Path) -> None:
    path = tmp_path / "made.train.parquet"
    assert set(row(0)) == set(COLUMNS)
    columns_seen = set()
    for column in COLUMNS:
        for cell in CELLS:
            for rows in ([row(0), row(1) | {column: cell}], [row(0) | {column: cell}]):
                try:
                    table = pa.Table.from_pylist(rows)
                except (pa.ArrowInvalid, pa.ArrowTypeError):
                    continue  # no Parquet file can have such a column
                parquet.write_table(table, path)
                survive(lambda: [sample.read() for sample in read_packed(path)])
                survive(lambda: list(keep_valid(read_packed(path), refuse=True, skipped=[])))
                for problem in check_packed([path]):
                    assert path.name in problem.place and problem.sentence
                    columns_seen |= {column} if column in problem.sentence else set()
    assert columns_seen >= set(COLUMNS) - {"height", "width"}


def test_column_of_another_type_is_one_problem(tmp_path: Path) -> None:
    path = tmp_path / "made.train.parquet"
    parquet.write_table(
        pa.Table.from_pylist([row(number) | {"age": str(number)} for number in range(5)]), path
    )
    (problem,) = check_packed([path])
    assert problem.kind == "column" and problem.place == path.name
    assert problem.sentence == "its column age has the type string; expected double"
    with pytest.raises(DataError, match="its column age has the type string; expected double"):
        list(read_packed(path))


def test_damaged_parquet_files(tmp_path: Path) -> None:
    path = tmp_path / "made.train.parquet"
    parquet.write_table(pa.Table.from_pylist([row(number) for number in range(2)]), path)
    whole, rng = path.read_bytes(), np.random.default_rng(1)
    accepted = 0
    for _ in range(150):
        path.write_bytes(mutate(whole, rng))
        survive(lambda: list(check_packed([path])))
        accepted += survive(lambda: list(keep_valid(read_packed(path), refuse=False, skipped=[])))
        survive(lambda: read_pairs(path))
    assert 0 < accepted < 150


def test_damaged_records(tmp_path: Path) -> None:
    data, index = b"", ""
    for key, (label, count) in enumerate(((3.0, 0), (1.0, 0), (2.0, 2))):
        record = (
            HEADER.pack(count, label, 0, 0) + struct.pack(f"<{count}f", *range(count)) + (PNG if key else b"")
        )
        index += f"{key}\t{len(data)}\n"
        data += struct.pack("<II", MAGIC, len(record)) + record + bytes(-len(record) % 4)
    rng, accepted = np.random.default_rng(2), 0
    for number in range(200):
        (tmp_path / "train.rec").write_bytes(mutate(data, rng) if number % 2 else data)
        (tmp_path / "train.idx").write_bytes(index.encode() if number % 2 else mutate(index.encode(), rng))
        accepted += survive(
            lambda: [survive(one.read) for one in read_dataset("recordio", tmp_path, "train")]
        )
    assert 0 < accepted < 200


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_damaged_pickles(tmp_path: Path, protocol: int) -> None:
    whole = pickle.dumps(([PNG] * 4, [True, np.bool_(False)]), protocol)
    path, rng, accepted = tmp_path / "lfw.bin", np.random.default_rng(3), 0
    assert survive(lambda: path.write_bytes(whole) and read_bin(path))
    for _ in range(150):
        path.write_bytes(mutate(whole, rng))
        accepted += survive(lambda: read_bin(path))
    assert 0 < accepted < 150


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02]r\xff\xff\xff\x10.",
        b"\x80\x04\x95\xff\xff\xff\x7f\x00\x00\x00\x00.",
        b"\x80\x04\x8e\xff\xff\xff\x7f\x00\x00\x00\x00.",
        b"B\xff\xff\xff\x7f.",
        b"]p" + b"9" * 5000 + b"\n.",
        b"I" + b"9" * 5000 + b"\n.",
    ],
)
def test_pickle_of_a_few_bytes_takes_no_gigabytes(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "lfw.bin"
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"lfw\.bin is not a \.bin set"):
        read_bin(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes


def test_damaged_lists(tmp_path: Path) -> None:
    image = tmp_path / "Image/original/train_1.jpg"
    image.parent.mkdir(parents=True)
    image.write_bytes(PNG)
    path = tmp_path / "EmoLabel/list_patition_label.txt"
    path.parent.mkdir()
    whole, rng = b"train_1.jpg 4\ntrain_2.jpg 9\n" * 3, np.random.default_rng(4)
    for _ in range(150):
        path.write_bytes(mutate(whole, rng))
        survive(lambda: list(keep_valid(read_dataset("rafdb", tmp_path, "all"), refuse=False, skipped=[])))


def test_column_name_that_is_not_utf8_is_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "made.train.parquet"
    parquet.write_table(pa.Table.from_pylist([row(0)]), path)
    path.write_bytes(path.read_bytes().replace(b"smile", b"smil\xff"))
    with pytest.raises(DataError, match="not a Parquet file"):
        list(read_packed(path))
