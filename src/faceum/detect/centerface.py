"""The default detector: RGB image in, boxes, five points and scores out.

CenterFace finds the faces. For each cell of 4 x 4 pixels it gives: the probability that a face has its middle
there, the box's size, the middle within the cell, and five points as shares of the box. The points are then
measured again, face by face (five_points.py). Large images are looked at small; where something in them
might be a small face, that part is looked at again in full size. Legend: B batch, H W pixels, h w cells.
Source: CenterFace (arXiv 1911.03599), MIT licence; NOTICE.md says where the files come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from faceum.detect.candidates import Found, joined, without_repeats
from faceum.detect.protocol import Detection, check_image
from faceum.detect.refine_points import FivePoints
from faceum.detect.session import Session
from faceum.detect.tiling import Tile, scales_of, tiles_of
from faceum.weights.registry import asset_path

CELL = 4
"""Pixels a side of the network's output cells."""
STRIDE = 32
"""The network's coarsest step: inputs are padded to a multiple of it."""
MIN_SCORE = 0.25
"""Faces below this score are not reported. Most answers below 0.4 are not faces; who wants few wrong ones
should ask for 0.5 (docs/log.md)."""
MAX_IOU = 0.3
"""Of two faces that overlap more, the one of lower score is dropped."""
SUSPECT_SCORE = 0.05
"""In a shrunk image, a small face of at least this score is a reason to look at that part in full size."""
SMALL = 24
"""A face up to this many pixels in a shrunk image is small."""
LARGEST = 320
"""Larger faces are left to the next scale, where there is one: the network sees parts of them as faces."""
UNTILED = 1024
"""A scale whose longer side is at most this many pixels is looked at in one piece."""
LARGEST_IN_TILE = 160
"""LARGEST for scales that are looked at in tiles: what is larger may not be whole in any tile."""
TILE = {"core": 512, "margin": 96}
"""Tiles of a large image."""
CLOSE_TILE = {"core": 256, "margin": 32}
"""Tiles that are looked at again in full size."""
LARGEST_IN_CLOSE_TILE = 64
"""Larger faces than this were found well enough before."""


class CenterFace:
    """Faces from 24 pixels to the whole image, in any position, by two small networks."""

    name = "centerface"

    def __init__(self, *, threads: int | None = None) -> None:
        """threads: threads of one run; None for as many as affinity and cgroup leave us."""
        self._session = Session(_weights_file, threads=threads)
        self._five_points = FivePoints(threads=threads)

    def detect(self, image_HWC: np.ndarray) -> list[Detection]:
        """All faces of an upright RGB uint8 image (H, W, 3), largest first; see `Detector.detect`."""
        check_image(image_HWC)
        scales = scales_of(*image_HWC.shape[:2])
        levels = levels_of(image_HWC, scales)
        looks = [self._look(level, last=level is levels[-1]) for level in levels]
        size = np.array(image_HWC.shape[1::-1])
        looks = [
            found.moved(size / level.shape[1::-1], np.zeros(2))
            for found, level in zip(looks, levels, strict=True)
        ]
        if scales[0] < 1:
            looks.append(self._look_close(image_HWC, looks[0], scales[0]))
        found = joined(looks)
        found = without_repeats(found.where(found.scores >= MIN_SCORE), MAX_IOU)
        points = self._five_points.refine(image_HWC, found.points)
        return Found(boxes=found.boxes, points=points, scores=found.scores).detections()

    def _look(self, level: np.ndarray, *, last: bool) -> Found:
        """All faces, suspected ones too, in the image at one scale, in that scale's pixels."""
        height, width = level.shape[:2]
        if max(height, width) <= UNTILED:
            found, largest = self._find(level), LARGEST
        else:
            tiles = tiles_of(height, width, **TILE)
            found, largest = joined([self._look_at(level, tile) for tile in tiles]), LARGEST_IN_TILE
        return found if last else found.where(found.sides() <= largest)

    def _look_close(self, image_HWC: np.ndarray, suspects: Found, scale: float) -> Found:
        """Faces in those tiles of the full-size image in which there are small suspects."""
        middles = suspects.centres()[suspects.sides() * scale <= SMALL]
        tiles = [tile for tile in tiles_of(*image_HWC.shape[:2], **CLOSE_TILE) if tile.owns(middles).any()]
        found = joined([suspects.where(np.zeros(0, np.intp)), *(self._look_at(image_HWC, t) for t in tiles)])
        return found.where(found.sides() <= LARGEST_IN_CLOSE_TILE)

    def _look_at(self, level: np.ndarray, tile: Tile) -> Found:
        """The tile's own faces, in pixels of the level."""
        found = self._find(level[tile.top : tile.bottom, tile.left : tile.right])
        found = found.moved(np.ones(2), np.array([tile.left, tile.top]))
        return found.where(tile.owns(found.centres()))

    def _find(self, level: np.ndarray) -> Found:
        """All faces, suspected ones too, that the network sees in one image of moderate size."""
        outputs = self._session.run(network_input(level)[None])
        return decode_cells(*outputs, min_score=SUSPECT_SCORE)


def levels_of(image_HWC: np.ndarray, scales: Sequence[float]) -> list[np.ndarray]:
    """The image at each of the descending scales, at least one pixel a side.

    Each is shrunk from the one before, which has fewer pixels to read than the image; not from an enlarged
    one, which has more.
    """
    levels: list[np.ndarray] = []
    smallest = image_HWC
    for scale in scales:
        height, width = (max(1, round(side * scale)) for side in image_HWC.shape[:2])
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        levels.append(smallest if scale == 1 else cv2.resize(smallest, (width, height), interpolation=method))
        smallest = levels[-1] if scale <= 1 else image_HWC
    return levels


def network_input(image_HWC: np.ndarray) -> np.ndarray:
    """RGB (H, W, 3) -> (h, w, 4), black at the far sides up to multiples of STRIDE.

    The fourth byte of a pixel means nothing: kernels for 8 bits read channels by fours.
    """
    height, width = image_HWC.shape[:2]
    padded = np.zeros((height + -height % STRIDE, width + -width % STRIDE, 4), np.uint8)
    cv2.cvtColor(image_HWC, cv2.COLOR_RGB2RGBA, dst=padded[:height, :width])
    return padded


def decode_cells(
    heat: np.ndarray, size: np.ndarray, offset: np.ndarray, points: np.ndarray, *, min_score: float
) -> Found:
    """The faces that the network's outputs for one image mean, in its pixels; one face may come repeatedly.

    heat (1, 1, h, w), size (1, 2, h, w), offset (1, 2, h, w), points (1, 10, h, w); y before x in all three.
    """
    rows, columns = np.nonzero(heat[0, 0] >= min_score)
    cells = np.stack([columns, rows], axis=1).astype(np.float32)
    middles = (cells + offset[0, ::-1, rows, columns] + 0.5) * CELL
    sides = np.exp(size[0, ::-1, rows, columns]) * CELL
    boxes = np.concatenate([middles - sides / 2, middles + sides / 2], axis=1)
    shares = points[0, :, rows, columns].reshape(-1, 5, 2)[..., ::-1]
    return Found(
        boxes=boxes, points=boxes[:, None, :2] + shares * sides[:, None], scores=heat[0, 0, rows, columns]
    )


def _weights_file() -> Path:
    return asset_path("centerface", "faces", kind="detector")
