"""Read the pixels of BMP files whose channels are bit fields, for which decoders know a few layouts only.

Source: Microsoft's BITMAPINFOHEADER and BITMAPV5HEADER (BI_BITFIELDS).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from faceum.errors import ImageError
from faceum.image.header import Header

_MASKS_AT = 54
"""Position of the masks in the file: behind a header of 40 bytes, inside a longer one."""

_USUAL_MASKS = {16: (0x7C00, 0x3E0, 0x1F), 32: (0xFF0000, 0xFF00, 0xFF)}


def read_bit_fields(file: BinaryIO, header: Header) -> Callable[[slice, slice], np.ndarray]:
    """Return a function from rows and columns to those pixels: RGB, or RGB with alpha, uint8 (h, w, 3 | 4).

    Channels of 1 to 32 bits are scaled to 8. Raises ImageError for masks that are no run of bits.
    """
    file.seek(0)
    start = file.read(_MASKS_AT + 16).ljust(_MASKS_AT + 16, b"\0")
    pixels_at, header_length = struct.unpack_from("<II", start, 10)
    height, _, bits = struct.unpack_from("<iHH", start, 22)
    masks = struct.unpack_from("<4I" if header_length >= 56 else "<3I", start, _MASKS_AT)
    masks = masks if masks[-1] or len(masks) == 3 else masks[:3]  # an alpha mask of 0: no alpha
    if not any(masks):
        masks = _USUAL_MASKS[bits]
    for mask in masks:
        run = mask // (mask & -mask) if mask else 0
        if mask >> bits or run & (run + 1):
            raise ImageError(
                f"is a BMP file with the colour mask {mask:#x} for {bits} bits a pixel, which is damaged or "
                "not supported: save it as a PNG"
            )
    stride = -(-header.width * bits // 32) * 4
    body = np.zeros(stride * header.height, np.uint8)
    file.seek(pixels_at)
    file.readinto(body.data)  # type: ignore[attr-defined]
    numbers = body.reshape(header.height, stride)[:, : header.width * bits // 8].view(f"<u{bits // 8}")
    if height > 0:  # the last row comes first
        numbers = numbers[::-1]

    def read_part(rows: slice, columns: slice) -> np.ndarray:
        part = numbers[rows, columns]
        return np.stack([_scale_field(part, mask) for mask in masks], axis=-1)

    return read_part


def _scale_field(numbers: np.ndarray, mask: int) -> np.ndarray:
    """Return the bits of a mask as uint8, scaled from their own range; 0 for an empty mask."""
    if not mask:
        return np.zeros(numbers.shape, np.uint8)
    low = mask & -mask
    values, top = (numbers & mask) // low, mask // low
    return ((values.astype(np.uint64) * 255 + top // 2) // top).astype(np.uint8)
