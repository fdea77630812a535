"""Follow faces from one frame to the next by optical flow, and notice cuts.

Around each face both frames are reduced to one small size, in which a grid of points on the face is followed
forwards and backwards (pyramids of Lucas and Kanade, as in OpenCV). The similarity that most points agree on
moves the face. A face that no longer looks like it did where it was detected is lost: something is in front
of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from faceum.geometry import compose, invert, transform_points, warp

SIDE = 192
"""Pixels a side of the reduced part of the frame, whose middle third is the face."""

GRID = 9
"""Points followed, a side."""

MAX_RETURN = 1.5
"""A point that comes back further from its start than this many reduced pixels does not count."""

MIN_SHARE = 0.5
"""The least share of the points that have to agree."""

MIN_LIKENESS = 0.55
"""The least correlation of the face with its look when it was detected."""

LOOK = 24
"""Pixels a side of a face's look."""

CUT_DIFFERENCE = 28.0
"""Mean change of gray values between two frames, reduced to `THUMBNAIL`, from which on there is a cut."""

THUMBNAIL = (32, 18)


@dataclass(frozen=True, kw_only=True, eq=False)
class View:
    """A frame as following needs it. gray: (H, W) uint8. thumbnail: (18, 32) float32."""

    gray: np.ndarray
    thumbnail: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray) -> View:
        """Return the view of an RGB frame (H, W, 3)."""
        gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        small = cv2.resize(gray, THUMBNAIL, interpolation=cv2.INTER_AREA)
        return cls(gray=gray, thumbnail=small.astype(np.float32))

    def cut_from(self, before: View) -> bool:
        """Return whether there is a cut between the frame before and this one."""
        if before.gray.shape != self.gray.shape:
            return True
        return float(np.abs(self.thumbnail - before.thumbnail).mean()) > CUT_DIFFERENCE


def look_of(view: View, box: np.ndarray) -> np.ndarray:
    """Return what a face looks like: its inner part, reduced and normalized, (24, 24) float32."""
    x0, y0, x1, y1 = np.asarray(box, np.float64)
    scale = LOOK / (0.8 * max(x1 - x0, y1 - y0, 1.0))
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    shift = LOOK / 2 - scale * middle
    look = warp(view.gray, np.array([[scale, 0, shift[0]], [0, scale, shift[1]]]), (LOOK, LOOK))
    look = look.astype(np.float32) - look.mean()
    return np.asarray(look / max(float(np.linalg.norm(look)), 1e-3))


def follow(before: View, now: View, box: np.ndarray, look: np.ndarray) -> np.ndarray | None:
    """Return the similarity (2, 3) that moves a face from the frame before to this one; None if it is lost.

    box: (4,) of the face in the frame before. look: see `look_of`, at its last detection.
    """
    x0, y0, x1, y1 = np.asarray(box, np.float64)
    side = max(x1 - x0, y1 - y0, 1.0)
    middle = np.array([(x0 + x1) / 2, (y0 + y1) / 2])
    scale = SIDE / (3 * side)
    to_part = np.column_stack([np.eye(2) * scale, SIDE / 2 - scale * middle])
    parts = [warp(view.gray, to_part, (SIDE, SIDE)) for view in (before, now)]
    steps = (np.arange(GRID) + 0.5) / GRID - 0.5
    half = np.array([x1 - x0, y1 - y0]) * scale
    start = np.stack(np.meshgrid(steps * half[0] * 0.8, steps * half[1] * 0.8), axis=-1).reshape(-1, 1, 2)
    start = (start + SIDE / 2 - 0.5).astype(np.float32)
    settings: dict[str, Any] = {"winSize": (17, 17), "maxLevel": 3}
    there, found, _ = cv2.calcOpticalFlowPyrLK(parts[0], parts[1], start, None, **settings)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(parts[1], parts[0], there, None, **settings)
    returned = np.linalg.norm(back - start, axis=2).ravel() <= MAX_RETURN
    good = returned & (found.ravel() > 0) & (found_back.ravel() > 0)
    if good.mean() < MIN_SHARE:
        return None
    moved, agreeing = cv2.estimateAffinePartial2D(
        start[good] + 0.5, there[good] + 0.5, ransacReprojThreshold=2.0
    )
    if moved is None or agreeing.sum() < MIN_SHARE * len(start):
        return None
    motion = compose(compose(to_part, moved), invert(to_part))
    if likeness(now, move_box(motion, box), look) < MIN_LIKENESS:
        return None
    return motion


def likeness(view: View, box: np.ndarray, look: np.ndarray) -> float:
    """Return the correlation, -1..1, of what is in a box with a face's look."""
    return float((look_of(view, box) * look).sum())


def move_box(motion: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Return the box (4,) moved by a similarity: its middle is moved and its sides scaled, never turned."""
    box = np.asarray(box, np.float64)
    middle = transform_points(motion, (box[:2] + box[2:]) / 2)
    half = (box[2:] - box[:2]) / 2 * np.sqrt(abs(np.linalg.det(motion[:, :2])))
    return np.concatenate([middle - half, middle + half]).astype(np.float32)
