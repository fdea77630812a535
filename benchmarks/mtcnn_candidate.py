"""Run the whole MTCNN cascade, the other candidate for the default detector, as a `Detector`.

It scored lower (docs/log.md), so it is not in the package. tools/convert_detectors.py makes its three
networks; pyramid, thresholds and suppression are those of the package mtcnn 1.0.0.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from faceum.detect.base import Detection
from faceum.detect.candidates import Candidates, suppress_overlaps
from faceum.geometry import boxes_iou, warp
from faceum.onnx_session import LazySession

LEAST_FACE = 20
WINDOW, STEP = 12, 2
NEXT_SCALE = 0.709
LEAST_SCORES = (0.6, 0.7, 0.8)
MAX_IOU_ONE_SCALE, MAX_IOU_ALL_SCALES, MAX_IOU_REFINED, MAX_SHARE = 0.5, 0.7, 0.7, 0.7


class Mtcnn:
    """Proposals at every scale, then two networks that look at each proposal."""

    name = "mtcnn"

    def __init__(self, folder: Path, *, threads: int | None = None) -> None:
        """folder: where mtcnn-pnet.onnx, mtcnn-rnet.onnx and mtcnn-onet.onnx lie."""
        files = [folder / f"mtcnn-{part}.onnx" for part in ("pnet", "rnet", "onet")]
        self._propose, self._refine, self._answer = (
            LazySession(lambda file=file: file, threads=threads) for file in files
        )

    def detect(self, image_HWC: np.ndarray, *, min_score: float = 0.5) -> list[Detection]:
        """Return all faces of an upright RGB uint8 image (H, W, 3), largest first."""
        found = self._proposals(image_HWC)
        if len(found):
            boxes = squares(found.boxes)
            shift, face = self._refine.run(patches(image_HWC, boxes, 24))
            found = faces(shifted(boxes, shift), face[:, 1], LEAST_SCORES[1])
            found = suppress_overlaps(found, MAX_IOU_REFINED)
        if len(found):
            boxes = squares(found.boxes)
            shift, shares, face = self._answer.run(patches(image_HWC, boxes, 48))
            sides = (boxes[:, 2:] - boxes[:, :2])[:, None]
            points = boxes[:, None, :2] + shares.reshape(-1, 2, 5).transpose(0, 2, 1) * sides
            found = Candidates(boxes=shifted(boxes, shift), points=points, scores=face[:, 1])
            found = without_nested(found.where(found.scores > LEAST_SCORES[2]))
        return found.detections()

    def _proposals(self, image_HWC: np.ndarray) -> Candidates:
        height, width = image_HWC.shape[:2]
        scale, parts = WINDOW / LEAST_FACE, []
        while min(height, width) * scale >= WINDOW:
            size = (max(1, round(width * scale)), max(1, round(height * scale)))
            level = cv2.resize(image_HWC, size, interpolation=cv2.INTER_AREA)
            shift, face = self._propose.run(level[None])
            rows, columns = np.nonzero(face[0, 1] > LEAST_SCORES[0])
            corners = np.stack([columns, rows], axis=1).astype(np.float32) * STEP
            boxes = shifted(np.concatenate([corners, corners + WINDOW], axis=1), shift[0][:, rows, columns].T)
            back = np.tile([width / size[0], height / size[1]], 2).astype(np.float32)
            one = faces(boxes * back, face[0, 1, rows, columns], 0)
            parts.append(suppress_overlaps(one, MAX_IOU_ONE_SCALE))
            scale *= NEXT_SCALE
        boxes = np.concatenate([np.zeros((0, 4), np.float32), *(part.boxes for part in parts)])
        scores = np.concatenate([np.zeros(0, np.float32), *(part.scores for part in parts)])
        return suppress_overlaps(faces(boxes, scores, 0), MAX_IOU_ALL_SCALES)


def faces(boxes: np.ndarray, scores: np.ndarray, least: float) -> Candidates:
    """Return boxes above a score, with no points yet."""
    rows = scores > least
    return Candidates(boxes=boxes[rows], points=np.zeros((rows.sum(), 5, 2), np.float32), scores=scores[rows])


def shifted(boxes: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return boxes moved by shares of their width and height."""
    return boxes + shift * np.tile(boxes[:, 2:] - boxes[:, :2], 2)


def squares(boxes: np.ndarray) -> np.ndarray:
    """Return boxes of the same middles, as wide and high as the longer side."""
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    halves = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    return np.concatenate([middles - halves, middles + halves], axis=1)


def patches(image_HWC: np.ndarray, boxes: np.ndarray, side: int) -> np.ndarray:
    """Return the square boxes' contents, black outside the image: (n, side, side, 3)."""
    scales = side / np.maximum(boxes[:, 2] - boxes[:, 0], 1e-3)
    frames = [
        np.array([[scale, 0, -x0 * scale], [0, scale, -y0 * scale]])
        for scale, (x0, y0, _, _) in zip(scales, boxes, strict=True)
    ]
    return np.stack([warp(image_HWC, frame, (side, side), border="zero") for frame in frames])


def without_nested(found: Candidates) -> Candidates:
    """Best first, without boxes that share more than MAX_SHARE of the smaller box with a better one."""
    kept: list[int] = []
    areas = (found.boxes[:, 2:] - found.boxes[:, :2]).prod(axis=1)
    iou = boxes_iou(found.boxes, found.boxes)
    shared = iou * (areas[:, None] + areas[None]) / (1 + iou)
    share = shared / np.minimum(areas[:, None], areas[None])
    for row in np.argsort(-found.scores, kind="stable"):
        if not (share[row, kept] > MAX_SHARE).any():
            kept.append(row)
    return found.where(np.array(kept, np.intp))
