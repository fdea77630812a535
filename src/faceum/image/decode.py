"""Decode image files with OpenCV or with Pillow, whichever reads the variant right."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import struct
import sys
import tempfile
import threading
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import cv2
import numpy as np

from faceum.errors import ImageError
from faceum.extras import install_command
from faceum.image.header import Header

LOG = logging.getLogger("faceum")
BYTES_PER_PIXEL = 12
SPARE_BYTES = 180_000_000
"""Decoding may cost BYTES_PER_PIXEL for each pixel and SPARE_BYTES; what needs more is refused."""

PILLOW_ERRORS = (
    OSError, SyntaxError, ValueError, EOFError, KeyError, TypeError, IndexError, AttributeError,
    ArithmeticError, MemoryError, RuntimeError, Warning, struct.error, zlib.error,
)  # fmt: skip
"""What Pillow's readers raise on damaged files: its own errors and those of Python code that parses them."""

_PILLOW_NAMES = {"BMP": "BMP", "TIFF": "TIFF", "GIF": "GIF", "AVIF": "AVIF", "JPEG 2000": "JPEG2000"}
_NOISE = re.compile(r"TIFF|\.tif: |PIL|warnings\.warn|^\[ ?(WARN|ERROR|INFO)|^(LZW|ZIP|PackBits|Fax|JPEG)")
_OPENCV_LOG = getattr(cv2.utils, "logging", cv2)
"""The module of getLogLevel and setLogLevel: cv2 itself in OpenCV 4.9, cv2.utils.logging in 5.0."""

_LOG_LEVEL_WARNING = 3

_CAPTURE_LOCK = threading.Lock()


def decode_with_opencv(file: BinaryIO, header: Header) -> np.ndarray:
    """Return the pixels as stored: gray (h, w), or blue, green, red and perhaps alpha (h, w, 3 | 4).

    uint8 or uint16, before the orientation is applied. Raises ImageError for a damaged file, and for one
    that needs more memory than its pixels justify.
    """
    size = header.width, header.height
    length = sum(len(part) if isinstance(part, bytes) else part[1] - part[0] for part in header.parts)
    pixels = header.width * header.height
    if length + pixels * header.pixel_bytes + header.strip_bytes > BYTES_PER_PIXEL * pixels + SPARE_BYTES:
        raise ImageError(f"is a {header.format} image that needs too much memory: save it as a JPEG")
    data = _read_parts(file, header, length)
    if header.canvas is not None:
        size = header.canvas[2:]
    noise: list[str] = []
    try:
        # As it is: no conversion by OpenCV, whose choices differ from format to format, and no EXIF turn.
        with capture_stderr(noise) if header.format == "TIFF" else contextlib.nullcontext():
            stored = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        stored = None
    say_noise(noise)
    damage = next((line for line in noise if line.startswith("[ERROR")), None)
    if stored is None or damage or stored.shape[1::-1] != size:
        raise ImageError(
            f"is a damaged or unusual {header.format} image that cannot be decoded: "
            "get another copy, or save it again as PNG or JPEG"
        )
    return stored if header.canvas is None else _on_canvas(stored, header)


def open_with_pillow(file: BinaryIO, format: str) -> Any:
    """Return a PIL image of an open file, not yet decoded; ImageError if it cannot be, or needs an extra."""
    from PIL import Image, features

    if format == "AVIF" and not features.check("avif"):
        raise ImageError("is an AVIF image, which this build of Pillow does not read: update Pillow")
    noise: list[str] = []
    try:
        if format != "HEIC":
            with capture_stderr(noise) if format == "TIFF" else contextlib.nullcontext():
                return Image.open(file, formats=(_PILLOW_NAMES[format],))
        try:
            import pillow_heif
        except ImportError as error:
            raise ImageError(
                f"is a HEIC image, which needs the extra [formats]: {install_command('pillow_heif')}"
            ) from error
        return pillow_heif.open_heif(file, convert_hdr_to_8bit=True).to_pillow()
    except Image.DecompressionBombError as error:
        raise ImageError("has more pixels than Pillow opens: shrink it") from error
    except ImageError:
        raise
    except PILLOW_ERRORS as error:
        raise ImageError(f"is a damaged {format} image that cannot be opened: get another copy") from error
    finally:
        say_noise(noise)


