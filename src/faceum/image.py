"""An image as path, bytes, PIL image or array in; upright RGB uint8 (H, W, 3) out; and back.

OpenCV decodes; what it leaves open is settled here: the size is checked before decoding, the orientation is
applied for every format alike, alpha is composited, 16 bits become 8, and files that end too early are
refused instead of coming out half gray.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np

from faceum.errors import ImageError
from faceum.files import write_bytes
from faceum.image_header import Header, read_header

MAX_PIXELS = 200_000_000
"""Images that promise more pixels than this are refused before decoding; callers may set another limit."""

Source: TypeAlias = Any
"""str or Path | bytes, bytearray or memoryview | PIL image | numpy uint8 (h, w[, 1 | 3 | 4])."""

_WRITE_OPTIONS: dict[str, list[int]] = {
    ".png": [],
    ".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, 95],
    ".webp": [cv2.IMWRITE_WEBP_QUALITY, 95],
    ".bmp": [],
    ".tif": [],
    ".tiff": [],
}


def read_image(source: Source, *, bgr: bool = False, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Read one image as contiguous RGB uint8 (H, W, 3), turned upright; the array is the caller's own.

    source: path of a JPEG, PNG, WebP, BMP or TIFF file (its content decides, not its name; of an animation
        or of several pages the first is read), the bytes of such a file, a PIL image, or a numpy uint8
        array: gray (h, w) or (h, w, 1), RGB (h, w, 3), RGB with alpha (h, w, 4). An array is upright as it
        is; all others are turned by their EXIF orientation.
    bgr: arrays hold blue first, as OpenCV's do; other sources know their own order.
    max_pixels: images of more pixels are refused; files and PIL images before they are decoded.

    Transparent parts show white, as a browser's page does. 16-bit images are scaled to 8. Colour profiles
    are not applied, a gray PNG's single transparent level is ignored, and animated WebP needs OpenCV 5.

    Raises ImageError, one sentence with the image's name, for whatever cannot be read.
    """
    name = _spoken_name(source)
    try:
        if isinstance(source, np.ndarray):
            return _from_array(source, bgr=bgr, max_pixels=max_pixels)
        if isinstance(source, (bytes, bytearray, memoryview)):
            return _from_bytes(bytes(source), max_pixels=max_pixels)
        if isinstance(source, (str, os.PathLike)):
            return _from_bytes(_file_bytes(Path(source), max_pixels=max_pixels), max_pixels=max_pixels)
        if _is_pil(source):
            return _from_pil(source, max_pixels=max_pixels)
    except ImageError as error:
        raise ImageError(f"{name} {error}.") from error.__cause__
    raise ImageError(
        f"{name} is no image: a path, the bytes of a file, a PIL image or a numpy array is wanted."
    )


def source_name(source: Source) -> str | None:
    """The path of an image where it has one (paths, PIL images opened from a file), else None."""
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(os.fspath(source))
    if _is_pil(source) and getattr(source, "filename", None):
        return os.fsdecode(source.filename)
    return None


def write_image(path: str | os.PathLike[str], rgb: np.ndarray) -> None:
    """Write RGB uint8 (H, W, 3) in the format of the path's extension, whole or not at all.

    Folders on the way are made. Raises ImageError for an unknown extension, another kind of array, and a
    path that cannot be written.
    """
    path = Path(path)
    options = _WRITE_OPTIONS.get(path.suffix.lower())
    if options is None:
        raise ImageError(f"{path} cannot be written: its name must end in {', '.join(_WRITE_OPTIONS)}.")
    if not (isinstance(rgb, np.ndarray) and rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3):
        raise ImageError(f"{path} cannot be written: RGB uint8 (height, width, 3) is wanted.")
    try:
        written, encoded = cv2.imencode(path.suffix.lower(), np.ascontiguousarray(rgb[..., ::-1]), options)
    except cv2.error:
        written = False
    if not written:
        raise ImageError(
            f"{path} cannot be written: {rgb.shape[1]} x {rgb.shape[0]} does not fit its format."
        )
    try:
        write_bytes(path, encoded.tobytes())
    except OSError as error:
        raise ImageError(f"{path} cannot be written: {error.strerror or error}.") from error


def _spoken_name(source: Source) -> str:
    """How a sentence names this source."""
    name = source_name(source)
    if name is not None:
        return name or "the empty path"
    if isinstance(source, np.ndarray):
        return "the image given as an array"
    if isinstance(source, (bytes, bytearray, memoryview)):
        return "the image given as bytes"
    if _is_pil(source):
        return "the PIL image"
    return f"the {type(source).__name__} given"


def _is_pil(source: Source) -> bool:
    """Whether this looks like a PIL image; Pillow itself is not needed to know."""
    return all(hasattr(source, name) for name in ("mode", "size", "load", "convert", "getexif"))


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            f"is {width} x {height} pixels, more than the limit of {max_pixels}: "
            "shrink it or raise max_pixels"
        )


def _file_bytes(path: Path, *, max_pixels: int) -> bytes:
    """The bytes of a regular file that could be an image within the limit."""
    try:
        if path.is_dir():
            raise ImageError("is a folder: name the images in it")
        if not path.exists():
            raise ImageError("does not exist: check the path")
        if not path.is_file():
            raise ImageError("is not a regular file: an image file is wanted")
        with path.open("rb") as file:
            # Sixteen bits of four channels are 8 bytes a pixel: what is larger is no image we take.
            most = 8 * max_pixels + 2**26
            data = file.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        if isinstance(error, ImageError):
            raise
        reason = error.strerror if isinstance(error, OSError) else None
        raise ImageError(f"cannot be read ({reason or error}): check the path and its rights") from error
    if len(data) > most:
        raise ImageError(f"is larger than any image of {max_pixels} pixels: raise max_pixels if it is one")
    return data


