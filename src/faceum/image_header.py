"""The first bytes of an image file in; format, stored size, EXIF orientation and completeness out.

Nothing is decoded here, so a size too large to decode is known before it costs memory. Sources: ITU-T T.81
(JPEG), the PNG specification (third edition), Google's WebP container specification, Microsoft's BITMAPINFO,
TIFF 6.0 and the BigTIFF design, CIPA DC-008 (EXIF, whose block is itself a small TIFF file).
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceum.errors import ImageError

SIGNATURE_BYTES = 1024
"""The format of a file is known from this many of its first bytes."""

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif",
    ".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc",
)  # fmt: skip
"""Usual suffixes of image files, lower case; the content decides, see `sniff`."""

_ORIENTATION_TAG = 274
_EXTRA_SAMPLES_TAG = 338
_NUMBER_FORMATS = {1: "B", 3: "H", 4: "I", 16: "Q"}  # TIFF field type -> struct letter
_STRUCTURE_OF_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")  # in a scan: no stuffed byte, fill or restart


@dataclass(frozen=True, kw_only=True)
class Header:
    """What an image file says about itself.

    format: "JPEG", "PNG", "WebP", "BMP" or "TIFF".
    width, height: as stored, in pixels, before the orientation is applied.
    orientation: EXIF's 1..8, 1 where nothing valid is said.
    complete: False when the file's own structure says that its end is missing.
    orientation_at: for TIFF, where the orientation's lower two bytes lie in the file, else None.
    associated_alpha: for TIFF, whether its colours are stored multiplied by their alpha.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    complete: bool = True
    orientation_at: int | None = None
    associated_alpha: bool = False


