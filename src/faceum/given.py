"""Boxes and points that a user gives instead of a detector in; checked places of faces out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from faceum.crop import box_from_points
from faceum.errors import FaceumError

MOST_PIXELS = 1e6
"""Coordinates beyond this are no pixels of any image that can be read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """Where a face is, before anything is known of it.

    box: (4,) float32, x0 y0 x1 y1 in pixels. points5: (5, 2) float32, or None where only the box is known.
    score: the detector's, or None where the box was given.
    """

    box: np.ndarray
    points5: np.ndarray | None = None
    score: float | None = None


def given_places(boxes: Any, points5: Any, size: tuple[int, int]) -> list[Place]:
    """The places of faces by given boxes, points, or both, in their order.

    boxes: (n, 4) numbers, x0 y0 x1 y1 in pixels, or None. points5: (n, 5, 2) numbers: left eye, right eye,
    nose tip, left and right mouth corner as seen in the image, or None. size: the image's height
    and width. Where only points are given, the boxes are those that a detector would give around them.

    FaceumError, one sentence, for another shape, a number that is none, a box without width or height, a face
    outside the image, and points that are one point.
    """
    points = None if points5 is None else _numbers(points5, "points5", (5, 2))
    if boxes is None:
        given = [_box_around(i, p) for i, p in enumerate(points if points is not None else [])]
        boxes_array = np.array(given, np.float32).reshape(-1, 4)
    else:
        boxes_array = _numbers(boxes, "boxes", (4,))
    if points is not None and len(points) != len(boxes_array):
        raise FaceumError(
            f"There are {len(boxes_array)} boxes but points5 for {len(points)} faces; give five points a box."
        )
    for index, box in enumerate(boxes_array):
        _check_box(index, box, size)
        if points is not None:
            _check_points(index, points[index])
    return [
        Place(box=box, points5=None if points is None else points[index])
        for index, box in enumerate(boxes_array)
    ]


def whole_image(size: tuple[int, int]) -> Place:
    """The place of a face that fills its image of that (height, width)."""
    return Place(box=np.array([0, 0, size[1], size[0]], np.float32))


def _numbers(values: Any, name: str, shape: tuple[int, ...]) -> np.ndarray:
    wanted = f"(n, {', '.join(str(side) for side in shape)})"
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        raise FaceumError(f"{name} are not numbers of shape {wanted}; give one entry a face.") from None
    if array.size == 0:
        return np.zeros((0, *shape), np.float32)
    if array.shape[1:] != shape:
        raise FaceumError(f"{name} have the shape {array.shape}, wanted is {wanted}: one entry a face.")
    if not np.isfinite(array).all() or np.abs(array).max() > MOST_PIXELS:
        raise FaceumError(f"{name} hold a number that is no place in an image; give finite pixels.")
    return array.astype(np.float32)


def _check_box(index: int, box: np.ndarray, size: tuple[int, int]) -> None:
    x0, y0, x1, y1 = box.tolist()
    spoken = f"Box {index} ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
    if x1 <= x0 or y1 <= y0:
        raise FaceumError(
            f"{spoken} has no width or height; boxes are x0, y0, x1, y1 with x1 > x0 and y1 > y0."
        )
    height, width = size
    if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
        raise FaceumError(
            f"{spoken} lies outside the image of {width} x {height} pixels; boxes are pixels of the image."
        )


def _check_points(index: int, points: np.ndarray) -> None:
    if np.ptp(points, axis=0).max() < 1e-3:
        raise FaceumError(f"points5 of face {index} are one point; give points that lie apart.")


def _box_around(index: int, points: np.ndarray) -> np.ndarray:
    _check_points(index, points)
    return box_from_points(points)
