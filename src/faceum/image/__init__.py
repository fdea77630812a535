"""Read an image from a path, bytes, a PIL image or an array as upright RGB uint8 (H, W, 3), and write it.

The size is checked before decoding, the orientation and the colour profile are applied for every format
alike, alpha is composited over white, 16 bits become 8, and files that end too early are refused.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import cv2
import numpy as np

from faceum.errors import ImageError
from faceum.files import write_bytes
from faceum.image.bmp import read_bit_fields
from faceum.image.colour import Transform, srgb_transform
from faceum.image.decode import (
    PILLOW_ERRORS,
    capture_stderr,
    check_memory,
    decode_with_opencv,
    is_animated,
    open_with_pillow,
    say_noise,
)
from faceum.image.header import SIGNATURE_BYTES, read_header, require_image
from faceum.image.tags import ORIENTATION_TAG, find_orientation, valid_orientation

if TYPE_CHECKING:
    import PIL.Image

LOG = logging.getLogger("faceum")
MAX_PIXELS = 100_000_000
"""Images of more pixels than this are refused before decoding; callers may set another limit."""

_PART_PIXELS = 2**20
_SAID: set[str] = set()

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | np.ndarray | PIL.Image.Image"
"""A path, the bytes of a file, numpy uint8 (h, w[, 1 | 3 | 4]), or a PIL image."""

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

    source: path of a JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF, JPEG 2000 or, with the extra [formats], HEIC
        file (its content decides, not its name; of an animation or of several pages the first is read),
        the bytes of such a file, a PIL image, or a numpy uint8 array: gray (h, w) or (h, w, 1), RGB
        (h, w, 3), RGB with alpha (h, w, 4). An array is upright as it is; all others are turned by the
        orientation in their EXIF block or, without one, in their XMP text.
    bgr: arrays hold blue first, as OpenCV's do; other sources know their own order.
    max_pixels: images of more pixels are refused; files and PIL images before they are decoded.

    Transparent parts show white, as a browser's page does. 16-bit images are scaled to 8. RGB images with a
    colour profile other than sRGB are converted to sRGB; the profiles of gray and CMYK images and PNG's gAMA,
    cHRM and cICP are not applied. Decoding takes at most 12 bytes a pixel and 200 MB.

    Raises ImageError, one sentence with the image's name, if it cannot be read.
    """
    name = _name_source(source)
    try:
        if isinstance(source, np.ndarray):
            return _from_array(source, bgr=bgr, max_pixels=max_pixels)
        if isinstance(source, (bytes, bytearray, memoryview, str, os.PathLike)):
            with _open_source(source) as file:
                return _from_file(file, name, max_pixels=max_pixels)
        if _is_pil(source):
            return _from_pil(source, max_pixels=max_pixels)
    except ImageError as error:
        raise ImageError(f"{name} {error}.") from error.__cause__
    raise ImageError(
        f"{name} is not an image: expected a path, the bytes of a file, a PIL image or a numpy array."
    )


def source_name(source: Source) -> str | None:
    """Return the path of an image if it has one (paths, PIL images opened from a file), else None."""
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(os.fspath(source))
    name = getattr(source, "filename", None) if _is_pil(source) else None
    return os.fsdecode(name) if name else None


def write_image(path: str | os.PathLike[str], rgb: np.ndarray) -> None:
    """Write RGB uint8 (H, W, 3) in the format of the path's suffix, whole or not at all.

    Missing folders are made. Raises ImageError for an unknown suffix or another kind of array, and
    OutputError for a path that cannot be written.
    """
    path = Path(path)
    options = _WRITE_OPTIONS.get(path.suffix.lower())
    if options is None:
        raise ImageError(f"{path} cannot be written: its name must end in {', '.join(_WRITE_OPTIONS)}.")
    if not (isinstance(rgb, np.ndarray) and rgb.dtype == np.uint8 and rgb.ndim == 3 and rgb.shape[2] == 3):
        raise ImageError(f"{path} cannot be written: expected RGB uint8 (height, width, 3).")
    try:
        written, encoded = cv2.imencode(path.suffix.lower(), np.ascontiguousarray(rgb[..., ::-1]), options)
    except cv2.error:
        written = False
    if not written:
        raise ImageError(
            f"{path} cannot be written: {rgb.shape[1]} x {rgb.shape[0]} does not fit its format."
        )
    write_bytes(path, encoded.tobytes())


def _name_source(source: Source) -> str:
    """Return how a sentence names this source."""
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
    """Return whether this looks like a PIL image; Pillow is not imported for that."""
    return all(hasattr(source, name) for name in ("mode", "size", "load", "convert", "getexif"))


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            f"is {width} x {height} pixels, more than the limit of {max_pixels}: "
            "shrink it or raise max_pixels"
        )


