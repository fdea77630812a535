"""An ONNX file as a function, uint8 images in, arrays out: opened at first use, thread-safe."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from faceum.threads import usable_threads

QUIET = 3
"""onnxruntime's severity "error": shape notes about our own files are no news to a user."""


class Session:
    """One network in onnxruntime on the CPU, loaded when it is first run."""

    def __init__(self, find_file: Callable[[], Path], *, threads: int | None = None) -> None:
        """Remember what to load.

        find_file: gives the ONNX file when it is needed; may raise ModelError.
        threads: threads of one run; None for as many as affinity and cgroup leave us.
        """
        self._find_file = find_file
        self._threads = usable_threads(threads)
        self._lock = threading.Lock()
        self._session: onnxruntime.InferenceSession | None = None

    def run(self, image_BHWC: np.ndarray) -> list[np.ndarray]:
        """All outputs, in the file's order, for uint8 RGB images (B, H, W, 3)."""
        outputs: list[np.ndarray] = self._open().run(None, {"image": image_BHWC})
        return outputs

    def _open(self) -> onnxruntime.InferenceSession:
        with self._lock:
            if self._session is None:
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = self._threads
                options.inter_op_num_threads = 1
                options.log_severity_level = QUIET
                # Threads that spin while they wait starve each other as soon as the processors are shared.
                options.add_session_config_entry("session.intra_op.allow_spinning", "0")
                self._session = onnxruntime.InferenceSession(
                    str(self._find_file()), options, providers=["CPUExecutionProvider"]
                )
            return self._session
