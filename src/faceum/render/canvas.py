"""Draws smooth shapes into an RGB uint8 image, in place.

Shapes are given in continuous pixels and drawn by their distance to every pixel's centre, so edges are soft
at any position and size; `alpha` is the opacity, 0..1.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from faceum.render.lettering import Colour


def fill_box(
    image: np.ndarray, box: Sequence[float], colour: Colour, *, radius: float = 0.0, alpha: float = 1.0
) -> None:
    """Fill the box x0 y0 x1 y1 with round corners."""
    window = _window(image, box, 1.0)
    if window is not None:
        _blend(image, window, np.clip(0.5 - _box_distance(window, box, radius), 0, 1) * alpha, colour)


def outline_box(
    image: np.ndarray,
    box: Sequence[float],
    colour: Colour,
    *,
    width: float = 1.0,
    radius: float = 0.0,
    alpha: float = 1.0,
) -> None:
    """Draw the outline of the box x0 y0 x1 y1, centred on its edge, with round corners."""
    window = _window(image, box, width + 1.0)
    if window is not None:
        distance = np.abs(_box_distance(window, box, radius)) - width / 2
        _blend(image, window, np.clip(0.5 - distance, 0, 1) * alpha, colour)


def corner_marks(
    image: np.ndarray, box: Sequence[float], colour: Colour, *, width: float, radius: float, length: float
) -> None:
    """Draw only the corners of a round box's edge, each reaching `length` pixels along both sides."""
    window = _window(image, box, width + 1.0)
    if window is None:
        return
    x, y = _centres(window)
    x0, y0, x1, y1 = box
    distance = np.abs(_box_distance(window, box, radius)) - width / 2
    # The marks also end softly: the distance of a pixel beyond their length.
    beyond = np.maximum(np.minimum(x - x0, x1 - x), np.minimum(y - y0, y1 - y)) - length
    _blend(image, window, np.clip(0.5 - np.maximum(distance, beyond), 0, 1), colour)


def dot(
    image: np.ndarray, centre: Sequence[float], radius: float, colour: Colour, *, alpha: float = 1.0
) -> None:
    """Fill a disc."""
    x0, y0 = centre[0] - radius, centre[1] - radius
    fill_box(image, (x0, y0, x0 + 2 * radius, y0 + 2 * radius), colour, radius=radius, alpha=alpha)


def stroke(
    image: np.ndarray,
    points: np.ndarray,
    colour: Colour,
    *,
    width: float = 1.0,
    closed: bool = False,
    alpha: float = 1.0,
) -> None:
    """Draw a line through (n, 2) points."""
    reach = np.array([*points.min(axis=0), *points.max(axis=0)])
    window = _window(image, reach, width + 2.0)
    if window is None:
        return
    x0, y0, x1, y1 = window
    # OpenCV's soft lines are whole pixels wide; drawn large and shrunk, they come in any width.
    finer = 4
    mask = np.zeros(((y1 - y0) * finer, (x1 - x0) * finer), np.uint8)
    places = np.round((points - (x0, y0)) * finer * 16 - 8).astype(np.int32)
    thickness = max(1, round(width * finer))
    cv2.polylines(mask, [places], closed, 255, thickness, cv2.LINE_AA, shift=4)
    small = cv2.resize(mask, (x1 - x0, y1 - y0), interpolation=cv2.INTER_AREA)
    _blend(image, window, small.astype(np.float32) * (alpha / 255), colour)


def paste_round(canvas: np.ndarray, image: np.ndarray, at: tuple[int, int], *, radius: float) -> None:
    """Paste an RGB image with round corners, its upper left corner at x, y; it must fit."""
    x, y = at
    height, width = image.shape[:2]
    window = (x, y, x + width, y + height)
    cover = np.clip(0.5 - _box_distance(window, window, radius), 0, 1)[..., None]
    part = canvas[y : y + height, x : x + width]
    part[:] = np.round(part + (image.astype(np.float32) - part) * cover).astype(np.uint8)


def _window(
    image: np.ndarray, box: Sequence[float] | np.ndarray, margin: float
) -> tuple[int, int, int, int] | None:
    """Return the pixels of the image that a box with a margin touches; None if there are none."""
    height, width = image.shape[:2]
    x0, y0 = max(0, int(np.floor(box[0] - margin))), max(0, int(np.floor(box[1] - margin)))
    x1, y1 = min(width, int(np.ceil(box[2] + margin))), min(height, int(np.ceil(box[3] + margin)))
    return (x0, y0, x1, y1) if x1 > x0 and y1 > y0 else None


def _centres(window: tuple[int, int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    x0, y0, x1, y1 = window
    return np.arange(x0, x1, dtype=np.float32) + 0.5, (np.arange(y0, y1, dtype=np.float32) + 0.5)[:, None]


def _box_distance(window: tuple[int, int, int, int], box: Sequence[float], radius: float) -> np.ndarray:
    """Return the signed distance of every pixel's centre from the edge of a round box, negative inside."""
    x, y = _centres(window)
    half_w, half_h = (box[2] - box[0]) / 2, (box[3] - box[1]) / 2
    radius = max(0.0, min(radius, half_w, half_h))
    across = np.abs(x - (box[0] + box[2]) / 2) - half_w + radius
    down = np.abs(y - (box[1] + box[3]) / 2) - half_h + radius
    outside = np.hypot(np.maximum(across, 0), np.maximum(down, 0))
    return outside + np.minimum(np.maximum(across, down), 0) - radius


def _blend(image: np.ndarray, window: tuple[int, int, int, int], share: np.ndarray, colour: Colour) -> None:
    x0, y0, x1, y1 = window
    part = image[y0:y1, x0:x1]
    ink = np.array(colour, np.float32)
    part[:] = np.round(part + (ink - part) * share[..., None]).astype(np.uint8)