def is_image_name(path: str | os.PathLike[str]) -> bool:
    """Return whether a file name ends like an image's, in small or capital letters; nothing is opened."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def sniff(source: str | os.PathLike[str] | bytes) -> str | None:
    """Return the image format of a file by its first kilobyte, or None if it is not an image.

    source: a path, or the file's bytes (its first kilobyte is enough).
    The formats are JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF, HEIC and JPEG 2000. Raises OSError if a path cannot
    be opened or read.
    """
    if isinstance(source, bytes):
        start = source[:SIGNATURE_BYTES]
    else:
        with open(source, "rb") as file:
            start = file.read(SIGNATURE_BYTES)
    return next((name for signature, name in _IMAGE_SIGNATURES.items() if signature.match(start)), None)


def read_header(data: bytes) -> Header:
    """The header of an image file given as its bytes; the content decides, not a name.

    Raises ImageError with half a sentence ("is empty: ...") that wants the image's name in front.
    """
    if not data:
        raise ImageError("is empty: a JPEG, PNG, WebP, BMP or TIFF image is wanted")
    name = sniff(data)
    if name in _READERS:
        header = _READERS[name](data)
        if header.width < 1 or header.height < 1:
            raise ImageError(
                f"is a {header.format} file that says it is {header.width} x {header.height} pixels: "
                "an image of at least 1 x 1 is wanted"
            )
        return header
    other = next((name for signature, name in _OTHER_FORMATS.items() if signature.match(data)), name)
    if other is not None:
        raise ImageError(f"is a {other} file: convert it to JPEG, PNG, WebP, BMP or TIFF")
    raise ImageError("is not an image: JPEG, PNG, WebP, BMP or TIFF is wanted, whatever the file's name")


def _unpack(layout: str, data: bytes, offset: int) -> tuple[Any, ...]:
    try:
        return struct.unpack_from(layout, data, offset)
    except (struct.error, OverflowError) as error:  # OverflowError: an offset beyond 64 bits
        raise ImageError("has a header that ends too early: a complete copy of the file is wanted") from error


def _read_jpeg(data: bytes) -> Header:
    """Walk the marker segments up to the end of the image; a scan ends at its next real marker."""
    size, orientation, complete, position = None, None, False, 2
    while (position := data.find(b"\xff", position)) >= 0 and position + 1 < len(data):
        marker = data[position + 1]
        if marker == 0xFF:  # a fill byte
            position += 1
            continue
        if marker == 0xD9:
            complete = True
            break
        position += 2
        if marker <= 0x01 or 0xD0 <= marker <= 0xD8:  # these stand alone
            continue
        if position + 2 > len(data):
            break
        (length,) = _unpack(">H", data, position)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC) and size is None:
            size = _unpack(">HH", data, position + 3)
        if marker == 0xE1 and orientation is None and data[position + 2 : position + 8] == b"Exif\0\0":
            orientation = _exif_orientation(data[position + 2 : position + length])
        position += length
        if marker == 0xDA:
            found = _STRUCTURE_OF_SCAN.search(data, position)
            position = found.start() if found else len(data)
    if size is None:
        raise ImageError("is a JPEG file without a frame header: a complete copy of the file is wanted")
    height, width = size
    return Header(format="JPEG", width=width, height=height, orientation=orientation or 1, complete=complete)


def _read_png(data: bytes) -> Header:
    """Read IHDR, then walk the chunks for eXIf and IEND."""
    width, height = _unpack(">II", data, 16)
    orientation, complete, position = 1, False, 8
    while position + 12 <= len(data):
        length, kind = _unpack(">I4s", data, position)
        if kind == b"eXIf":
            orientation = _exif_orientation(data[position + 8 : position + 8 + length])
        position += 12 + length
        if kind == b"IEND":
            complete = position <= len(data)
            break
    return Header(format="PNG", width=width, height=height, orientation=orientation, complete=complete)


def _read_webp(data: bytes) -> Header:
    """Read the first chunk's size (lossy, lossless or extended), then walk the chunks for EXIF."""
    (riff_length,) = _unpack("<I", data, 4)
    kind = data[12:16]
    if kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in _unpack("<HH", data, 26))
    elif kind == b"VP8L":
        (bits,) = _unpack("<I", data, 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8X":
        low_w, high_w, low_h, high_h = _unpack("<HBHB", data, 24)
        width, height = (high_w << 16 | low_w) + 1, (high_h << 16 | low_h) + 1
    else:
        raise ImageError("is a WebP file that does not start with an image: another copy is wanted")
    orientation, position = 1, 12
    while position + 8 <= len(data):
        kind, length = _unpack("<4sI", data, position)
        if kind == b"EXIF":
            orientation = _exif_orientation(data[position + 8 : position + 8 + length])
        position += 8 + length + length % 2
    complete = riff_length + 8 <= len(data)
    return Header(format="WebP", width=width, height=height, orientation=orientation, complete=complete)


def _read_bmp(data: bytes) -> Header:
    """Read the size from the old (12 bytes) or the newer header; a negative height means top-down."""
    pixels_at, header_length = _unpack("<II", data, 10)
    if header_length == 12:
        width, height, _, bits = _unpack("<HHHH", data, 18)
        compression = 0
    else:
        width, height, _, bits, compression = _unpack("<iiHHI", data, 18)
    complete = True
    if compression in (0, 3):  # plain rows, whose length is known; each is filled up to four bytes
        last_row = -(-width * bits // 8)
        complete = len(data) >= pixels_at + (abs(height) - 1) * (-(-last_row // 4) * 4) + last_row
    return Header(format="BMP", width=width, height=abs(height), complete=complete)


def _read_tiff(data: bytes) -> Header:
    """Read the first page's directory."""
    fields = _tiff_fields(data)
    if 256 not in fields or 257 not in fields:
        raise ImageError("is a TIFF file that does not say its size: another copy of the file is wanted")
    orientation, orientation_at = fields.get(_ORIENTATION_TAG, (1, None))
    return Header(
        format="TIFF",
        width=fields[256][0],
        height=fields[257][0],
        orientation=orientation if 1 <= orientation <= 8 else 1,
        orientation_at=orientation_at,
        associated_alpha=fields.get(_EXTRA_SAMPLES_TAG, (0, None))[0] == 1,
    )


def _tiff_fields(data: bytes) -> dict[int, tuple[int, int]]:
    """Tag -> (number, where its lower two bytes lie), for whole numbers of the first directory."""
    order = "<" if data[:2] == b"II" else ">"
    big = _unpack(order + "H", data, 2)[0] == 43
    (start,) = _unpack(order + ("Q" if big else "I"), data, 8 if big else 4)
    (count,) = _unpack(order + ("Q" if big else "H"), data, start)
    first, length, value_at = (start + 8, 20, 12) if big else (start + 2, 12, 8)
    fields = {}
    for position in range(first, min(first + count * length, len(data)), length):
        tag, kind = _unpack(order + "HH", data, position)
        if kind in _NUMBER_FORMATS:
            layout = order + _NUMBER_FORMATS[kind]
            low_bytes = max(struct.calcsize(layout) - 2, 0) if order == ">" else 0
            value = _unpack(layout, data, position + value_at)[0]
            fields[tag] = (value, position + value_at + low_bytes)
    return fields


def _exif_orientation(block: bytes) -> int:
    """The orientation 1..8 of an EXIF block; 1 where missing or broken, since the image is still good."""
    block = block.removeprefix(b"Exif\0\0")
    if block[:4] not in (b"II*\0", b"MM\0*"):
        return 1
    try:
        orientation = _tiff_fields(block).get(_ORIENTATION_TAG, (1, 0))[0]
    except ImageError:
        return 1
    return orientation if 1 <= orientation <= 8 else 1


_IMAGE_SIGNATURES: dict[re.Pattern[bytes], str] = {
    re.compile(rb"\xff\xd8\xff"): "JPEG",
    re.compile(rb"\x89PNG\r\n\x1a\n"): "PNG",
    re.compile(rb"RIFF.{4}WEBP", re.DOTALL): "WebP",
    re.compile(rb"BM.{8}.{2}\0\0[\x0c-\x7c]\0\0\0", re.DOTALL): "BMP",
    re.compile(rb"II[*+]\0|MM\0[*+]"): "TIFF",
    re.compile(rb"GIF8[79]a"): "GIF",
    re.compile(rb".{4}ftyp(avif|avis)", re.DOTALL): "AVIF",
    re.compile(rb".{4}ftyp(hei|hev|mif1|msf1)", re.DOTALL): "HEIC",
    re.compile(rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"): "JPEG 2000",
}

_READERS: dict[str, Callable[[bytes], Header]] = {
    "JPEG": _read_jpeg,
    "PNG": _read_png,
    "WebP": _read_webp,
    "BMP": _read_bmp,
    "TIFF": _read_tiff,
}

_OTHER_FORMATS: dict[re.Pattern[bytes], str] = {
    re.compile(rb".{4}ftyp|\x1aE\xdf\xa3|RIFF.{4}AVI ", re.DOTALL): "video",
    re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "): "JPEG XL",
    re.compile(rb"%PDF-"): "PDF",
    re.compile(rb"8BPS"): "Photoshop",
}
