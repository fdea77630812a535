"""Read MXNet's `train.rec` and `train.idx` (MS1MV3, WebFace) without MXNet: identities.

A record is the magic number, a word, and the bytes, padded to a multiple of four. The upper 3 bits of the
word say whether the record is whole (0), or the first (1), a middle (2) or the last (3) part of a record
that contains the magic number itself; the lower 29 bits are its length. The bytes begin with a header: flag,
label, id, id2. With flag > 0 that many float32 labels follow; the rest is the encoded image.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from faceum.data.sample import Sample
from faceum.datasets.aligned import find_aligned_points5
from faceum.datasets.tables import choose, find, parse_whole_number, require_one_per_name, value_or_problem
from faceum.datasets.text import read_lines
from faceum.errors import DataError, ImageError
from faceum.image.header import read_header

MAGIC = 0xCED7230A
HEADER = struct.Struct("<IfQQ")
WHOLE, FIRST, MIDDLE, LAST = range(4)
GLANCE = 2048
"""Bytes of a record that are read for its labels and the size of its image."""


@dataclass(frozen=True, slots=True)
class Record:
    """The image in a record of a file: path, first byte of the record, and its key."""

    path: Path
    offset: int
    key: int

    def __str__(self) -> str:
        return f"{self.path}, record {self.key}"

    def read(self) -> bytes:
        """Read the image's encoded bytes; raises DataError naming the file if it is gone or broken."""
        try:
            with self.path.open("rb") as file:
                _seek(file, self)
                return unpack(read_record(file, self.path), self)[1]
        except OSError as error:
            raise DataError(f"{self} cannot be read ({error.strerror or error}); restore it.") from error


def read_recordio(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Yield the faces of a training set in insightface's form: root has train.rec and train.idx.

    Its images are aligned crops of 112 x 112, so the five points are the targets of the alignment, and no
    box is known. Record 0 of such a set says how many records are images; those after them are people.
    Images stay in the file: only the first bytes of each record are read here. A broken record is the
    problem of its sample.
    """
    choose(split, {"train": None, "all": None}, "A set of records")
    index = find(root, "the set's index", "train.idx")
    records = find(root, "the set's records", "train.rec")
    offsets = {}
    for where, words in read_lines(index):
        key, offset = require_one_per_name(words, ("the record's key", "its first byte"), where)
        number = parse_whole_number(key, where)
        if number in offsets:
            raise DataError(f"{where} has the key {number} a second time; keys are unique.")
        offsets[number] = parse_whole_number(offset, where)
    source = Path(root).name
    unread: tuple[float, np.ndarray | None] = (math.nan, None)
    with records.open("rb", buffering=0) as file:
        size = file.seek(0, 2)
        for number in _image_keys(file, records, offsets):
            record = Record(records, offsets[number], number)
            (label, points5), problem = value_or_problem(_read_face, file, record, size, default=unread)
            if problem is None and not label.is_integer():
                problem = f"its label is {label}; expected the whole number of a person"
            yield Sample(
                id=f"{source}-{number}",
                source=source,
                image=record,
                points5=points5,
                identity=int(label) if label.is_integer() else str(label),
                problem=problem,
            )


def read_record(file: BinaryIO, path: Path) -> bytes:
    """Return the bytes of the record at the file's position; DataError naming `path` if there is none."""
    parts: list[bytes] = []
    size = os.fstat(file.fileno()).st_size
    while True:
        kind, length = _read_frame(file, path, begun=bool(parts))
        if file.tell() + length > size:
            raise _make_record_error(path, size)
        parts.append(file.read(length))
        file.seek(-length % 4, 1)
        if kind in (WHOLE, LAST):
            return struct.pack("<I", MAGIC).join(parts)


def unpack(record: bytes, name: object = "A record") -> tuple[np.ndarray, bytes]:
    """Return a record's labels (n,) float32 and its image's bytes; raises DataError beginning with `name`."""
    if len(record) < HEADER.size:
        raise DataError(f"{name} is too short for its header: {len(record)} bytes.")
    count, label, _, _ = HEADER.unpack_from(record)
    if count == 0:
        return np.array([label], np.float32), record[HEADER.size :]
    start = HEADER.size + 4 * count
    if len(record) < start:
        raise DataError(f"{name} ends before its {count} labels.")
    return np.frombuffer(record, "<f4", count, HEADER.size), record[start:]


def _read_frame(file: BinaryIO, path: Path, *, begun: bool) -> tuple[int, int]:
    """Return the kind and length of the part at the file's position. begun: it continues a record."""
    head = file.read(8)
    magic, word = struct.unpack("<II", head) if len(head) == 8 else (0, 0)
    kind = word >> 29
    if magic != MAGIC or kind not in ((MIDDLE, LAST) if begun else (WHOLE, FIRST)):
        raise _make_record_error(path, file.tell())
    return kind, word & ((1 << 29) - 1)


def _make_record_error(path: Path, place: int) -> DataError:
    return DataError(f"{path} is broken near byte {place}: there is no whole record.")


def _glance(file: BinaryIO, record: Record, size: int) -> tuple[np.ndarray, bytes]:
    """Return the record's labels and the first bytes of its image. size: of the whole file, in bytes."""
    _seek(file, record)
    kind, length = _read_frame(file, record.path, begun=False)
    if file.tell() + length > size:
        raise _make_record_error(record.path, size)
    start = file.read(min(length, GLANCE))
    if length > GLANCE and HEADER.size + 4 * HEADER.unpack_from(start)[0] < GLANCE:
        return unpack(start, record)
    if kind == WHOLE and length <= GLANCE:
        return unpack(start, record)
    _seek(file, record)
    return unpack(read_record(file, record.path), record)


def _read_face(file: BinaryIO, record: Record, size: int) -> tuple[float, np.ndarray | None]:
    """Return the record's label and the five points of its image."""
    labels, start = _glance(file, record, size)
    return float(labels[0]), _points5(start, record)


def _seek(file: BinaryIO, record: Record) -> None:
    size = os.fstat(file.fileno()).st_size
    if not 0 <= record.offset < size:
        raise DataError(f"{record} should begin at byte {record.offset} of a file of {size} bytes.")
    file.seek(record.offset)


def _points5(start: bytes, record: Record) -> np.ndarray | None:
    """Return the five points by an image's first bytes, or by all bytes if its size comes later."""
    try:
        read_header(start)
    except ImageError:
        start = record.read()
    return find_aligned_points5(start)


def _image_keys(file: BinaryIO, path: Path, offsets: dict[int, int]) -> list[int]:
    """Return the keys of images, in order; all of them if record 0 is an image itself."""
    if 0 not in offsets:
        return sorted(offsets)
    first = Record(path, offsets[0], 0)
    _seek(file, first)
    labels, image = unpack(read_record(file, path), first)
    if image:
        return sorted(offsets)
    if not float(labels[0]).is_integer():
        raise DataError(f"{first} should say how many records are images; it says {labels[0]}.")
    return [key for key in sorted(offsets) if 1 <= key < int(labels[0])]
