"""Landmark scores against faces moved by a known distance, and an integrated error distribution."""

import numpy as np
import pytest

from faceum.errors import DataError
from faceum.metrics.landmarks import cumulative_errors, landmark_scores, measure_normalized_errors


def faces(count: int, eye_distance: float = 50.0) -> np.ndarray:
    points = np.random.default_rng(0).random((count, 68, 2)) * 100
    points[:, 36], points[:, 45] = (20, 40), (20 + eye_distance, 40)
    return points


def test_by_hand():
    true = faces(4)
    moved = true + np.array([3.0, 4.0])[None, None] * np.array([0, 0.5, 0.9, 2])[:, None, None]
    scores = landmark_scores(moved, true)
    assert scores.errors == pytest.approx([0, 0.05, 0.09, 0.2])
    assert scores.nme == pytest.approx(0.085)
    assert scores.failure_rate == 0.25
    assert scores.auc == pytest.approx((1 + 0.5 + 0.1 + 0) / 4)
    assert scores.point_errors == pytest.approx(np.full(68, 0.085))


def test_one_wrong_point_counts_one_part_in_68():
    true = faces(1)
    moved = true.copy()
    moved[0, 8, 0] += 50
    assert landmark_scores(moved, true).nme == pytest.approx(1 / 68)
    assert measure_normalized_errors(moved, true)[0, 8] == pytest.approx(1)


def test_missed_face_fails_whatever_its_points():
    true = faces(2)
    scores = landmark_scores(true, true, missed=[False, True])
    assert (scores.nme, scores.failure_rate, scores.auc) == (0, 0.5, 0.5)


def test_area_equals_the_integral_of_the_distribution():
    true = faces(200)
    moved = true + np.random.default_rng(1).normal(0, 3, true.shape)
    scores = landmark_scores(moved, true)
    grid = np.linspace(0, 0.1, 200_001)
    share = np.searchsorted(np.sort(scores.errors), grid, side="right") / 200
    assert scores.auc == pytest.approx(share[:-1].mean(), abs=1e-5)
    steps, shares = cumulative_errors(scores.errors)
    assert (steps[0], steps[-1]) == (0, 0.1)
    assert shares[-1] == pytest.approx(1 - scores.failure_rate)


@pytest.mark.parametrize(
    ("predicted", "true", "sentence"),
    [
        (np.full((1, 68, 2), np.nan), faces(1), "136 of 136 predicted points are NaN"),
        (faces(1)[:, :67], faces(1), r"predicted landmarks.*got \(1, 67, 2\)"),
        (faces(2), faces(1), "equally many rows"),
        (faces(1), faces(1, eye_distance=0), "both outer eye corners in one place"),
    ],
)
def test_sets_that_cannot_be_scored_are_refused(predicted, true, sentence):
    with pytest.raises(DataError, match=sentence):
        landmark_scores(predicted, true)