@contextlib.contextmanager
def _open_source(source: Any) -> Iterator[BinaryIO]:
    """Open a path or bytes for reading; ImageError for what is no regular file."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        try:
            data = bytes(source)
        except ValueError as error:  # a memoryview that was released
            raise ImageError(f"cannot be read ({error}): give its bytes") from error
        yield io.BytesIO(data)
        return
    path = Path(source)
    try:
        if path.is_dir():
            raise ImageError("is a folder: name the images in it")
        if not path.exists():
            raise ImageError("does not exist: check the path")
        if not path.is_file():
            raise ImageError("is not a regular file: expected an image file")
        with path.open("rb") as file:
            yield file
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        if isinstance(error, ImageError):
            raise
        reason = error.strerror if isinstance(error, OSError) else None
        raise ImageError(f"cannot be read ({reason or error}): check the path and its rights") from error


def _from_file(file: BinaryIO, name: str, *, max_pixels: int) -> np.ndarray:
    """Check the header, decode the pixels as stored, and turn them upright."""
    format = require_image(file.read(SIGNATURE_BYTES))
    if file.seek(0, os.SEEK_END) > 8 * max_pixels + 2**26:  # four channels of 16 bits are 8 bytes a pixel
        raise ImageError(f"is larger than any image of {max_pixels} pixels: raise max_pixels if it is one")
    if format in ("GIF", "AVIF", "HEIC", "JPEG 2000"):
        file.seek(0)
        image = open_with_pillow(file, format)
        check_memory(image, format)
        if is_animated(image, format):
            _say_first(name, format)
        return _from_pil(image, max_pixels=max_pixels)
    header = read_header(file)
    _check_size(header.width, header.height, max_pixels)
    if not header.complete:
        raise ImageError(f"is a {header.format} image that ends too early: get a complete copy of it")
    if header.several:
        _say_first(name, format)
    if header.decoder == "pillow":
        file.seek(0)
        return _from_pil(open_with_pillow(file, format), max_pixels=max_pixels)
    if header.decoder == "bit fields":
        return _convert_in_parts(header.height, header.width, read_bit_fields(file, header))
    stored = decode_with_opencv(file, header)
    transform = srgb_transform(header.icc) if stored.ndim == 3 else None
    if transform is None and stored.dtype == np.uint8 and stored.ndim == 3 and stored.shape[2] == 3:
        return _turn_upright(_put_red_first(stored), header.orientation)

    def read_part(rows: slice, columns: slice) -> np.ndarray:
        part = stored[rows, columns]
        if part.ndim == 3 and part.shape[2] >= 3:
            return _put_red_first(np.ascontiguousarray(part))
        if header.transparent_gray is not None:
            top = np.iinfo(part.dtype).max
            clear = part == header.transparent_gray * top // 65535
            return np.where(clear, part.dtype.type(top), part)
        return part

    rgb = _convert_in_parts(
        header.height,
        header.width,
        read_part,
        premultiplied=not header.straight_alpha,
        transform=transform,
    )
    return _turn_upright(rgb, header.orientation)


def _say_first(name: str, format: str) -> None:
    """Say in the log, once a format, that only the first of several images is read."""
    if format not in _SAID:
        _SAID.add(format)
        LOG.warning("%s holds several images; of such %s files the first is read", name, format)


def _convert_in_parts(
    height: int,
    width: int,
    read_part: Callable[[slice, slice], np.ndarray],
    *,
    premultiplied: bool = False,
    transform: Transform | None = None,
) -> np.ndarray:
    """Return RGB uint8 (height, width, 3), made in parts, so that none of its steps holds all of the image.

    read_part: rows and columns -> those pixels, see _to_rgb.
    """
    rgb = np.empty((height, width, 3), np.uint8)
    across = min(width, _PART_PIXELS)
    down = max(1, _PART_PIXELS // across)
    for top in range(0, height, down):
        for left in range(0, width, across):
            rows, columns = slice(top, min(top + down, height)), slice(left, min(left + across, width))
            part = read_part(rows, columns)
            rgb[rows, columns] = _to_rgb(part, premultiplied=premultiplied, transform=transform)
    return rgb


def _put_red_first(stored: np.ndarray) -> np.ndarray:
    """Reorder blue, green, red and what follows to red, green, blue and what follows."""
    codes = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
    if stored.shape[2] in codes and stored.dtype in (np.uint8, np.uint16):
        return np.asarray(cv2.cvtColor(stored, codes[stored.shape[2]]))  # numpy takes far longer
    return stored[..., [2, 1, 0, *range(3, stored.shape[2])]]


def _from_array(array: np.ndarray, *, bgr: bool, max_pixels: int) -> np.ndarray:
    array = np.asarray(array)  # a np.matrix stays two-dimensional whatever is done to it
    if array.dtype != np.uint8:
        nan = " with NaN" if array.dtype.kind == "f" and bool(np.isnan(array).any()) else ""
        raise ImageError(f"has values of type {array.dtype}{nan}: expected uint8 in 0..255")
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or array.size == 0:
        raise ImageError(
            f"has the shape {array.shape}: expected (height, width), or that with 1, 3 or 4 channels last"
        )
    _check_size(array.shape[1], array.shape[0], max_pixels)
    if bgr and array.ndim == 3 and array.shape[2] >= 3:
        array = _put_red_first(array)
    return np.array(_to_rgb(array, premultiplied=False), order="C")


def _from_pil(image: Any, *, max_pixels: int) -> np.ndarray:
    """Decode a PIL image by its own means, with its orientation and colour profile."""
    width, height = image.size
    _check_size(width, height, max_pixels)
    if width < 1 or height < 1:
        raise ImageError("has no pixels: expected at least 1 x 1")
    if image.mode == "F":
        raise ImageError("holds floating-point values: expected 8 or 16 bits a channel")
    noise: list[str] = []
    try:
        with capture_stderr(noise) if image.format == "TIFF" else contextlib.nullcontext():
            image.load()  # before the EXIF: Pillow turns TIFF by itself while loading, and then drops the tag
        width, height = image.size
        orientation = _orientation_of_pil(image)
        sixteen = image.mode.startswith("I")
        mode = "RGB"
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            mode = "RGBA"
        transform = None
        if image.mode in ("RGB", "RGBA", "RGBX", "P", "PA"):
            transform = srgb_transform(image.info.get("icc_profile"))

        def read_part(rows: slice, columns: slice) -> np.ndarray:
            part = image.crop((columns.start, rows.start, columns.stop, rows.stop))
            if sixteen:
                return _convert_to_uint16(np.asarray(part))
            return np.asarray((part.convert("LA") if part.mode == "La" else part).convert(mode))

        rgb = _convert_in_parts(height, width, read_part, transform=transform)
    except ImageError:
        raise
    except PILLOW_ERRORS as error:
        raise ImageError(f"cannot be decoded by Pillow ({error}): get a complete copy of it") from error
    finally:
        say_noise(noise)
    return _turn_upright(rgb, orientation)


def _orientation_of_pil(image: Any) -> int:
    """Return the orientation 1..8 in EXIF, else in XMP; 1 if neither says one, or is broken."""
    try:
        value = image.getexif().get(ORIENTATION_TAG)
    except PILLOW_ERRORS:
        value = None
    if value is not None:
        return valid_orientation(value)
    texts = (image.info.get(key) for key in ("xmp", "XML:com.adobe.xmp"))
    return find_orientation([], [text.encode() if isinstance(text, str) else text for text in texts if text])


def _convert_to_uint16(values: np.ndarray) -> np.ndarray:
    """Return Pillow's integer images (16-bit gray, in older versions as 32-bit numbers) as uint16."""
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ImageError("holds integers beyond 16 bits: expected 8 or 16 bits a channel")
    return values.astype(np.uint16)


