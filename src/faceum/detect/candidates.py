"""Candidate faces as arrays: overlap suppression, shifts; and checks of boxes and points given by a user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from faceum.crop import box_from_points
from faceum.detect.base import Detection
from faceum.errors import FaceumError, count_noun
from faceum.geometry import boxes_iou

MOST_PIXELS = 1e6
"""Coordinates beyond this cannot be pixels of an image that can be read."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Candidates:
    """n faces that a detector may report, in continuous pixels of the image they were found in.

    boxes: (n, 4) float32, x0 y0 x1 y1. points: (n, 5, 2) float32. scores: (n,) float32.
    """

    boxes: np.ndarray
    points: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def centres(self) -> np.ndarray:
        """Return the centres of the boxes (n, 2), x then y."""
        return np.asarray((self.boxes[:, :2] + self.boxes[:, 2:]) / 2)

    def sides(self) -> np.ndarray:
        """Return the longer side of each box (n,)."""
        return np.asarray((self.boxes[:, 2:] - self.boxes[:, :2]).max(axis=1))

    def select(self, rows: np.ndarray) -> Candidates:
        """Return the rows that a mask (n,) or an array of indices selects, in its order."""
        return Candidates(boxes=self.boxes[rows], points=self.points[rows], scores=self.scores[rows])

    def transform(self, scale: np.ndarray, shift: np.ndarray) -> Candidates:
        """Return the same with coordinates times `scale` (x, y) plus `shift` (x, y)."""
        scale, shift = scale.astype(np.float32), shift.astype(np.float32)
        boxes = self.boxes * np.tile(scale, 2) + np.tile(shift, 2)
        return Candidates(boxes=boxes, points=self.points * scale + shift, scores=self.scores)

    def detections(self) -> list[Detection]:
        """Return the rows as records, largest box first; of equal boxes, the higher score first."""
        areas = (self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1)
        return [
            Detection(box=self.boxes[row], points5=self.points[row], score=float(self.scores[row]))
            for row in np.lexsort((-self.scores, -areas))
        ]


def concatenate(parts: Sequence[Candidates]) -> Candidates:
    """Return all rows of one or more parts, in order."""
    return Candidates(
        boxes=np.concatenate([part.boxes for part in parts]),
        points=np.concatenate([part.points for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
    )


def suppress_overlaps(candidates: Candidates, max_iou: float) -> Candidates:
    """Return the faces that none of higher score overlaps by more than `max_iou`, best first."""
    order = np.argsort(-candidates.scores, kind="stable")
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[boxes_iou(candidates.boxes[best : best + 1], candidates.boxes[order])[0] <= max_iou]
    return candidates.select(np.array(kept, dtype=np.intp))


def make_candidates(boxes: Any, points5: Any, size: tuple[int, int]) -> list[Detection]:
    """Return the faces that a user gives by boxes, points, or both, in their order.

    boxes: (n, 4) numbers, x0 y0 x1 y1 in pixels, or None. points5: (n, 5, 2) numbers, see `Detection`, or
    None; where only points are given, the boxes are those that a detector would give around them. size: the
    image's height and width.
    Raises FaceumError for a wrong shape, a value that is not a finite number, a box without width or height,
    a face outside the image, and points that coincide.
    """
    points = None if points5 is None else _numbers(points5, "points5", (5, 2))
    if boxes is None:
        around = [_box_around(i, p) for i, p in enumerate(points if points is not None else [])]
        boxes_array = np.array(around, np.float32).reshape(-1, 4)
    else:
        boxes_array = _numbers(boxes, "boxes", (4,))
    if points is not None and len(points) != len(boxes_array):
        raise FaceumError(
            f"Got {count_noun(len(boxes_array), 'box', 'boxes')} but points5 for "
            f"{count_noun(len(points), 'face')}; give five points per box."
        )
    for index, box in enumerate(boxes_array):
        _check_box(index, box, size)
        if points is not None:
            _check_points(index, points[index])
    return [
        Detection(box=box, points5=None if points is None else points[index])
        for index, box in enumerate(boxes_array)
    ]


def whole_image(size: tuple[int, int]) -> Detection:
    """Return a face that fills its image of that (height, width)."""
    return Detection(box=np.array([0, 0, size[1], size[0]], np.float32))


def _numbers(values: Any, name: str, shape: tuple[int, ...]) -> np.ndarray:
    expected = f"(n, {', '.join(str(side) for side in shape)})"
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise FaceumError(f"{name} are not numbers of shape {expected}; give one entry per face.") from None
    if array.size == 0:
        return np.zeros((0, *shape), np.float32)
    if array.shape[1:] != shape:
        raise FaceumError(
            f"{name} have the shape {array.shape}, expected {expected}; give one entry per face."
        )
    if not np.isfinite(array).all() or np.abs(array).max() > MOST_PIXELS:
        raise FaceumError(f"{name} contain a number that cannot be a pixel; give finite pixels of the image.")
    return array.astype(np.float32)


def _check_box(index: int, box: np.ndarray, size: tuple[int, int]) -> None:
    x0, y0, x1, y1 = box.tolist()
    name = f"Box {index} ({x0:g}, {y0:g}, {x1:g}, {y1:g})"
    if x1 <= x0 or y1 <= y0:
        raise FaceumError(f"{name} has no width or height; give x0, y0, x1, y1 with x1 > x0 and y1 > y0.")
    height, width = size
    if x0 >= width or y0 >= height or x1 <= 0 or y1 <= 0:
        raise FaceumError(
            f"{name} lies outside the image of {width} x {height} pixels; give boxes in pixels of the image."
        )


def _check_points(index: int, points: np.ndarray) -> None:
    if np.ptp(points, axis=0).max() < 1e-3:
        raise FaceumError(f"points5 of face {index} coincide; give points that lie apart.")


def _box_around(index: int, points: np.ndarray) -> np.ndarray:
    _check_points(index, points)
    return box_from_points(points)
