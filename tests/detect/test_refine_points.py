"""Sharper points: rough ones come nearer, whatever way they are wrong; a crowd is no trouble."""

from __future__ import annotations

import numpy as np
import pytest

from faceum.detect.refine_points import BATCH, FivePoints

POINTS = np.array([[203.5, 101.2], [246.8, 103.4], [223.5, 127.0], [202.8, 140.2], [246.8, 140.6]])
EYES = 43.3


@pytest.fixture(scope="module")
def five_points() -> FivePoints:
    return FivePoints(threads=1)


@pytest.mark.parametrize("seed", range(4))
def test_rough_points_become_good_ones(five_points: FivePoints, portrait: np.ndarray, seed: int) -> None:
    random = np.random.default_rng(seed)
    rough = POINTS + random.normal(0, 0.08 * EYES, (5, 2)) + random.normal(0, 0.08 * EYES, 2)
    before = np.linalg.norm(rough - POINTS, axis=1).mean()
    (better,) = five_points.refine(portrait, rough[None].astype(np.float32))
    after = np.linalg.norm(better - POINTS, axis=1)
    assert after.max() < 0.1 * EYES and after.mean() < before


def test_mirrored_face_has_the_mirrored_points(five_points: FivePoints, portrait: np.ndarray) -> None:
    swap = [1, 0, 2, 4, 3]
    (plain,) = five_points.refine(portrait, POINTS[None].astype(np.float32))
    mirrored = (POINTS * (-1, 1) + (512, 0))[swap]
    (other,) = five_points.refine(portrait[:, ::-1], mirrored[None].astype(np.float32))
    back = (other * (-1, 1) + (512, 0))[swap]
    assert np.linalg.norm(plain - back, axis=1).max() < 0.02 * EYES


def test_no_faces_and_more_than_a_batch(five_points: FivePoints, portrait: np.ndarray) -> None:
    assert five_points.refine(portrait, np.zeros((0, 5, 2), np.float32)).shape == (0, 5, 2)
    many = np.repeat(POINTS[None].astype(np.float32), BATCH + 3, axis=0)
    points = five_points.refine(portrait, many)
    assert points.shape == many.shape and points.dtype == np.float32
    np.testing.assert_allclose(points, points[:1].repeat(len(many), axis=0), atol=1e-3)
