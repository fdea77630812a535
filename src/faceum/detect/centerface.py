"""Layer 2. The CenterFace detector: RGB picture in, boxes, five points and scores out, by one small network.

The network gives, for each cell of 4 x 4 pixels: the probability that a face has its centre there, the box's
size, the centre within the cell, and five points as shares of the box. Legend: B batch, H W pixels,
h w cells. Source: CenterFace (arXiv 1911.03599), MIT licence; NOTICE.md says where the file comes from.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from faceum.assets import asset_path
from faceum.detect.boxes import box_areas, suppress
from faceum.detect.protocol import Detection, check_picture
from faceum.detect.session import Session

CELL = 4
"""Pixels a side of the network's output cells."""
STRIDE = 32
"""The network's coarsest step: inputs are padded to a multiple of it."""
MIN_SCORE = 0.3
"""Faces below this score are not reported."""
MAX_IOU = 0.3
"""Of two faces that overlap more, the one of lower score is dropped."""
LONGEST = 960
"""Longer pictures are shrunk to this many pixels."""
SHORTEST = 256
"""Smaller pictures are enlarged to this many pixels, at most by MAX_ENLARGEMENT."""
MAX_ENLARGEMENT = 4.0


class CenterFace:
    """Faces from about 20 pixels, in one look at the picture."""

    name = "centerface"

    def __init__(self, *, threads: int | None = None) -> None:
        """threads: threads of one run; None for as many as affinity and cgroup leave us."""
        self._session = Session(_weights_file, threads=threads)

    def detect(self, image_HWC: np.ndarray) -> list[Detection]:
        """All faces of an upright RGB uint8 picture (H, W, 3), largest first; see `Detector.detect`."""
        check_picture(image_HWC)
        height, width = image_HWC.shape[:2]
        longest = max(height, width)
        scale = min(LONGEST / longest, max(1.0, min(SHORTEST / longest, MAX_ENLARGEMENT)))
        level = resize(image_HWC, scale)
        boxes, points, scores = decode_cells(*self._session.run(pad(level)[None]), min_score=MIN_SCORE)
        keep = suppress(boxes, scores, MAX_IOU)
        back = np.array([width / level.shape[1], height / level.shape[0]], dtype=np.float32)
        boxes, points, scores = boxes[keep] * np.tile(back, 2), points[keep] * back, scores[keep]
        order = np.argsort(-box_areas(boxes), kind="stable")
        return [Detection(box=boxes[i], points5=points[i], score=float(scores[i])) for i in order]


def resize(image_HWC: np.ndarray, scale: float) -> np.ndarray:
    """The picture `scale` times as large, at least one pixel a side."""
    if scale == 1.0:
        return image_HWC
    height, width = (max(1, round(side * scale)) for side in image_HWC.shape[:2])
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image_HWC, (width, height), interpolation=method))


def pad(image_HWC: np.ndarray) -> np.ndarray:
    """The picture with black at its right and bottom, up to a multiple of the network's step."""
    below, right = (-side % STRIDE for side in image_HWC.shape[:2])
    return np.pad(image_HWC, ((0, below), (0, right), (0, 0)))


def decode_cells(
    heat: np.ndarray, size: np.ndarray, offset: np.ndarray, points: np.ndarray, *, min_score: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Network output for one picture -> boxes (n, 4), five points (n, 5, 2), scores (n,), in its pixels.

    heat (1, 1, h, w), size (1, 2, h, w), offset (1, 2, h, w), points (1, 10, h, w); y before x in all three.
    """
    rows, columns = np.nonzero(heat[0, 0] >= min_score)
    cells = np.stack([columns, rows], axis=1).astype(np.float32)
    centres = (cells + offset[0, ::-1, rows, columns] + 0.5) * CELL
    sides = np.exp(size[0, ::-1, rows, columns]) * CELL
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    shares = points[0, :, rows, columns].reshape(-1, 5, 2)[..., ::-1]
    return boxes, boxes[:, None, :2] + shares * sides[:, None], heat[0, 0, rows, columns]


def _weights_file() -> Path:
    return asset_path("centerface", kind="detector")
