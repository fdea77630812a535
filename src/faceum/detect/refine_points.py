"""Sharper five points: measures the points of each face again, starting from rough ones.

The network is the O-Net of MTCNN (arXiv 1604.02878), of which the points and the probability of a face are
used. Each face is rotated upright and scaled to one size by its rough points before the network sees it, so
faces on their side gain most. A second round starts from the first round's points and also measures the
mirrored face.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from faceum.geometry import invert, similarity_from_points, transform_points, warp
from faceum.onnx_session import LazySession
from faceum.weights.registry import asset_path

SIDE = 48
"""Pixels per side of the network's input."""
UPRIGHT = np.array([[14.4, 17.2], [33.6, 17.2], [24.0, 28.0], [16.0, 37.2], [32.0, 37.2]])
"""Position of the five points in the input, (5, 2): the network's own mean answer on well-placed faces."""
SECOND_SIZE = 1.05
"""The second round sees faces a little larger than `UPRIGHT`; measured, docs/log.md."""
MIRRORED = [1, 0, 2, 4, 3]
"""Index of each point of the face among the points of the mirrored face."""
BATCH = 64
"""Faces per run, which bounds the memory that a crowd needs."""


class FivePoints:
    """Measures five points of faces whose points are roughly known. Threads may share one."""

    def __init__(self, *, threads: int | None = None, device: str = "cpu") -> None:
        """Prepare the network; see `load_detector` for threads and device."""
        self._session = LazySession(_weights_file, threads=threads, device=device)

    def refine(self, image_HWC: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Return better points (n, 5, 2) float32 for rough ones (n, 5, 2), in pixels of the image."""
        return self.measure(image_HWC, points)[0]

    def measure(self, image_HWC: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return better points (n, 5, 2) float32, and the probability (n,) that each face is one.

        points: rough ones (n, 5, 2), in pixels of the image. The probability is the mean of the face and its
        mirror image, both turned upright by the points; it is also low for a face with wrong points.
        """
        better, probabilities = [points[:0]], [np.zeros(0)]
        for start in range(0, len(points), BATCH):
            rough = self._first_round(image_HWC, points[start : start + BATCH])
            sharp, probability = self._second_round(image_HWC, rough)
            better.append(sharp)
            probabilities.append(probability)
        return np.concatenate(better).astype(np.float32), np.concatenate(probabilities)

    def _first_round(self, image_HWC: np.ndarray, points: np.ndarray) -> np.ndarray:
        frames = [similarity_from_points(face, UPRIGHT) for face in points]
        return _to_image(frames, self._points_in(_patches(image_HWC, frames))[0])

    def _second_round(self, image_HWC: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        upright = (UPRIGHT - SIDE / 2) * SECOND_SIZE + SIDE / 2
        frames = [similarity_from_points(face, upright) for face in points]
        patches = _patches(image_HWC, frames)
        seen, probability = self._points_in(patches)
        mirrored, of_mirrored = self._points_in(np.ascontiguousarray(patches[:, :, ::-1]))
        mirrored = mirrored[:, MIRRORED]
        mirrored[..., 0] = SIDE - mirrored[..., 0]
        return _to_image(frames, (seen + mirrored) / 2), (probability + of_mirrored) / 2

    def _points_in(self, patches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return points (n, 5, 2) in pixels of patches (n, 48, 48, 3), and their probabilities (n,)."""
        _, shares, faces = self._session.run(patches)  # shares: five x, then five y
        return shares.reshape(-1, 2, 5).transpose(0, 2, 1) * SIDE, faces[:, 1].astype(np.float64)


def _patches(image_HWC: np.ndarray, frames: list[np.ndarray]) -> np.ndarray:
    return np.stack([warp(image_HWC, frame, (SIDE, SIDE)) for frame in frames])


def _to_image(frames: list[np.ndarray], points: np.ndarray) -> np.ndarray:
    return np.stack(
        [transform_points(invert(frame), face) for frame, face in zip(frames, points, strict=True)]
    )


def _weights_file() -> Path:
    return asset_path("centerface", "points", kind="detector")
