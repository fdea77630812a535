"""Read TIFF directories, those of TIFF files and of EXIF blocks, and the orientation in EXIF or XMP.

Sources: TIFF 6.0 and the BigTIFF design, CIPA DC-008 (an EXIF block is itself a small TIFF file), Adobe's XMP
specification.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Sequence
from typing import Any, BinaryIO

from faceum.errors import ImageError, count_noun

ORIENTATION_TAG, XMP_TAG, ICC_TAG = 274, 700, 34675
MAX_TEXT = 2**22
"""Longest EXIF, XMP or ICC block that is read, in bytes; real ones are far shorter."""

_NUMBER_FORMATS = {
    1: "B",
    3: "H",
    4: "I",
    6: "b",
    8: "h",
    9: "i",
    16: "Q",
}  # TIFF field type -> struct letter
_MAX_FIELDS = 4096
_MAX_VALUES = 16
_XMP_ORIENTATION = re.compile(rb'tiff:Orientation(?:="|>)([0-9])')


class ByteSource:
    """Random access to the bytes of an open file, or to bytes in memory, without reading all of them."""

    def __init__(self, source: bytes | BinaryIO) -> None:
        self.file: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else source
        self.size = self.file.seek(0, io.SEEK_END)

    def read(self, position: int, length: int) -> bytes:
        """Return up to `length` bytes from `position` on, fewer at the end of the file."""
        if not 0 <= position < self.size:
            return b""
        self.file.seek(position)
        return self.file.read(length)

    def unpack(self, layout: str, position: int) -> tuple[Any, ...]:
        """Return the numbers that `layout` (see struct) names at `position`; ImageError if missing."""
        length = struct.calcsize(layout)
        data = self.read(position, length)
        if len(data) < length:
            raise ImageError("has a header that ends too early: get a complete copy of the file")
        return struct.unpack(layout, data)


def read_directory(source: ByteSource) -> dict[int, tuple[int, ...]]:
    """Return tag -> whole numbers of the first directory of a TIFF file or EXIF block.

    Of a field with more than 16 values the first is returned; bytes that are text come as numbers as well.
    Other kinds of fields are left out. Raises ImageError if the directory is missing.
    """
    fields = {}
    order, entries = _read_entries(source)
    for tag, kind, count, position in entries:
        if kind in _NUMBER_FORMATS and count:
            layout = f"{order}{count if count <= _MAX_VALUES else 1}{_NUMBER_FORMATS[kind]}"
            data = source.read(position, struct.calcsize(layout))
            if len(data) == struct.calcsize(layout):
                fields[tag] = struct.unpack(layout, data)
    return fields


def read_blob(source: ByteSource, tag: int) -> bytes | None:
    """Return the bytes of a field of the first directory (ICC profile, XMP), or None if it is not there."""
    for found, kind, count, position in _read_entries(source)[1]:
        if found == tag and kind in (1, 2, 7) and count <= MAX_TEXT:
            return source.read(position, count)
    return None


def find_orientation(exif: Sequence[bytes], xmp: Sequence[bytes]) -> int:
    """Return the orientation 1..8: that of the first EXIF block which has one, else of XMP, else 1.

    A broken block or a number outside 1..8 leaves the image as stored, since the image is still good.
    """
    for block in exif:
        block = block.removeprefix(b"Exif\0\0")
        if block[:4] in (b"II*\0", b"MM\0*"):
            try:
                values = read_directory(ByteSource(block)).get(ORIENTATION_TAG)
            except ImageError:
                continue
            if values:
                return valid_orientation(values[0])
    for block in xmp:
        if found := _XMP_ORIENTATION.search(block):
            return valid_orientation(int(found[1]))
    return 1


def valid_orientation(value: object) -> int:
    """Return the orientation 1..8 of a whole number or a single byte, else 1."""
    if isinstance(value, bytes) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def orientation_field(source: ByteSource, value: int) -> tuple[int, bytes]:
    """Return the position of the orientation in the file, and the bytes that encode `value`."""
    order, entries = _read_entries(source)
    position, kind = next((at, kind) for tag, kind, _, at in entries if tag == ORIENTATION_TAG)
    return position, struct.pack(order + _NUMBER_FORMATS[kind], value)


_TIFF_PACKED = {
    6: "old JPEG", 9: "JBIG", 10: "JBIG", 34661: "JBIG", 34712: "JPEG 2000", 33003: "JPEG 2000",
    33005: "JPEG 2000", 34887: "LERC", 34892: "lossy DNG", 34933: "PNG", 34934: "JPEG XR", 22610: "JPEG XR",
    50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
_TIFF_READABLE = (1, 2, 3, 4, 5, 7, 8, 32946, 32773, 34925, 50000)
_TIFF_PREDICTED = (5, 8, 32946, 34925, 50000)
_TIFF_KINDS = {2: "signed", 3: "floating-point", 5: "complex", 6: "complex"}
_TIFF_COLOURS = {
    4: "a transparency mask", 8: "CIELab colours", 9: "ICCLab colours", 10: "ITULab colours",
    32803: "a camera's raw mosaic", 32844: "LogL brightness", 32845: "LogLuv colours", 34892: "linear raw",
}  # fmt: skip


def check_tiff(fields: dict[int, tuple[int, ...]]) -> None:
    """Raise ImageError, which names the variant, for a TIFF directory that no decoder here reads right."""
    compression, colour = fields.get(259, (1,))[0], fields.get(262, (1,))[0]
    bits, samples = fields.get(258, (1,)), fields.get(277, (1,))[0]
    kinds = fields.get(339, (1,))
    separate = fields.get(284, (1,))[0] == 2 and samples > 1
    wrong = None
    if compression not in _TIFF_READABLE:
        wrong = f"packed as {_TIFF_PACKED.get(compression, f'compression {compression}')}"
    elif any(kind in _TIFF_KINDS for kind in kinds):
        kind = next(_TIFF_KINDS[kind] for kind in kinds if kind in _TIFF_KINDS)
        wrong = f"of {bits[0]}-bit {kind} values"
    elif colour in _TIFF_COLOURS or colour not in (0, 1, 2, 3, 5, 6):
        wrong = f"with {_TIFF_COLOURS.get(colour, f'colour space {colour}')}"
    elif len(set(bits)) > 1 or bits[0] not in (1, 2, 4, 8, 16):
        wrong = f"of {'+'.join(map(str, bits))} bits a channel"
    elif fields.get(317, (1,))[0] not in ((1, 2) if compression in _TIFF_PREDICTED else (1,)):
        wrong = f"with predictor {fields[317][0]} for compression {compression}"
    elif not 1 <= samples <= 5:
        wrong = f"with {count_noun(samples, 'channel')}"
    elif bits[0] == 16 and (separate or colour not in (1, 2) or samples not in (1, 3, 4)):
        layout = "in separate planes" if separate else f"with {samples} channels of colour space {colour}"
        wrong = f"of 16 bits {layout}"
    elif bits[0] == 16 and compression not in (1, 5, 8, 32946, 32773):
        wrong = f"of 16 bits packed as compression {compression}"
    elif separate and samples == 2:
        wrong = "with gray and alpha in separate planes"
    if wrong:
        raise ImageError(f"is a TIFF file {wrong}, which is not supported: save it as an 8-bit TIFF or PNG")


def _read_entries(source: ByteSource) -> tuple[str, list[tuple[int, int, int, int]]]:
    """Return the byte order for struct, and tag, type, count and value position of each entry."""
    order = "<" if source.read(0, 2) == b"II" else ">"
    big = source.unpack(order + "H", 2)[0] == 43
    letter, room, length = ("Q", 8, 20) if big else ("I", 4, 12)
    (start,) = source.unpack(order + letter, 8 if big else 4)
    (count,) = source.unpack(order + ("Q" if big else "H"), start)
    first = start + (8 if big else 2)
    block = source.read(first, min(count, _MAX_FIELDS) * length)
    entries = []
    for at in range(0, len(block) - length + 1, length):
        tag, kind, number = struct.unpack_from(f"{order}HH{letter}", block, at)
        size = number * struct.calcsize("=" + _NUMBER_FORMATS.get(kind, "B"))
        position = first + at + length - room
        if size > room:
            (position,) = struct.unpack_from(order + letter, block, at + length - room)
        entries.append((tag, kind, number, position))
    return order, entries
