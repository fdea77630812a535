"""How an image of any size is looked at: its height and width in, scales and tiles out.

A network finds faces of certain sizes only, and a large input costs more a pixel than a small one. So
an image is looked at in several scales, each in tiles that overlap; every face belongs to the tile in whose
core its middle lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

FIRST_LOOK = 768
"""An image up to this long is first looked at as it is, a larger one at no more than this..."""
LEAST_FIRST_SCALE = 0.5
"""...but never smaller than this: a face of 24 pixels then still is 12, enough to be suspected."""
ENLARGED = 256
"""Images shorter than this are enlarged to it..."""
MOST_ENLARGED = 4.0
"""...but by no more than this."""
NEXT_SCALE = 0.4
"""From one scale to the next."""
LAST_LOOK = 320
"""The last scale's longer side has at most this many pixels, so that a face as large as it is seen whole."""
LEAST_SIDE = 16
"""Where the shorter side would be less than this, there is no further look: no face would be large enough."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A part of an image: pixels `left`..`right`, `top`..`bottom`, and the core whose faces are its own.

    core: x0 y0 x1 y1 in the whole image's pixels; endless where the tile touches the image's edge, so the
        cores of all tiles together cover the plane once.
    """

    left: int
    top: int
    right: int
    bottom: int
    core: tuple[float, float, float, float]

    def owns(self, points: np.ndarray) -> np.ndarray:
        """Which of the points (n, 2) lie in the core: bool (n,)."""
        x0, y0, x1, y1 = self.core
        x, y = points[:, 0], points[:, 1]
        return np.asarray((x >= x0) & (x < x1) & (y >= y0) & (y < y1))


def scales_of(height: int, width: int) -> list[float]:
    """The scales at which to look at an image, finest first, at least one."""
    longest, shortest = max(height, width), min(height, width)
    if longest <= FIRST_LOOK:
        scales = [min(max(1.0, ENLARGED / longest), MOST_ENLARGED)]
    else:
        scales = [max(FIRST_LOOK / longest, LEAST_FIRST_SCALE)]
    while scales[-1] * longest > LAST_LOOK and scales[-1] * NEXT_SCALE * shortest >= LEAST_SIDE:
        scales.append(scales[-1] * NEXT_SCALE)
    return scales


def tiles_of(height: int, width: int, *, core: int, margin: int) -> Iterator[Tile]:
    """Tiles that cover an image: cores of `core` pixels a side, seen with `margin` pixels around them."""
    for top, y0, y1, bottom in _steps(height, core, margin):
        for left, x0, x1, right in _steps(width, core, margin):
            yield Tile(left=left, top=top, right=right, bottom=bottom, core=(x0, y0, x1, y1))


def _steps(length: int, core: int, margin: int) -> Iterator[tuple[int, float, float, int]]:
    """Along one axis: start of the tile, start and end of its core, end of the tile."""
    count = max(1, -(-length // core))
    for index in range(count):
        start, end = index * core, min((index + 1) * core, length)
        yield (
            max(0, start - margin),
            -np.inf if index == 0 else start,
            np.inf if index == count - 1 else end,
            min(length, end + margin),
        )
