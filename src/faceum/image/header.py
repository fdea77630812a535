"""Read what an image file says about itself: format, stored size, orientation, completeness, colour profile.

Nothing is decoded here, so a size too large to decode is known before it costs memory. Variants that no
decoder here reads right are refused by name. Sources: ITU-T T.81 (JPEG), the PNG specification (third
edition), Google's WebP container specification, Microsoft's BITMAPINFO, TIFF 6.0.
"""

from __future__ import annotations

import os
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from faceum.errors import ImageError
from faceum.image.tags import (
    ICC_TAG,
    MAX_TEXT,
    ORIENTATION_TAG,
    XMP_TAG,
    ByteSource,
    check_tiff,
    find_orientation,
    orientation_field,
    read_blob,
    read_directory,
    valid_orientation,
)

SIGNATURE_BYTES = 1024
"""The format of a file is known from this many of its first bytes."""

IMAGE_FORMATS = ("JPEG", "PNG", "WebP", "BMP", "TIFF", "GIF", "AVIF", "HEIC", "JPEG 2000")
"""Every format that read_image takes; HEIC needs the extra [formats]."""

IMAGE_SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".tif", ".tiff", ".gif",
    ".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc",
)  # fmt: skip
"""Usual suffixes of image files, lower case; the content decides, see `sniff`."""

MAX_PARTS, MAX_SEGMENTS = 50_000, 5_000
"""Most chunks of a PNG or WebP file and segments of a JPEG file that are looked at; more are refused."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """What an image file says about itself.

    format: "JPEG", "PNG", "WebP", "BMP" or "TIFF".
    width, height: as stored, in pixels, before the orientation is applied.
    orientation: EXIF's 1..8, 1 if nothing valid is said.
    complete: False if the file's own structure says that its end is missing.
    decoder: "opencv" or "pillow", whichever reads this variant right; "bit fields" for such BMP files.
    parts: what the decoder needs, in order: bytes, or (start, end) in the file.
    pixel_bytes: bytes of one decoded pixel, at most. strip_bytes: of one compressed part, TIFF only.
    icc: the embedded colour profile. transparent_gray: the gray level 0..65535 that is transparent, PNG only.
    several: whether the file holds more images than the first.
    canvas: for animated WebP (x, y, width, height of the first frame) in width x height, else None.
    straight_alpha: False if colours are stored multiplied by their alpha.
    """

    format: str
    width: int
    height: int
    orientation: int = 1
    complete: bool = True
    decoder: str = "opencv"
    parts: tuple[bytes | tuple[int, int], ...] = ()
    pixel_bytes: int = 4
    strip_bytes: int = 0
    icc: bytes | None = None
    transparent_gray: int | None = None
    several: bool = False
    canvas: tuple[int, int, int, int] | None = None
    straight_alpha: bool = True


def is_image_name(path: str | os.PathLike[str]) -> bool:
    """Return whether a file name ends like an image's, in small or capital letters; nothing is opened."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def sniff(source: str | os.PathLike[str] | bytes) -> str | None:
    """Return the image format of a file by its first kilobyte, or None if it is not an image.

    source: a path, or the file's bytes (its first kilobyte is enough).
    The formats are those in IMAGE_FORMATS. Raises OSError if a path cannot be opened or read.
    """
    if isinstance(source, bytes):
        start = source[:SIGNATURE_BYTES]
    else:
        with open(source, "rb") as file:
            start = file.read(SIGNATURE_BYTES)
    return next((name for signature, name in _IMAGE_SIGNATURES.items() if signature.match(start)), None)


