"""The five points of images that are aligned as in insightface's sets."""

from __future__ import annotations

import numpy as np

from faceum.errors import ImageError
from faceum.image.header import read_header

ALIGNED_SIDE = 112
ALIGNED_POINTS5 = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
) + 0.5  # fmt: skip
ALIGNED_POINTS5.setflags(write=False)
"""The targets of the alignment (ArcFace, arXiv 1801.07698) in continuous coordinates; theirs count pixel
centres from zero."""


def find_aligned_points5(image: bytes) -> np.ndarray | None:
    """Return the five points (5, 2) of an image of 112 x 112; None for other sizes or if it is not an image.

    image: its bytes, or enough of the first ones to contain its size. All images share one read-only array,
    since sets have millions of faces.
    """
    try:
        header = read_header(image)
    except ImageError:
        return None  # reading the image will say what is wrong with it
    return ALIGNED_POINTS5 if (header.width, header.height) == (ALIGNED_SIDE, ALIGNED_SIDE) else None