def _to_rgb(stored: np.ndarray, *, premultiplied: bool, transform: Transform | None = None) -> np.ndarray:
    """Turn gray, RGB or RGB with alpha, uint8 or uint16, into RGB uint8 over white.

    premultiplied: colours are stored multiplied by their alpha. transform: from the colours' space to sRGB.
    """
    if stored.dtype == np.uint16:
        stored = ((stored.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if stored.dtype != np.uint8:
        raise ImageError(f"holds {stored.dtype} values: expected 8 or 16 bits a channel")
    if stored.ndim == 2:
        stored = stored[..., None]
    if stored.shape[2] == 1:
        return np.repeat(stored, 3, axis=2)
    if transform is not None:
        stored = np.concatenate([transform(stored[..., :3]), stored[..., 3:]], axis=2)
    if stored.shape[2] == 3:
        return stored
    colour, alpha = stored[..., :3].astype(np.uint16), stored[..., 3:].astype(np.uint16)
    if premultiplied:
        return np.minimum(colour + (255 - alpha), 255).astype(np.uint8)
    # At most 255 * 255 + 127, which 16 bits hold.
    return ((colour * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)


def _turn_upright(rgb: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation: 2 and 4 are mirrored, 3, 6 and 8 turned, 5 and 7 both; others are upright."""
    if orientation in (5, 6, 7, 8):
        rgb = rgb.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        rgb = rgb[:, ::-1]
    if orientation in (3, 4, 7, 8):
        rgb = rgb[::-1]
    return np.ascontiguousarray(rgb)
