"""A detector in SCRFD's nine-output convention, from an ONNX file of one's own.

The network sees the image at the top left of a square, as (x - 127.5) / 128, RGB, channels first. For strides
of 8, 16 and 32 pixels it gives scores, distances from an anchor to the four sides of the box, and five points
from the anchor, both in strides: three outputs of scores, three of boxes, three of points, with two anchors a
cell. Source of the convention: insightface/model_zoo/scrfd.py (MIT licence). Legend: A anchors.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from faceum.detect.base import MIN_SCORE, Detection, check_image
from faceum.detect.candidates import Candidates, concatenate, suppress_overlaps
from faceum.errors import ModelError, count_noun

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

STRIDES = (8, 16, 32)
"""Pixels of the network's input between two cells, for its three sizes of faces."""

ANCHORS = 2
"""Anchors at each cell."""

SIDE = 640
"""Pixels a side of the input where the file takes any size."""

MAX_IOU = 0.4
"""Of two faces that overlap more, the one of lower score is dropped."""


class SCRFD:
    """Faces by a network in SCRFD's convention. Many threads may share one."""

    def __init__(self, path: str | Path, *, threads: int | None = None, device: str = "cpu") -> None:
        """Load the file; ModelError where it is missing or does not keep to the convention.

        threads: threads per run; None for all that affinity and cgroup allow. device: see `open_session`.
        """
        from faceum.onnx_session import SESSION_ERRORS, open_session

        self.path = Path(path).expanduser()
        self.name = self.path.stem
        if not self.path.is_file():
            raise ModelError(f"There is no detector file {str(path)!r}; check the path.")
        try:
            self._session = open_session(self.path, threads=threads, device=device)
        except SESSION_ERRORS as error:
            raise ModelError(f"The detector {path} cannot be loaded by onnxruntime ({error}).") from None
        self._input, self._size = _check_input(self._session, self.path)

    def detect(self, image_HWC: np.ndarray, *, min_score: float = MIN_SCORE) -> list[Detection]:
        """Return all faces of an upright RGB uint8 image (H, W, 3); see `Detector.detect`."""
        check_image(image_HWC)
        height, width = image_HWC.shape[:2]
        scale = min(self._size[0] / height, self._size[1] / width)
        inside = max(1, int(height * scale)), max(1, int(width * scale))
        seen = np.zeros((*self._size, 3), np.uint8)
        seen[: inside[0], : inside[1]] = cv2.resize(image_HWC, inside[::-1])
        input_BCHW = ((seen.astype(np.float32) - 127.5) / 128).transpose(2, 0, 1)[None]
        outputs = self._session.run(None, {self._input: np.ascontiguousarray(input_BCHW)})
        parts = [
            decode_stride(outputs[i], outputs[i + 3], outputs[i + 6], stride, self._size, min_score)
            for i, stride in enumerate(STRIDES)
        ]
        # The convention counts pixels by their middles; here the middle of the first one is (0.5, 0.5).
        found = concatenate(parts).transform(np.full(2, 1 / scale), np.full(2, 0.5))
        return suppress_overlaps(found, MAX_IOU).detections()


def decode_stride(
    scores: np.ndarray,
    boxes: np.ndarray,
    points: np.ndarray,
    stride: int,
    size: tuple[int, int],
    min_score: float,
) -> Candidates:
    """Return the faces of one stride, in pixels of the input counted by their middles.

    scores (A, 1), boxes (A, 4) and points (A, 10), each with or without a leading batch of one; anchors row
    by row, `ANCHORS` a cell. size: height and width of the input.
    """
    scores, boxes, points = scores.reshape(-1), boxes.reshape(-1, 4), points.reshape(-1, 5, 2)
    rows, columns = np.mgrid[: size[0] // stride, : size[1] // stride]
    anchors = np.repeat(np.stack([columns.ravel(), rows.ravel()], axis=1), ANCHORS, axis=0) * stride
    if len(scores) != len(anchors):
        raise ModelError(
            f"The detector gives {count_noun(len(scores), 'score')} at a stride of {stride}, expected "
            f"{len(anchors):,}; it does not keep to SCRFD's convention."
        )
    kept = np.flatnonzero(scores >= min_score)
    middles, sides = anchors[kept].astype(np.float32), boxes[kept] * stride
    return Candidates(
        boxes=np.concatenate([middles - sides[:, :2], middles + sides[:, 2:]], axis=1).astype(np.float32),
        points=(middles[:, None] + points[kept] * stride).astype(np.float32),
        scores=scores[kept].astype(np.float32),
    )


def _check_input(session: InferenceSession, path: Path) -> tuple[str, tuple[int, int]]:
    """Return the input's name and its height and width."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = [side if isinstance(side, int) else SIDE for side in inputs[0].shape] if len(inputs) == 1 else []
    if len(shape) != 4 or len(outputs) != 9 or shape[2] % 32 or shape[3] % 32:
        raise ModelError(
            f"The detector {path} does not keep to SCRFD's convention: expected one input (1, 3, height, "
            f"width) and nine outputs, got {count_noun(len(inputs), 'input')} of shape {shape} and "
            f"{count_noun(len(outputs), 'output')}."
        )
    return str(inputs[0].name), (shape[2], shape[3])
