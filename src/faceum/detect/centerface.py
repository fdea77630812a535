"""The default detector: RGB image to boxes, five points and scores.

CenterFace finds the faces. For each cell of 4 x 4 pixels it predicts the probability that a face has its
centre there, the box's size, the centre within the cell, and five points as shares of the box. The points are
then measured again, face by face (refine_points.py); what that network says decides how sure each detection
is (confidence.py). Large images are searched at reduced size; where one may contain a small face, that part
is searched again at full size. Legend: B batch, H W pixels, h w cells.
Source: CenterFace (arXiv 1911.03599), MIT licence; NOTICE.md says where the files come from.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from faceum.crop import turned_points_from_box
from faceum.detect.base import MIN_SCORE, Detection, check_image
from faceum.detect.candidates import Candidates, concatenate, suppress_overlaps
from faceum.detect.confidence import confidence, lowest_score
from faceum.detect.refine_points import FivePoints
from faceum.detect.tiling import Tile, scales_of, tiles_of
from faceum.onnx_session import LazySession
from faceum.weights.registry import asset_path

CELL = 4
"""Pixels a side of the network's output cells."""
STRIDE = 32
"""The network's coarsest step: inputs are padded to a multiple of it."""
MAX_IOU = 0.3
"""Of two faces that overlap by more than this, the one of lower score is dropped."""
SUSPECT_SCORE = 0.05
"""A small face of at least this score in a reduced image is a reason to search that part at full size."""
SMALL = 24
"""A face up to this many pixels in a reduced image is small."""
LARGEST = 320
"""Larger faces are left to the next scale, if there is one: the network takes parts of them for faces."""
UNTILED = 1024
"""A scale whose longer side has at most this many pixels is searched in one piece."""
LARGEST_IN_TILE = 160
"""LARGEST for scales that are searched in tiles: a larger face may not be whole in any tile."""
TILE = {"core": 512, "margin": 96}
"""Tiles of a large image."""
CLOSE_TILE = {"core": 256, "margin": 32}
"""Tiles that are searched again at full size."""
LARGEST_IN_CLOSE_TILE = 64
"""Larger faces than this were found well enough before."""
UPRIGHT_FACE = 0.5
"""Below this probability a candidate is no face, or its points are those of another position."""
MAY_BE_TURNED = 0.5
"""Such a candidate of at least this score is seen again, by quarter turns, before it is doubted."""
BATCH = 8
"""Images of one size in one run."""


