"""Another recognition network in place of ours: any ONNX file in insightface's convention.

Such a network takes faces of 112 x 112 pixels, RGB, aligned by five points to the ArcFace template, as (x -
127.5) / 127.5, channels first, and has one output, an embedding a face. Source of the template:
insightface/utils/face_align.py (MIT licence).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from faceum.crop import CropSpec
from faceum.errors import ModelError
from faceum.weights.registry import model_id

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from faceum.runner import NetworkCard, Runner

SPEC = CropSpec(policy="arcface", size=112, grid=1, eye_distance=0.3146, eye_height=0.4652)
"""How faces are cut for such a network; distance and height of the eyes serve where only a box is known."""

MIDDLE = 127.5
"""Subtracted from pixels, and what they are divided by."""


class Recognizer:
    """A recognition network in insightface's convention. Threads may share one."""

    def __init__(self, path: str | Path, *, threads: int | None = None, device: str = "cpu") -> None:
        """Load the file; ModelError where it is missing or does not keep to the convention.

        threads: threads per run; None for all that affinity and cgroup allow. device: see `open_session`.
        """
        from faceum.onnx_session import SESSION_ERRORS, open_session

        self.path = Path(path).expanduser()
        if self.path.suffix.lower() != ".onnx" or not self.path.is_file():
            raise ModelError(f"The recognizer {str(path)!r} is no .onnx file; give the path of one.")
        try:
            self._session = open_session(self.path, threads=threads, device=device)
        except SESSION_ERRORS as error:
            raise ModelError(f"The recognizer {path} cannot be loaded by onnxruntime ({error}).") from None
        self._batch, self._input = _check_session(self._session, self.path)
        self.model_id = model_id(self.path, self.path.stem)
        """The file as name@sha256[:8]."""

    def embed(self, crops_BSSC: np.ndarray) -> np.ndarray:
        """Return embeddings (B, D) float32 of uint8 RGB crops (B, 112, 112, 3) aligned by `SPEC`."""
        values = (crops_BSSC.astype(np.float32) - MIDDLE) / MIDDLE
        crop_BCHW = np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        size = self._batch or max(1, len(crop_BCHW))
        parts = [self._run(crop_BCHW[start : start + size]) for start in range(0, len(crop_BCHW), size)]
        return np.concatenate(parts).astype(np.float32)

    def _run(self, crop_BCHW: np.ndarray) -> np.ndarray:
        count = len(crop_BCHW)
        if self._batch is not None and count < self._batch:  # the file has a fixed batch size
            filler = np.zeros((self._batch - count, *crop_BCHW.shape[1:]), np.float32)
            crop_BCHW = np.concatenate([crop_BCHW, filler])
        (output,) = self._session.run(None, {self._input: crop_BCHW})
        return np.asarray(output)[:count]


class RecognizerRunner:
    """A runner whose embeddings come from a `Recognizer`, and all other answers from the runner within."""

    def __init__(self, inner: Runner, recognizer: Recognizer) -> None:
        """inner: answers all other tasks; its own recognition is not run."""
        self._inner, self._recognizer = inner, recognizer
        self.card = _add_recognizer(inner.card)
        self.runtime, self.device = inner.runtime, inner.device

    @property
    def model_id(self) -> str:
        """The recognizer's id, because it is embeddings that must not be mixed."""
        return self._recognizer.model_id

    def run(
        self, crops_BSSC: np.ndarray, face_tokens_BN: np.ndarray, tasks: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Run the network; see `Runner.run`. Recognition has its own crops, so it must be the only task."""
        if list(tasks) == ["recognition"]:
            return {"recognition": self._recognizer.embed(crops_BSSC)}
        return self._inner.run(crops_BSSC, face_tokens_BN, tasks)


def _add_recognizer(card: NetworkCard) -> NetworkCard:
    """Return the card with the recognizer's crop policy for recognition."""
    crops = [(spec, tuple(task for task in tasks if task != "recognition")) for spec, tasks in card.crops]
    kept = [(spec, tasks) for spec, tasks in crops if tasks]
    others = tuple(task for task in card.tasks if task != "recognition")
    return replace(card, tasks=("recognition", *others), crops=(*kept, (SPEC, ("recognition",))))


def _check_session(session: InferenceSession, path: Path) -> tuple[int | None, str]:
    """Return the file's batch size, None for any, and its input's name."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = list(inputs[0].shape) if len(inputs) == 1 else []
    fixed = [side if isinstance(side, int) else None for side in shape]
    fits = len(fixed) == 4 and all(
        side in (None, expected) for side, expected in zip(fixed[1:], (3, SPEC.size, SPEC.size), strict=True)
    )
    if not fits or len(outputs) != 1 or inputs[0].type != "tensor(float)":
        found = ", ".join(f"{entry.name} {entry.shape}" for entry in [*inputs, *outputs])
        raise ModelError(
            f"The recognizer {path} does not keep to insightface's convention: expected one float input "
            "(batch, 3, "
            f"{SPEC.size}, {SPEC.size}) and one output, got {found}."
        )
    return fixed[0], str(inputs[0].name)
