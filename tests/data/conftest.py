"""A made-up face for the data tests: 68 points by hand, and a small image that is not one colour."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture
def landmarks68() -> np.ndarray:
    """A frontal face (68, 2) in a 200 x 200 image, eyes at y 80, chin at y 165."""
    angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([100 + 55 * np.cos(angle), 85 + 80 * np.sin(angle)], axis=1)
    brows = [
        [x, 68 - 4 * np.sin((i % 5) / 4 * np.pi)]
        for i, x in enumerate((*range(55, 96, 10), *range(105, 146, 10)))
    ]
    ridge = [[100, y] for y in (80, 90, 100, 110)]
    nostrils = [[x, 117] for x in (90, 95, 100, 105, 110)]
    eyes = [
        [cx + dx, 80 + dy]
        for cx in (75, 125)
        for dx, dy in ((-11, 0), (-4, -4), (4, -4), (11, 0), (4, 4), (-4, 4))
    ]
    lips = [[80, 138], [87, 134], [95, 132], [100, 133], [105, 132], [113, 134], [120, 138]]
    lips += [[113, 144], [106, 147], [100, 148], [94, 147], [87, 144]]
    inner = [[84, 138], [95, 137], [100, 138], [105, 137], [116, 138], [105, 140], [100, 141], [95, 140]]
    points = np.array([*jaw, *brows, *ridge, *nostrils, *eyes, *lips, *inner], np.float32)
    assert points.shape == (68, 2)
    return points


@pytest.fixture
def image() -> np.ndarray:
    """A 200 x 200 RGB image of smooth colours with some noise."""
    y, x = np.mgrid[0:200, 0:200]
    noise = np.random.default_rng(0).integers(0, 12, (200, 200))
    return np.stack([150 + x // 4 + noise, 110 + y // 4 + noise, 90 + noise], axis=-1).astype(np.uint8)


@pytest.fixture
def put(image: np.ndarray) -> Callable[..., Path]:
    """Write an image of its own at a path, folders included: put(path), or put(path, array)."""

    def write(path: Path, pixels: np.ndarray | None = None) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        if pixels is None:
            blots = np.random.default_rng(zlib.crc32(str(path).encode())).integers(0, 60, (10, 10, 3))
            pixels = np.clip(image.astype(int) + np.kron(blots, np.ones((20, 20, 1), int)), 0, 255)
            pixels = pixels.astype(np.uint8)
        assert cv2.imwrite(str(path), pixels)
        return path

    return write