class CenterFace:
    """Finds faces from 24 pixels to the whole image, in any position, with two small networks."""

    name = "centerface"

    def __init__(self, *, threads: int | None = None, device: str = "cpu") -> None:
        """Prepare the two networks; see `load_detector` for threads and device."""
        self._session = LazySession(_weights_file, threads=threads, device=device)
        self._five_points = FivePoints(threads=threads, device=device)

    def detect(self, image_HWC: np.ndarray, *, min_score: float = MIN_SCORE) -> list[Detection]:
        """Return all faces of an upright RGB uint8 image (H, W, 3), largest first; see `Detector.detect`."""
        return self.detect_many([image_HWC], min_score=min_score)[0]

    def detect_many(
        self, images: Sequence[np.ndarray], *, min_score: float = MIN_SCORE
    ) -> list[list[Detection]]:
        """Return the faces of each image; the network sees images of one size together."""
        for image in images:
            check_image(image)
        alike: dict[tuple[int, ...], list[int]] = {}
        for index, image in enumerate(images):
            alike.setdefault(image.shape, []).append(index)
        faces: list[list[Detection]] = [[] for _ in images]
        for indices in alike.values():
            for first in range(0, len(indices), BATCH):
                some = indices[first : first + BATCH]
                for index, found in zip(
                    some, self._detect([images[i] for i in some], min_score), strict=True
                ):
                    faces[index] = found
        return faces

    def refine_points(self, image_HWC: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Return better points (n, 5, 2) for rough ones (n, 5, 2) of faces in any position."""
        return self._five_points.refine(image_HWC, points)

    def _detect(self, images: list[np.ndarray], min_score: float) -> list[list[Detection]]:
        """Return the faces of images of one size."""
        height, width = images[0].shape[:2]
        scales = scales_of(height, width)
        pyramids = [levels_of(image, scales) for image in images]
        lowest = min(SUSPECT_SCORE, lowest_score(min_score))
        by_scale = []
        for index in range(len(scales)):
            levels = [pyramid[index] for pyramid in pyramids]
            scale = np.array([width, height]) / levels[0].shape[1::-1]
            seen = self._look(levels, lowest, last=index == len(scales) - 1)
            by_scale.append([one.transform(scale, np.zeros(2)) for one in seen])
        faces = []
        for image, candidates in zip(images, zip(*by_scale, strict=True), strict=True):
            parts = list(candidates)
            if scales[0] < 1:
                parts.append(self._look_close(image, parts[0], scales[0], lowest))
            faces.append(self._refine_chosen(image, concatenate(parts), min_score))
        return faces

    def _refine_chosen(
        self, image_HWC: np.ndarray, candidates: Candidates, min_score: float
    ) -> list[Detection]:
        """Return the candidates that are reported, with their points measured again and their confidence."""
        likely = candidates.select(candidates.scores >= lowest_score(min_score))
        kept = suppress_overlaps(likely, MAX_IOU)
        points, faces = self._five_points.measure(image_HWC, kept.points)
        turned = np.flatnonzero((faces < UPRIGHT_FACE) & (kept.scores >= MAY_BE_TURNED))
        if len(turned):
            faces[turned] = np.maximum(faces[turned], self._look_turned(image_HWC, kept.boxes[turned]))
        sure = Candidates(boxes=kept.boxes, points=points, scores=confidence(kept.scores, faces))
        return sure.select(sure.scores >= min_score).detections()

    def _look_turned(self, image_HWC: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """Return the highest probability (n,) of a face in each box, by quarter turns."""
        starts = [turned_points_from_box(box, turns) for box in boxes for turns in range(4)]
        _, faces = self._five_points.measure(image_HWC, np.array(starts, np.float32))
        return np.asarray(faces.reshape(-1, 4).max(axis=1))

    def _look(self, levels: list[np.ndarray], lowest: float, *, last: bool) -> list[Candidates]:
        """Return all candidates in images of one size at one scale, in that scale's pixels."""
        height, width = levels[0].shape[:2]
        if max(height, width) <= UNTILED:
            seen, largest = self._find(levels, lowest), LARGEST
        else:
            tiles = list(tiles_of(height, width, **TILE))
            seen = [concatenate([self._look_at(level, tile, lowest) for tile in tiles]) for level in levels]
            largest = LARGEST_IN_TILE
        return seen if last else [one.select(one.sides() <= largest) for one in seen]

    def _look_close(
        self, image_HWC: np.ndarray, suspects: Candidates, scale: float, lowest: float
    ) -> Candidates:
        """Return the candidates in those tiles of the full-size image that contain small suspects."""
        centres = suspects.centres()[suspects.sides() * scale <= SMALL]
        tiles = [tile for tile in tiles_of(*image_HWC.shape[:2], **CLOSE_TILE) if tile.owns(centres).any()]
        none = suspects.select(np.zeros(0, np.intp))
        found = concatenate([none, *(self._look_at(image_HWC, tile, lowest) for tile in tiles)])
        return found.select(found.sides() <= LARGEST_IN_CLOSE_TILE)

    def _look_at(self, level: np.ndarray, tile: Tile, lowest: float) -> Candidates:
        """Return the candidates whose centre lies in the tile's core, in pixels of the level."""
        (found,) = self._find([level[tile.top : tile.bottom, tile.left : tile.right]], lowest)
        found = found.transform(np.ones(2), np.array([tile.left, tile.top]))
        return found.select(tile.owns(found.centres()))

    def _find(self, levels: list[np.ndarray], lowest: float) -> list[Candidates]:
        """Return all candidates of at least the lowest score in images of one moderate size."""
        outputs = self._session.run(np.stack([network_input(level) for level in levels]))
        return [
            decode_cells(*(output[i : i + 1] for output in outputs), min_score=lowest)
            for i in range(len(levels))
        ]


def levels_of(image_HWC: np.ndarray, scales: Sequence[float]) -> list[np.ndarray]:
    """Return the image at each of the descending scales, at least one pixel per side.

    Each is reduced from the previous level, which has fewer pixels to read than the image, unless that level
    was enlarged.
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
    """Return RGB (H, W, 3) as (h, w, 4), padded with black at the right and bottom to multiples of STRIDE.

    The fourth byte of a pixel is unused: kernels for 8 bits read channels in fours.
    """
    height, width = image_HWC.shape[:2]
    padded = np.zeros((height + -height % STRIDE, width + -width % STRIDE, 4), np.uint8)
    cv2.cvtColor(image_HWC, cv2.COLOR_RGB2RGBA, dst=padded[:height, :width])
    return padded


def decode_cells(
    heat: np.ndarray, size: np.ndarray, offset: np.ndarray, points: np.ndarray, *, min_score: float
) -> Candidates:
    """Return the faces that the network's outputs for one image describe, in its pixels, with repeats.

    heat (1, 1, h, w), size (1, 2, h, w), offset (1, 2, h, w), points (1, 10, h, w); y before x in all three.
    """
    rows, columns = np.nonzero(heat[0, 0] >= min_score)
    cells = np.stack([columns, rows], axis=1).astype(np.float32)
    centres = (cells + offset[0, ::-1, rows, columns] + 0.5) * CELL
    sides = np.exp(size[0, ::-1, rows, columns]) * CELL
    boxes = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
    shares = points[0, :, rows, columns].reshape(-1, 5, 2)[..., ::-1]
    return Candidates(
        boxes=boxes, points=boxes[:, None, :2] + shares * sides[:, None], scores=heat[0, 0, rows, columns]
    )


def _weights_file() -> Path:
    return asset_path("centerface", "faces", kind="detector")