def require_image(start: bytes) -> str:
    """Return the image format by a file's first bytes.

    Raises ImageError with half a sentence ("is empty: ...") that needs the image's name in front.
    """
    formats = f"expected {', '.join(IMAGE_FORMATS[:-1])} or {IMAGE_FORMATS[-1]}"
    if not start:
        raise ImageError(f"is empty: {formats}")
    name = sniff(start)
    if name is not None:
        return name
    other = next((name for signature, name in _OTHER_SIGNATURES.items() if signature.match(start)), None)
    if other is not None:
        raise ImageError(f"is a {other} file: {formats}")
    raise ImageError(f"is not an image: {formats}, whatever the file's name")


def read_header(source: bytes | BinaryIO) -> Header:
    """Read the header of a JPEG, PNG, WebP, BMP or TIFF file, given as its bytes or as an open file.

    Raises ImageError with half a sentence ("is a lossless JPEG: ...") that needs the image's name in front.
    """
    file = ByteSource(source)
    name = require_image(file.read(0, SIGNATURE_BYTES))
    if name not in _READERS:
        raise ImageError(f"is a {name} image: expected {', '.join(_READERS)}")
    header = _READERS[name](file)
    if header.width < 1 or header.height < 1:
        raise ImageError(
            f"is a {header.format} file that says it is {header.width} x {header.height} pixels: "
            "expected at least 1 x 1"
        )
    return header


_JPEG_PROCESSES = {
    0xC3: "lossless JPEG", 0xC5: "hierarchical JPEG", 0xC6: "hierarchical JPEG", 0xC7: "lossless JPEG",
    0xCB: "lossless JPEG", 0xCD: "hierarchical JPEG", 0xCE: "hierarchical JPEG", 0xCF: "lossless JPEG",
    0xF7: "JPEG-LS",
}  # fmt: skip
_STRUCTURAL = np.ones(256, bool)  # the second byte of a real marker: no stuffed byte, fill or restart
_STRUCTURAL[[0x00, 0xFF, *range(0xD0, 0xD8)]] = False


def _find_marker(source: ByteSource, position: int) -> int | None:
    """Return the position of the next JPEG marker that is not part of a scan, or None."""
    length = 1 << 12
    while len(block := source.read(position, length)) > 1:
        values = np.frombuffer(block, np.uint8)
        hits = (values[:-1] == 0xFF) & _STRUCTURAL[values[1:]]
        first = int(hits.argmax())
        if hits[first]:
            return position + first
        position += len(block) - 1
        length = min(length * 8, 1 << 20)
    return None


def _read_jpeg(source: ByteSource) -> Header:
    """Walk the marker segments up to the end of the image; a scan ends at its next real marker."""
    frame, end, position = None, None, 2
    exif: list[bytes] = []
    xmp: list[bytes] = []
    icc: list[bytes] = []
    for _ in range(MAX_SEGMENTS):
        found = _find_marker(source, position)
        if found is None:
            break
        marker, position = source.read(found + 1, 1)[0], found + 2
        if marker == 0xD9:
            end = position
            break
        if marker in (0x01, 0xD8):  # these have no length
            continue
        if position + 2 > source.size:
            break
        (length,) = source.unpack(">H", position)
        if frame is None and (0xC0 <= marker <= 0xCF or marker == 0xF7) and marker not in (0xC4, 0xC8, 0xCC):
            precision, height, width, components = source.unpack(">BHHB", position + 2)
            frame = width, height
            _check_jpeg(marker, precision, components)
        if marker in (0xE1, 0xE2) and len(icc) < 64:
            block = source.read(position + 2, length - 2)
            if block.startswith(b"Exif\0\0"):
                exif.append(block)
            elif block.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
                xmp.append(block)
            elif block.startswith(b"ICC_PROFILE\0"):
                icc.append(block[12:])  # number, how many, piece
        position += length
    if frame is None:
        raise ImageError("is a JPEG file without a frame header: get a complete copy of the file")
    return Header(
        format="JPEG",
        width=frame[0],
        height=frame[1],
        orientation=find_orientation(exif, xmp),
        complete=end is not None,
        parts=((0, end or source.size),),
        icc=b"".join(piece[2:] for piece in sorted(icc)) or None,
    )