def is_animated(image: Any, format: str) -> bool:
    """Return whether a PIL image has several frames; ImageError if the second one is damaged."""
    try:
        return bool(getattr(image, "is_animated", False))
    except PILLOW_ERRORS as error:
        raise ImageError(f"is a damaged {format} image that cannot be read: get another copy") from error


def check_memory(image: Any, format: str) -> None:
    """Raise ImageError for a JPEG 2000 image that OpenJPEG would need too much memory for.

    It holds 32 bits for each value, and Pillow and the result hold four and three bytes a pixel.
    """
    pixels = image.width * image.height
    if (
        format == "JPEG 2000"
        and (4 * len(image.getbands()) + 8) * pixels > BYTES_PER_PIXEL * pixels + SPARE_BYTES
    ):
        raise ImageError(
            f"is a JPEG 2000 image of {image.width} x {image.height} pixels, which needs too much memory: "
            "save it as a JPEG or PNG"
        )


@contextlib.contextmanager
def capture_stderr(lines: list[str]) -> Iterator[None]:
    """Collect in `lines` what libtiff and OpenCV write to the process's stderr meanwhile.

    One thread at a time. What others wrote to it meanwhile is passed on at the end.
    """
    with _CAPTURE_LOCK, tempfile.TemporaryFile() as sink:
        if sys.stderr is not None:
            sys.stderr.flush()
        level = _OPENCV_LOG.getLogLevel()
        try:
            saved = os.dup(2)
        except OSError:  # there is no stderr, so there is nothing to capture
            yield
            return
        _OPENCV_LOG.setLogLevel(_LOG_LEVEL_WARNING)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            _OPENCV_LOG.setLogLevel(level)
            sink.seek(0)
            for line in sink.read(2**16).splitlines(keepends=True):
                text = line.decode("utf-8", "replace").strip()
                if _NOISE.search(text):
                    lines.append(text)
                elif text:
                    os.write(2, line)


def say_noise(lines: list[str]) -> None:
    """Write what a decoder said to the log, as one debug line."""
    if lines:
        LOG.debug("the decoder says: %s", "; ".join(lines))


def _read_parts(file: BinaryIO, header: Header, length: int) -> np.ndarray:
    """Return the bytes for the decoder, uint8 (length,); ImageError if a PNG's checksum does not hold."""
    data = np.empty(length, np.uint8)
    view, at = memoryview(data.data), 0
    for part in header.parts:
        if isinstance(part, bytes):
            view[at : at + len(part)] = part
            at += len(part)
            continue
        start, end = part
        file.seek(start)
        piece = view[at : at + end - start]
        if file.readinto(piece) != end - start:  # type: ignore[attr-defined]
            raise ImageError("became shorter while it was read: try again")
        if header.format == "PNG" and at and zlib.crc32(piece[4:-4]) != int.from_bytes(piece[-4:], "big"):
            raise ImageError("is a damaged PNG image, whose checksum does not hold: get another copy")
        at += end - start
    return data


def _on_canvas(frame: np.ndarray, header: Header) -> np.ndarray:
    """Return the first frame of an animation at its place on the transparent canvas."""
    x, y, width, height = header.canvas or (0, 0, 0, 0)
    if (width, height) == (header.width, header.height):
        return frame
    if x + width > header.width or y + height > header.height:
        raise ImageError("is a damaged WebP image, whose first frame leaves its canvas: get another copy")
    canvas = np.zeros((header.height, header.width, 4), np.uint8)
    canvas[y : y + height, x : x + width, :3] = frame[..., :3]
    canvas[y : y + height, x : x + width, 3] = frame[..., 3] if frame.shape[2] == 4 else 255
    return canvas
