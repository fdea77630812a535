"""Layer 2. Arithmetic on boxes (n, 4), x0 y0 x1 y1 in pixels: overlaps, and the best of overlapping ones."""

from __future__ import annotations

import numpy as np


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """Areas (n,) of boxes (n, 4); 0 for an empty or inverted box."""
    sides = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None)
    return np.asarray(sides[:, 0] * sides[:, 1])


def overlap_areas(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Shared area (n, m) of each of n boxes with each of m."""
    top_left = np.maximum(first[:, None, :2], second[None, :, :2])
    bottom_right = np.minimum(first[:, None, 2:], second[None, :, 2:])
    sides = np.clip(bottom_right - top_left, 0, None)
    return np.asarray(sides[..., 0] * sides[..., 1])


def box_ious(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union (n, m) of each of n boxes with each of m, 0 where both are empty."""
    shared = overlap_areas(first, second)
    union = box_areas(first)[:, None] + box_areas(second)[None, :] - shared
    return np.asarray(shared / np.maximum(union, 1e-9))


def suppress(boxes: np.ndarray, scores: np.ndarray, max_iou: float) -> np.ndarray:
    """Indices of the boxes to keep, best score first.

    A box goes when a better one that stays overlaps it by more than `max_iou`. Equal scores: the earlier box
    counts as better.
    """
    order = np.argsort(-scores, kind="stable")
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[box_ious(boxes[best : best + 1], boxes[order])[0] <= max_iou]
    return np.array(kept, dtype=np.intp)