def _check_jpeg(marker: int, precision: int, components: int) -> None:
    """Refuse by name what no decoder here reads."""
    name = _JPEG_PROCESSES.get(marker)
    if name is None and precision != 8:
        name = f"{precision}-bit JPEG"
    if name is None and components not in (1, 3, 4):
        name = f"JPEG with {components} colour channels"
    if name is not None:
        raise ImageError(f"is a {name}, which is not supported: save it as an 8-bit baseline JPEG or PNG")


_DEFLATE_RATIO = 1032  # no deflate stream unpacks to more


def _read_png(source: ByteSource) -> Header:
    """Read IHDR, then walk the chunks; the decoder gets those that make pixels, whose checksums must hold."""
    width, height, bits, colour = source.unpack(">IIBB", 16)
    parts: list[bytes | tuple[int, int]] = [(0, 8)]
    texts: dict[bytes, bytes] = {}
    complete, several, position, packed = False, False, 8, 0
    for _ in range(MAX_PARTS):
        if position + 12 > source.size:
            break
        length, kind = source.unpack(">I4s", position)
        end = position + 12 + length
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            parts.append((position, end))
            packed += length if kind == b"IDAT" else 0
        elif kind == b"acTL":
            several = True
        elif kind in (b"eXIf", b"iCCP", b"tEXt", b"zTXt", b"iTXt") and length <= MAX_TEXT:
            key, value = _png_text(kind, source.read(position + 8, length))
            texts.setdefault(key, value)
        if kind == b"tRNS":
            texts[kind] = source.read(position + 8, 2)
        position = end
        if kind == b"IEND":
            complete = end <= source.size
            break
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}.get(colour, 1)
    if packed * _DEFLATE_RATIO + 1024 < width * height * bits * channels // 8:
        complete = False
    level = None
    if b"tRNS" in texts and colour == 0 and bits in (1, 2, 4, 8, 16):
        level = int.from_bytes(texts[b"tRNS"], "big") % (1 << bits) * 65535 // ((1 << bits) - 1)
    return Header(
        format="PNG",
        width=width,
        height=height,
        orientation=find_orientation(
            [texts.get(b"eXIf", b""), _raw_profile(texts.get(b"Raw profile type exif", b""))],
            [texts.get(b"XML:com.adobe.xmp", b"")],
        ),
        complete=complete,
        parts=tuple(parts),
        # OpenCV holds a decoded PNG twice.
        pixel_bytes=(4 if bits == 16 else 2)
        * (1 if colour == 0 else 3 if colour == 2 and b"tRNS" not in texts else 4),
        icc=texts.get(b"iCCP"),
        transparent_gray=level,
        several=several,
    )


