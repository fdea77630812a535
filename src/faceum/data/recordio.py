"""Layer 3. MXNet's `train.rec` and `train.idx` (MS1MV3, WebFace) -> samples with identity, without MXNet.

A record: the magic number, a word whose upper 3 bits say whether the record is whole (0) or the first (1),
a middle (2) or the last (3) part of one that held the magic number itself, and whose lower 29 bits are its
length; then the bytes, filled up to a multiple of four. The bytes begin with a header: flag, label, id, id2;
with flag > 0 that many float32 labels follow; the rest is the encoded picture.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from faceum.data.aligned import aligned_points5
from faceum.data.layout import choose, find, number, read_words
from faceum.data.sample import Sample
from faceum.errors import DataError

MAGIC = 0xCED7230A
HEADER = struct.Struct("<IfQQ")
WHOLE, FIRST, MIDDLE, LAST = range(4)


def read_recordio(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Faces of a training set in the form of insightface: root holds train.rec and train.idx.

    Its pictures are aligned crops of 112 x 112, so the five points are the alignment's targets, and no box
    is known. Record 0 of such a set says how many records are pictures; the ones after are people.
    """
    choose(split, {"train": None, "all": None}, "A set of records")
    index = find(root, "the set's index", "train.idx")
    records = find(root, "the set's records", "train.rec")
    offsets = {int(number(key, index)): int(number(offset, index)) for key, offset in read_words(index)}
    with records.open("rb") as file:
        for key in _picture_keys(file, records, offsets):
            file.seek(offsets[key])
            labels, picture = unpack(read_record(file, records))
            yield Sample(
                id=f"{Path(root).name}-{key}",
                source=Path(root).name,
                picture=picture,
                points5=aligned_points5(picture),
                identity=int(labels[0]),
            )


def read_record(file: BinaryIO, path: Path) -> bytes:
    """The bytes of the record at the file's position; DataError naming `path` where there is none."""
    parts: list[bytes] = []
    while True:
        head = file.read(8)
        magic, word = struct.unpack("<II", head) if len(head) == 8 else (0, 0)
        kind, length = word >> 29, word & ((1 << 29) - 1)
        part = file.read(length)
        expected = (WHOLE, FIRST) if not parts else (MIDDLE, LAST)
        if magic != MAGIC or len(part) < length or kind not in expected:
            raise DataError(f"{path} is broken near byte {file.tell()}: no whole record begins there.")
        file.seek(-length % 4, 1)
        parts.append(part)
        if kind in (WHOLE, LAST):
            return struct.pack("<I", MAGIC).join(parts)


def unpack(record: bytes) -> tuple[np.ndarray, bytes]:
    """A record's labels (n,) float32 and its picture's bytes."""
    if len(record) < HEADER.size:
        raise DataError(f"A record of {len(record)} bytes is too short for its header.")
    count, label, _, _ = HEADER.unpack_from(record)
    if count == 0:
        return np.array([label], np.float32), record[HEADER.size :]
    start = HEADER.size + 4 * count
    if len(record) < start:
        raise DataError(f"A record promises {count} labels and ends before them.")
    return np.frombuffer(record, "<f4", count, HEADER.size), record[start:]


def _picture_keys(file: BinaryIO, path: Path, offsets: dict[int, int]) -> list[int]:
    """The keys of pictures, in order; all of them where record 0 is a picture itself."""
    if 0 not in offsets:
        return sorted(offsets)
    file.seek(offsets[0])
    labels, picture = unpack(read_record(file, path))
    if picture:
        return sorted(offsets)
    return [key for key in sorted(offsets) if 1 <= key < int(labels[0])]
