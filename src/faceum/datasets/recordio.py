"""MXNet's `train.rec` and `train.idx` (MS1MV3, WebFace) -> samples with identity, without MXNet.

A record: the magic number, a word whose upper 3 bits say whether the record is whole (0) or the first (1),
a middle (2) or the last (3) part of one that held the magic number itself, and whose lower 29 bits are its
length; then the bytes, filled up to a multiple of four. The bytes begin with a header: flag, label, id, id2;
with flag > 0 that many float32 labels follow; the rest is the encoded image.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from faceum.data.sample import Sample
from faceum.datasets.aligned import aligned_points5
from faceum.datasets.tables import choose, counted, find, read_lines, whole_number
from faceum.errors import DataError, ImageError
from faceum.image_header import read_header

MAGIC = 0xCED7230A
HEADER = struct.Struct("<IfQQ")
WHOLE, FIRST, MIDDLE, LAST = range(4)
GLANCE = 2048
"""Bytes of a record that are read to know its labels and the size of its image."""


@dataclass(frozen=True, slots=True)
class Record:
    """The image in a record of a file: path, the byte where the record begins, and the record's key."""

    path: Path
    offset: int
    key: int

    def __str__(self) -> str:
        return f"{self.path}, record {self.key}"

    def read(self) -> bytes:
        """The image's encoded bytes; DataError naming the file where it is gone or broken."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                return unpack(read_record(file, self.path), self)[1]
        except OSError as error:
            raise DataError(f"{self} cannot be read ({error.strerror or error}); bring it back.") from error


def read_recordio(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Faces of a training set in the form of insightface: root holds train.rec and train.idx.

    Its images are aligned crops of 112 x 112, so the five points are the alignment's targets, and no box
    is known. Record 0 of such a set says how many records are images; the ones after are people. Images
    stay in the file: of each record only the first bytes are read here.
    """
    choose(split, {"train": None, "all": None}, "A set of records")
    index = find(root, "the set's index", "train.idx")
    records = find(root, "the set's records", "train.rec")
    offsets = {}
    for where, words in read_lines(index):
        key, offset = counted(words, ("the record's key", "its first byte"), where)
        offsets[whole_number(key, where)] = whole_number(offset, where)
    source = Path(root).name
    with records.open("rb", buffering=0) as file:
        size = file.seek(0, 2)
        for number in _image_keys(file, records, offsets):
            record = Record(records, offsets[number], number)
            labels, start = _glance(file, record, size)
            known = float(labels[0]).is_integer()
            yield Sample(
                id=f"{source}-{number}",
                source=source,
                image=record,
                points5=_points5(start, record),
                identity=int(labels[0]) if known else str(labels[0]),
                problem=None if known else f"its label is {labels[0]}; a person's whole number is wanted",
            )


def read_record(file: BinaryIO, path: Path) -> bytes:
    """The bytes of the record at the file's position; DataError naming `path` where there is none."""
    parts: list[bytes] = []
    while True:
        kind, length = _frame(file, path, begun=bool(parts))
        parts.append(file.read(length))
        if len(parts[-1]) < length:
            raise _broken(path, file.tell())
        file.seek(-length % 4, 1)
        if kind in (WHOLE, LAST):
            return struct.pack("<I", MAGIC).join(parts)


def unpack(record: bytes, name: object = "A record") -> tuple[np.ndarray, bytes]:
    """A record's labels (n,) float32 and its image's bytes; DataError beginning with `name`."""
    if len(record) < HEADER.size:
        raise DataError(f"{name} is too short for its header: {len(record)} bytes.")
    count, label, _, _ = HEADER.unpack_from(record)
    if count == 0:
        return np.array([label], np.float32), record[HEADER.size :]
    start = HEADER.size + 4 * count
    if len(record) < start:
        raise DataError(f"{name} promises {count} labels and ends before them.")
    return np.frombuffer(record, "<f4", count, HEADER.size), record[start:]


def _frame(file: BinaryIO, path: Path, *, begun: bool) -> tuple[int, int]:
    """Kind and length of the part at the file's position. begun: it goes on with a record."""
    head = file.read(8)
    magic, word = struct.unpack("<II", head) if len(head) == 8 else (0, 0)
    kind = word >> 29
    if magic != MAGIC or kind not in ((MIDDLE, LAST) if begun else (WHOLE, FIRST)):
        raise _broken(path, file.tell())
    return kind, word & ((1 << 29) - 1)


def _broken(path: Path, place: int) -> DataError:
    return DataError(f"{path} is broken near byte {place}: no whole record begins there.")


def _glance(file: BinaryIO, record: Record, size: int) -> tuple[np.ndarray, bytes]:
    """The record's labels and the first bytes of its image. size: of the whole file, in bytes."""
    file.seek(record.offset)
    kind, length = _frame(file, record.path, begun=False)
    if file.tell() + length > size:
        raise _broken(record.path, size)
    start = file.read(min(length, GLANCE))
    if length > GLANCE and HEADER.size + 4 * HEADER.unpack_from(start)[0] < GLANCE:
        return unpack(start, record)
    if kind == WHOLE and length <= GLANCE:
        return unpack(start, record)
    file.seek(record.offset)
    return unpack(read_record(file, record.path), record)


def _points5(start: bytes, record: Record) -> np.ndarray | None:
    """The five points by the first bytes of an image; by all where its size stands further behind."""
    try:
        read_header(start)
    except ImageError:
        start = record.read()
    return aligned_points5(start)


def _image_keys(file: BinaryIO, path: Path, offsets: dict[int, int]) -> list[int]:
    """The keys of images, in order; all of them where record 0 is an image itself."""
    if 0 not in offsets:
        return sorted(offsets)
    file.seek(offsets[0])
    labels, image = unpack(read_record(file, path), f"{path}, record 0")
    if image:
        return sorted(offsets)
    return [key for key in sorted(offsets) if 1 <= key < int(labels[0])]
