from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from faceum.data.recordio import HEADER, MAGIC, read_record, unpack
from faceum.data.registry import read_dataset
from faceum.errors import DataError


def framed(data):
    """A record as MXNet writes it: split wherever the magic number stands at a multiple of four."""
    cuts = [at for at in range(0, len(data) - 3, 4) if data[at : at + 4] == struct.pack("<I", MAGIC)]
    parts, start = [], 0
    for cut in [*cuts, len(data)]:
        parts.append(data[start:cut])
        start = cut + 4
    kinds = [0] if len(parts) == 1 else [1, *[2] * (len(parts) - 2), 3]
    return b"".join(
        struct.pack("<II", MAGIC, kind << 29 | len(part)) + part + bytes(-len(part) % 4)
        for kind, part in zip(kinds, parts, strict=True)
    )


def record(label, picture):
    if isinstance(label, int):
        return HEADER.pack(0, label, 0, 0) + picture
    return HEADER.pack(len(label), 0, 0, 0) + np.array(label, "<f4").tobytes() + picture


def encoded(side, value):
    image = np.full((side, side, 3), value, np.uint8)
    return cv2.imencode(".png", image)[1].tobytes()


def write_set(folder, records):
    data, index = b"", []
    for key, content in records.items():
        index.append(f"{key}\t{len(data)}")
        data += framed(content)
    folder.mkdir(exist_ok=True)
    (folder / "train.rec").write_bytes(data)
    (folder / "train.idx").write_text("\n".join(index))
    return folder


def test_a_training_set_is_read_without_its_lists_of_people(tmp_path):
    records = {0: record([4, 6], b"")}
    records |= {key: record(key % 2, encoded(112, 50 * key)) for key in (1, 2)}
    records |= {3: record([7, 0], encoded(100, 150)), 4: record([1, 2], b""), 5: record([2, 4], b"")}
    root = write_set(tmp_path / "ms1mv3", records)
    samples = list(read_dataset("recordio", root, "train"))
    assert [(sample.id, sample.identity) for sample in samples] == [
        ("ms1mv3-1", 1),
        ("ms1mv3-2", 0),
        ("ms1mv3-3", 7),
    ]
    assert [int(sample.read()[0, 0, 0]) for sample in samples] == [50, 100, 150]
    assert samples[0].points5.shape == (5, 2) and samples[2].points5 is None


def test_a_set_without_a_first_record_of_counts_is_all_pictures(tmp_path):
    root = write_set(tmp_path / "plain", {key: record(key, encoded(8, key)) for key in range(3)})
    assert [sample.identity for sample in read_dataset("recordio", root, "all")] == [0, 1, 2]


def test_a_record_that_holds_the_magic_number_comes_back_whole(tmp_path):
    magic = struct.pack("<I", MAGIC)
    for data in (magic, b"abcd" + magic + b"xyz", magic + magic + b"12", b"ab" + magic):
        path = tmp_path / "a.rec"
        path.write_bytes(framed(data) + framed(b"next"))
        with path.open("rb") as file:
            assert read_record(file, path) == data
            assert read_record(file, path) == b"next"


def test_labels_are_one_or_many():
    labels, picture = unpack(record([3, 4, 5], b"rest"))
    assert labels.tolist() == [3, 4, 5] and picture == b"rest"
    with pytest.raises(DataError, match="too short"):
        unpack(b"abc")
    with pytest.raises(DataError, match="promises 9 labels"):
        unpack(HEADER.pack(9, 0, 0, 0))


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"x" + data[1:]])
def test_broken_records_are_named(tmp_path, damage):
    root = write_set(tmp_path / "set", {0: record(1, encoded(8, 0))})
    (root / "train.rec").write_bytes(damage((root / "train.rec").read_bytes()))
    with pytest.raises(DataError, match="train.rec is broken"):
        list(read_dataset("recordio", root, "train"))
