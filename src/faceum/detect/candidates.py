"""Faces on their way through a detector: boxes, points, scores in, fewer or moved rows out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faceum.detect.protocol import Detection
from faceum.geometry import boxes_iou


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """n faces, in continuous pixels of whatever image they were found in.

    boxes: (n, 4) float32, x0 y0 x1 y1. points: (n, 5, 2) float32. scores: (n,) float32.
    """

    boxes: np.ndarray
    points: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def centres(self) -> np.ndarray:
        """Middles of the boxes (n, 2), x then y."""
        return np.asarray((self.boxes[:, :2] + self.boxes[:, 2:]) / 2)

    def sides(self) -> np.ndarray:
        """Longer side of each box (n,)."""
        return np.asarray((self.boxes[:, 2:] - self.boxes[:, :2]).max(axis=1))

    def where(self, rows: np.ndarray) -> Found:
        """The rows that a mask (n,) or an array of indices picks, in its order."""
        return Found(boxes=self.boxes[rows], points=self.points[rows], scores=self.scores[rows])

    def moved(self, scale: np.ndarray, shift: np.ndarray) -> Found:
        """Coordinates times `scale` (x, y) plus `shift` (x, y)."""
        scale, shift = scale.astype(np.float32), shift.astype(np.float32)
        boxes = self.boxes * np.tile(scale, 2) + np.tile(shift, 2)
        return Found(boxes=boxes, points=self.points * scale + shift, scores=self.scores)

    def detections(self) -> list[Detection]:
        """The rows as records, largest box first; of equal boxes, the better first."""
        areas = (self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1)
        return [
            Detection(box=self.boxes[row], points5=self.points[row], score=float(self.scores[row]))
            for row in np.lexsort((-self.scores, -areas))
        ]


def joined(parts: Sequence[Found]) -> Found:
    """All rows of some parts, at least one, in order."""
    return Found(
        boxes=np.concatenate([part.boxes for part in parts]),
        points=np.concatenate([part.points for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
    )


def without_repeats(found: Found, max_iou: float) -> Found:
    """The faces that no better one overlaps by more than `max_iou`, best first; of equals, the earlier."""
    order = np.argsort(-found.scores, kind="stable")
    kept = []
    while len(order):
        best, order = order[0], order[1:]
        kept.append(best)
        order = order[boxes_iou(found.boxes[best : best + 1], found.boxes[order])[0] <= max_iou]
    return found.where(np.array(kept, dtype=np.intp))