def _from_bytes(data: bytes, *, max_pixels: int) -> np.ndarray:
    """Check the header, decode the pixels as stored, and turn them upright."""
    header = read_header(data)
    _check_size(header.width, header.height, max_pixels)
    if not header.complete:
        raise ImageError(f"is a {header.format} image that ends too early: get a complete copy of it")
    if header.orientation_at is not None:
        data = _without_tiff_orientation(data, header.orientation_at)
    try:
        # As it is: no conversion by OpenCV, whose choices differ from format to format, and no EXIF turn.
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        stored = None
    if stored is None or stored.shape[:2] != (header.height, header.width):
        raise ImageError(
            f"is a damaged or unusual {header.format} image that cannot be decoded: "
            "get another copy or save it anew"
        )
    if stored.ndim == 3 and stored.shape[2] >= 3:
        stored = _red_first(stored)
    return _upright(_to_rgb(stored, premultiplied=_is_premultiplied(header, stored)), header.orientation)


def _red_first(stored: np.ndarray) -> np.ndarray:
    """Blue, green, red and what follows -> red, green, blue and what follows."""
    codes = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
    if stored.shape[2] in codes and stored.dtype in (np.uint8, np.uint16):
        return np.asarray(cv2.cvtColor(stored, codes[stored.shape[2]]))  # numpy takes far longer
    return stored[..., [2, 1, 0, *range(3, stored.shape[2])]]


def _without_tiff_orientation(data: bytes, position: int) -> bytes:
    """The same file with orientation 1: OpenCV turns TIFF (alone) by itself, and not in every version."""
    patched = bytearray(data)
    patched[position : position + 2] = struct.pack("<H" if data[:2] == b"II" else ">H", 1)
    return bytes(patched)


def _is_premultiplied(header: Header, stored: np.ndarray) -> bool:
    """Libtiff multiplies 8-bit colours by their alpha where the file has not; all else comes as stored."""
    return header.format == "TIFF" and (header.associated_alpha or stored.dtype == np.uint8)


def _from_array(array: np.ndarray, *, bgr: bool, max_pixels: int) -> np.ndarray:
    if array.dtype != np.uint8:
        nan = " with NaN" if array.dtype.kind == "f" and bool(np.isnan(array).any()) else ""
        raise ImageError(f"has values of type {array.dtype}{nan}: uint8 in 0..255 is wanted")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or array.size == 0:
        raise ImageError(
            f"has the shape {array.shape}: (height, width), or that with 1, 3 or 4 channels last, is wanted"
        )
    _check_size(array.shape[1], array.shape[0], max_pixels)
    if bgr and array.ndim == 3 and array.shape[2] >= 3:
        array = _red_first(array)
    return np.array(_to_rgb(array, premultiplied=False), order="C")


def _from_pil(image: Any, *, max_pixels: int) -> np.ndarray:
    """Decode a PIL image by its own means, with its EXIF orientation."""
    width, height = image.size
    _check_size(width, height, max_pixels)
    try:
        image.load()  # before the EXIF: Pillow turns TIFF by itself while loading, and then drops the tag
        orientation = image.getexif().get(274, 1)
        if image.mode.startswith("I"):
            stored = _sixteen_bits(np.asarray(image))
        elif image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            straight = image.convert("LA") if image.mode == "La" else image
            stored = np.asarray(straight.convert("RGBA"))
        elif image.mode == "F":
            raise ImageError("holds floating-point values: 8 or 16 bits a channel are wanted")
        else:
            stored = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(f"cannot be decoded by Pillow ({error}): get a complete copy of it") from error
    if stored.size == 0:
        raise ImageError("has no pixels: an image of at least 1 x 1 is wanted")
    return _upright(np.array(_to_rgb(stored, premultiplied=False), order="C"), orientation)


def _sixteen_bits(values: np.ndarray) -> np.ndarray:
    """Pillow's integer images (16-bit gray, in older versions as 32-bit numbers) as uint16."""
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ImageError("holds integers beyond 16 bits: 8 or 16 bits a channel are wanted")
    return values.astype(np.uint16)


def _to_rgb(stored: np.ndarray, *, premultiplied: bool) -> np.ndarray:
    """Gray, RGB or RGB with alpha, uint8 or uint16 -> RGB uint8, composited over white."""
    if stored.dtype == np.uint16:
        stored = ((stored.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if stored.dtype != np.uint8:
        raise ImageError(f"holds {stored.dtype} values: 8 or 16 bits a channel are wanted")
    if stored.ndim == 2:
        stored = stored[..., None]
    if stored.shape[2] == 1:
        return np.repeat(stored, 3, axis=2)
    if stored.shape[2] == 3:
        return stored
    colour, alpha = stored[..., :3].astype(np.uint16), stored[..., 3:].astype(np.uint16)
    if premultiplied:
        return np.minimum(colour + (255 - alpha), 255).astype(np.uint8)
    # At most 255 * 255 + 127, which 16 bits hold.
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _upright(rgb: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation: 2 and 4 are mirrored, 3, 6 and 8 turned, 5 and 7 both; others are upright."""
    if orientation in (5, 6, 7, 8):
        rgb = rgb.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    return np.ascontiguousarray(rgb)
