from __future__ import annotations

import pickle
import struct

import cv2
import numpy as np
import pytest

from faceum.datasets.recordio import GLANCE, HEADER, MAGIC, Record, read_record, unpack
from faceum.datasets.registry import read_dataset
from faceum.errors import DataError
from faceum.image import read_image


def framed(data):
    """A record as MXNet writes it: split wherever the magic number occurs at a multiple of four."""
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


def record(label, image):
    if isinstance(label, int):
        return HEADER.pack(0, label, 0, 0) + image
    return HEADER.pack(len(label), 0, 0, 0) + np.array(label, "<f4").tobytes() + image


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


def test_training_set_is_read_without_its_lists_of_people(tmp_path):
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


def test_set_without_a_first_record_of_counts_is_all_images(tmp_path):
    root = write_set(tmp_path / "plain", {key: record(key, encoded(8, key)) for key in range(3)})
    assert [sample.identity for sample in read_dataset("recordio", root, "all")] == [0, 1, 2]


def test_record_containing_magic_number(tmp_path):
    magic = struct.pack("<I", MAGIC)
    for data in (magic, b"abcd" + magic + b"xyz", magic + magic + b"12", b"ab" + magic):
        path = tmp_path / "a.rec"
        path.write_bytes(framed(data) + framed(b"next"))
        with path.open("rb") as file:
            assert read_record(file, path) == data
            assert read_record(file, path) == b"next"


def test_labels_are_one_or_many():
    labels, image = unpack(record([3, 4, 5], b"rest"))
    assert labels.tolist() == [3, 4, 5] and image == b"rest"
    with pytest.raises(DataError, match="too short"):
        unpack(b"abc")
    with pytest.raises(DataError, match="ends before its 9 labels"):
        unpack(HEADER.pack(9, 0, 0, 0))


@pytest.mark.parametrize("damage", [lambda data: data[:-20], lambda data: b"x" + data[1:]])
def test_broken_records_are_named(tmp_path, damage):
    root = write_set(tmp_path / "set", {0: record(1, encoded(8, 0))})
    (root / "train.rec").write_bytes(damage((root / "train.rec").read_bytes()))
    with pytest.raises(DataError, match="train.rec is broken"):
        list(read_dataset("recordio", root, "train"))


def photo(side):
    """A JPEG of noise, longer than what is read of a record at the start."""
    noise = np.random.default_rng(side).integers(0, 256, (side, side, 3), np.uint8)
    data = cv2.imencode(".jpg", noise)[1].tobytes()
    assert len(data) > 2 * GLANCE
    return data


def test_images_stay_in_the_file_until_they_are_read(tmp_path):
    split = struct.pack("<I", MAGIC) + bytes(4)
    late = b"\xff\xd8\xff\xfe" + struct.pack(">H", 2 + 4 * GLANCE) + bytes(4 * GLANCE) + photo(112)[2:]
    images = [photo(112), photo(128), late, encoded(112, 9) + split, photo(112) + split]
    root = write_set(tmp_path / "set", {key: record(key, data) for key, data in enumerate(images)})
    samples = list(read_dataset("recordio", root, "train"))
    assert [sample.points5 is not None for sample in samples] == [True, False, True, True, True]
    for key, (sample, data) in enumerate(zip(samples, images, strict=True)):
        assert sample.image == Record(root / "train.rec", sample.image.offset, key)
        assert sample.name == f"{root / 'train.rec'}, record {key}" and sample.identity == key
        assert sample.image.read() == data
        np.testing.assert_array_equal(sample.read(), read_image(data))
        assert len(pickle.dumps(sample)) < 1500, "what worker processes are sent holds no image"
    again = pickle.loads(pickle.dumps(samples[0]))
    np.testing.assert_array_equal(again.read(), samples[0].read())
    assert samples[0].points5 is samples[2].points5, "millions of faces share their points"


def test_many_labels_do_not_hide_the_image(tmp_path):
    root = write_set(tmp_path / "set", {0: record([5] * GLANCE, photo(112))})
    (sample,) = read_dataset("recordio", root, "train")
    assert sample.identity == 5 and sample.points5 is not None and sample.read().shape == (112, 112, 3)


def test_record_that_breaks_after_the_start_is_named(tmp_path):
    root = write_set(tmp_path / "set", {0: record(1, photo(112))})
    (sample,) = read_dataset("recordio", root, "train")
    whole = (root / "train.rec").read_bytes()
    (root / "train.rec").write_bytes(whole[:500])
    with pytest.raises(DataError, match=r"train.rec, record 0: .*train.rec is broken"):
        sample.read()
    (root / "train.rec").unlink()
    with pytest.raises(DataError, match=r"train.rec, record 0 cannot be read .*restore it"):
        sample.read()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("1", "train.idx, line 2 has 1 word; expected 2"),
        ("1\tx", "train.idx, line 2: 'x' should be numbers"),
        ("1\tnan", "train.idx, line 2: 'nan' should be a whole number"),
    ],
)
def test_broken_index_is_named_with_its_line(tmp_path, line, sentence):
    root = write_set(tmp_path / "set", {0: record(1, encoded(8, 0))})
    (root / "train.idx").write_text(f"0\t0\n{line}\n")
    with pytest.raises(DataError, match=sentence):
        list(read_dataset("recordio", root, "train"))
