"""Scales and tiles in which an image of any size is searched.

A network finds faces of certain sizes only, and a large input costs more per pixel than a small one. So an
image is searched at several scales, each in overlapping tiles; every face belongs to the tile whose core
contains its centre.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

FIRST_SIDE = 768
"""Longest side that is searched at full size; a larger image is reduced to it first..."""
MIN_FIRST_SCALE = 0.5
"""...but not by more than this: a face of 24 pixels then still has 12, enough to be a suspect."""
ENLARGED = 256
"""Images whose longer side is shorter are enlarged to it..."""
MAX_ENLARGEMENT = 4.0
"""...but not by more than this."""
NEXT_SCALE = 0.4
"""Ratio of one scale to the previous one."""
LAST_SIDE = 320
"""Longest side at the last scale, so that a face as large as the image is seen whole."""
MIN_SIDE = 16
"""Shortest side at any scale: in a smaller image no face would be large enough."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A part of an image: pixels `left`..`right`, `top`..`bottom`, and the core whose faces belong to it.

    core: x0 y0 x1 y1 in the whole image's pixels; infinite where the tile touches the image's edge, so the
        cores of all tiles together cover the plane once.
    """

    left: int
    top: int
    right: int
    bottom: int
    core: tuple[float, float, float, float]

    def owns(self, points: np.ndarray) -> np.ndarray:
        """Return which of the points (n, 2) lie in the core, bool (n,)."""
        x0, y0, x1, y1 = self.core
        x, y = points[:, 0], points[:, 1]
        return np.asarray((x >= x0) & (x < x1) & (y >= y0) & (y < y1))


def scales_of(height: int, width: int) -> list[float]:
    """Return the scales at which to search an image, finest first, at least one."""
    longest, shortest = max(height, width), min(height, width)
    if longest <= FIRST_SIDE:
        scales = [min(max(1.0, ENLARGED / longest), MAX_ENLARGEMENT)]
    else:
        scales = [max(FIRST_SIDE / longest, MIN_FIRST_SCALE)]
    while scales[-1] * longest > LAST_SIDE and scales[-1] * NEXT_SCALE * shortest >= MIN_SIDE:
        scales.append(scales[-1] * NEXT_SCALE)
    return scales


def tiles_of(height: int, width: int, *, core: int, margin: int) -> Iterator[Tile]:
    """Yield tiles that cover an image: cores of `core` pixels per side, with `margin` pixels around them."""
    for top, y0, y1, bottom in _steps(height, core, margin):
        for left, x0, x1, right in _steps(width, core, margin):
            yield Tile(left=left, top=top, right=right, bottom=bottom, core=(x0, y0, x1, y1))


def _steps(length: int, core: int, margin: int) -> Iterator[tuple[int, float, float, int]]:
    """Yield, along one axis: start of the tile, start and end of its core, end of the tile."""
    count = max(1, -(-length // core))
    for index in range(count):
        start, end = index * core, min((index + 1) * core, length)
        yield (
            max(0, start - margin),
            -np.inf if index == 0 else start,
            np.inf if index == count - 1 else end,
            min(length, end + margin),
        )
