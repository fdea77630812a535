"""Convert colours to sRGB by the ICC profile of an image."""

from __future__ import annotations

import functools
import io
import logging
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

LOG = logging.getLogger("faceum")
SRGB_TOLERANCE = 3
"""A profile that moves no colour by more than this many levels is sRGB, whose pixels are not touched."""

Transform: TypeAlias = Callable[[np.ndarray], np.ndarray]


@functools.lru_cache(maxsize=16)
def srgb_transform(icc: bytes | None) -> Transform | None:
    """Return what turns RGB uint8 (h, w, 3) into sRGB, or None if there is nothing to turn.

    icc: an ICC profile. None for sRGB itself, for gray and CMYK profiles, and for what is no profile.
    The conversion is Little CMS's, relative colorimetric.
    """
    if not icc or icc[16:20] != b"RGB ":
        return None
    from PIL import Image, ImageCms

    try:
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(icc)),
            ImageCms.createProfile("sRGB"),
            "RGB",
            "RGB",
            renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        )
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        LOG.debug("a colour profile cannot be used: %s", error)
        return None

    def convert(rgb: np.ndarray) -> np.ndarray:
        return np.asarray(ImageCms.applyTransform(Image.fromarray(np.ascontiguousarray(rgb)), transform))

    levels = np.linspace(0, 255, 18).astype(np.uint8)
    probe = np.stack(np.meshgrid(levels, levels, levels), axis=-1).reshape(18, -1, 3)
    moved = np.abs(convert(probe).astype(int) - probe).max()
    return convert if moved > SRGB_TOLERANCE else None