def _png_text(kind: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Return the key and the unpacked text of an eXIf, iCCP, tEXt, zTXt or iTXt chunk."""
    if kind == b"eXIf":
        return kind, data
    key, _, text = data.partition(b"\0")
    packed = kind in (b"iCCP", b"zTXt")
    if kind == b"iTXt":
        packed = text[:1] == b"\1"
        text = text[2:].partition(b"\0")[2].partition(b"\0")[2]
    elif packed:
        text = text[1:]
    if packed:
        try:
            text = zlib.decompressobj().decompress(text, MAX_TEXT)
        except zlib.error:
            text = b""
    return kind if kind == b"iCCP" else key, text


def _raw_profile(text: bytes) -> bytes:
    """Return the bytes of ImageMagick's "Raw profile": name, length, and hexadecimal numbers, in lines."""
    try:
        return bytes.fromhex(b"".join(text.split()[2:]).decode("ascii"))
    except ValueError:
        return b""


def _read_webp(source: ByteSource) -> Header:
    """Read the first chunk's size (lossy, lossless or extended), then walk the chunks."""
    (riff_length,) = source.unpack("<I", 4)
    kind = source.read(12, 4)
    if kind == b"VP8 ":
        width, height = (side & 0x3FFF for side in source.unpack("<HH", 26))
    elif kind == b"VP8L":
        (bits,) = source.unpack("<I", 21)
        width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8X":
        low_w, high_w, low_h, high_h = source.unpack("<HBHB", 24)
        width, height = (high_w << 16 | low_w) + 1, (high_h << 16 | low_h) + 1
    else:
        raise ImageError("is a WebP file that does not start with an image: get another copy")
    blocks: dict[bytes, bytes] = {}
    parts: tuple[bytes | tuple[int, int], ...] = ((0, min(source.size, riff_length + 8)),)
    canvas, position = None, 12
    for _ in range(MAX_PARTS):
        if position + 8 > source.size:
            break
        kind, length = source.unpack("<4sI", position)
        if kind in (b"EXIF", b"XMP ", b"ICCP") and length <= MAX_TEXT:
            blocks.setdefault(kind, source.read(position + 8, length))
        if kind == b"ANMF" and canvas is None and length > 16:
            if position + 8 + length > source.size:
                raise ImageError("is a WebP image that ends too early: get a complete copy of it")
            canvas, parts = _first_frame(source, position + 8, length)
        position += 8 + length + length % 2
    return Header(
        format="WebP",
        width=width,
        height=height,
        orientation=find_orientation([blocks.get(b"EXIF", b"")], [blocks.get(b"XMP ", b"")]),
        complete=riff_length + 8 <= source.size,
        parts=parts,
        icc=blocks.get(b"ICCP"),
        several=canvas is not None,
        canvas=canvas,
    )


def _first_frame(
    source: ByteSource, position: int, length: int
) -> tuple[tuple[int, int, int, int], tuple[bytes | tuple[int, int], ...]]:
    """Return place and size of an animation's frame, and the parts of a still WebP file of it."""
    numbers = source.read(position, 12)
    x, y, width, height = (int.from_bytes(numbers[at : at + 3], "little") for at in (0, 3, 6, 9))
    alpha = 0x10 if source.read(position + 16, 4) in (b"ALPH", b"VP8L") else 0
    extended = struct.pack("<4sIB3x", b"VP8X", 10, alpha) + numbers[6:12]
    start = struct.pack("<4sI4s", b"RIFF", 4 + len(extended) + length - 16, b"WEBP") + extended
    return (2 * x, 2 * y, width + 1, height + 1), (start, (position + 16, position + length))


def _read_bmp(source: ByteSource) -> Header:
    """Read the size from the old (12 bytes) or the newer header; a negative height means top-down."""
    pixels_at, header_length = source.unpack("<II", 10)
    if header_length == 12:
        width, height, _, bits = source.unpack("<HHHH", 18)
        compression = 0
    else:
        width, height, _, bits, compression = source.unpack("<iiHHI", 18)
    _check_bmp(header_length, bits, compression)
    complete = True
    if compression in (0, 3):  # plain rows, whose length is known; each is filled up to four bytes
        last_row = -(-width * bits // 8)
        complete = source.size >= pixels_at + (abs(height) - 1) * (-(-last_row // 4) * 4) + last_row
    return Header(
        format="BMP",
        width=width,
        height=abs(height),
        complete=complete,
        decoder={0: "pillow", 3: "bit fields" if bits in (16, 32) else "pillow"}.get(compression, "opencv"),
        parts=((0, source.size),),
    )


_BMP_PACKED = {4: "JPEG inside", 5: "PNG inside", 6: "alpha masks"}
_OS2_PACKED = {3: "Huffman codes", 4: "run lengths of 24 bits"}
_OS2_HEADER = 64


def _check_bmp(header_length: int, bits: int, compression: int) -> None:
    """Refuse by name what no decoder here reads."""
    name = None
    if header_length not in (12, 40, 52, 56, _OS2_HEADER, 108, 124):
        name = f"a header of {header_length} bytes"
    elif compression > (2 if header_length == _OS2_HEADER else 3):
        packed = _OS2_PACKED if header_length == _OS2_HEADER else _BMP_PACKED
        name = packed.get(compression, f"compression {compression}")
    elif bits not in (1, 4, 8, 16, 24, 32):
        name = f"{bits} bits a pixel"
    if name is not None:
        raise ImageError(f"is a BMP file with {name}, which is not supported: save it as a PNG")


def _read_tiff(source: ByteSource) -> Header:
    """Read the first page's directory; 16 bits a channel are OpenCV's, the rest is Pillow's."""
    fields = read_directory(source)
    if 256 not in fields or 257 not in fields:
        raise ImageError("is a TIFF file that does not say its size: get another copy of the file")
    check_tiff(fields)
    one = {tag: values[0] for tag, values in fields.items()}
    width, height, samples, deep = one[256], one[257], one.get(277, 1), one.get(258, 1) == 16
    columns, rows = one.get(322, width), one.get(323, min(one.get(278, height), height))
    if columns * rows > 4 * width * height + 2**22:
        raise ImageError(f"is a TIFF file with tiles of {columns} x {rows} pixels: get another copy")
    orientation = one.get(ORIENTATION_TAG)
    parts: tuple[bytes | tuple[int, int], ...] = ((0, source.size),)
    if orientation is None:
        orientation = find_orientation([], [read_blob(source, XMP_TAG) or b""])
    elif deep:
        parts = _replace_orientation(source)
    return Header(
        format="TIFF",
        width=width,
        height=height,
        orientation=valid_orientation(orientation),
        decoder="opencv" if deep else "pillow",
        parts=parts,
        pixel_bytes=2 * samples if deep else 4,
        strip_bytes=columns * rows * samples * (2 if deep else 1),
        icc=read_blob(source, ICC_TAG),
        straight_alpha=one.get(338) != 1,
    )


def _replace_orientation(source: ByteSource) -> tuple[bytes | tuple[int, int], ...]:
    """Return the parts of a TIFF file with orientation 1: OpenCV turns TIFF alone by itself."""
    position, value = orientation_field(source, 1)
    return (0, position), value, (position + len(value), source.size)


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

_OTHER_SIGNATURES: dict[re.Pattern[bytes], str] = {
    re.compile(rb".{4}ftypcrx ", re.DOTALL): "Canon raw",
    re.compile(rb".{4}ftyp|\x1aE\xdf\xa3|RIFF.{4}AVI ", re.DOTALL): "video",
    re.compile(rb"\xff\x0a|\0\0\0\x0cJXL "): "JPEG XL",
    re.compile(rb"%PDF-"): "PDF",
    re.compile(rb"8BPS"): "Photoshop",
    re.compile(rb"II\xbc[\0\1]"): "JPEG XR",
    re.compile(rb"v/1\x01"): "OpenEXR",
    re.compile(rb"#\?(RADIANCE|RGBE)"): "Radiance HDR",
    re.compile(rb"P[1-7]\s+(#|\d|WIDTH)"): "PNM",
    re.compile(rb"qoif"): "QOI",
    re.compile(rb"DDS "): "DirectDraw surface",
    re.compile(rb"\0\0[\1\2]\0.{5}\0", re.DOTALL): "Windows icon or cursor",
    re.compile(rb".{128}DICM", re.DOTALL): "DICOM",
    re.compile(rb"gimp xcf"): "GIMP",
    re.compile(rb"(\xef\xbb\xbf)?\s*<(\?xml[^>]*>.*?<)?svg[\s>]", re.DOTALL): "SVG",
}

_READERS: dict[str, Callable[[ByteSource], Header]] = {
    "JPEG": _read_jpeg,
    "PNG": _read_png,
    "WebP": _read_webp,
    "BMP": _read_bmp,
    "TIFF": _read_tiff,
}
