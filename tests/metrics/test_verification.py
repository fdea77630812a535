"""Verification against hand-worked pairs, a transcription of the LFW loop, and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from faceum.errors import DataError
from faceum.metrics.verification import measure_squared_distances, operating_point, roc, verify_folds


def some_pairs(seed: int, count: int = 600) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    same = rng.random(count) < 0.5
    return np.clip(rng.normal(np.where(same, 1.0, 1.6), 0.3), 0, 4), same


def test_squared_distance_is_twice_one_minus_cosine():
    a = np.array([[3.0, 0.0], [1.0, 1.0]])
    b = np.array([[0.0, 5.0], [2.0, 2.0]])
    assert measure_squared_distances(a, b) == pytest.approx([2.0, 0.0])


def test_folds_by_hand():
    # The second fold alone says that anything from 0.51 separates 0.5 from 1.5, so 0.51 is used on the first
    # fold, where it rejects the pair at 0.9. The first fold says 0.91, right for both pairs of the second.
    distances = [0.9, 1.7, 0.5, 1.5]
    same = [True, False, True, False]
    scores = verify_folds(distances, same, [7, 7, 3, 3])
    assert scores.fold_thresholds == pytest.approx((0.51, 0.91))
    assert scores.fold_accuracies == (0.5, 1.0)
    assert scores.accuracy == 0.75
    assert scores.deviation == 0.25
    assert scores.correct.tolist() == [False, True, True, True]


def test_folds_equal_the_plain_loop():
    distances, same = some_pairs(1)
    folds = np.repeat(np.arange(10), 60)
    accuracies = []
    for fold in range(10):
        best, best_right = 0.0, -1
        for step in range(400):
            right = sum(
                (d < step * 0.01) == s for d, s, f in zip(distances, same, folds, strict=True) if f != fold
            )
            if right > best_right:
                best, best_right = step * 0.01, right
        judged = [(d < best) == s for d, s, f in zip(distances, same, folds, strict=True) if f == fold]
        accuracies.append(sum(judged) / len(judged))
    scores = verify_folds(distances, same, folds)
    assert scores.fold_accuracies == pytest.approx(accuracies)
    assert scores.correct.mean() == pytest.approx(scores.accuracy)


def test_operating_points_by_hand():
    distances = [0.2, 0.6, 1.0, 0.5, 1.2, 1.4, 1.6]
    same = [True, True, True, False, False, False, False]
    strict = operating_point(distances, same, 1e-3)
    assert (strict.threshold, strict.tar, strict.far_reached) == (0.5, pytest.approx(1 / 3), 0)
    assert not strict.supported
    quarter = operating_point(distances, same, 0.25)
    assert (quarter.threshold, quarter.tar, quarter.far_reached) == (1.2, 1.0, 0.25)
    assert quarter.supported


def test_operating_point_never_exceeds_the_rate_even_with_ties():
    point = operating_point([0.1, 0.3, 0.3, 0.3, 0.9], [True, False, False, False, True], 0.34)
    assert point.far_reached == 0
    assert point.tar == 0.5


def test_roc_equals_scikit_learn():
    distances, same = some_pairs(2)
    distances = np.round(distances, 2)
    ours = roc(distances, same)
    far, tar, _ = roc_curve(same, -distances, drop_intermediate=False)
    assert ours.far == pytest.approx(far)
    assert ours.tar == pytest.approx(tar)
    assert ours.area == pytest.approx(roc_auc_score(same, -distances))


def test_equal_error_by_hand():
    # At a threshold between 0.4 and 0.6 one of two strangers passes and one of two friends is refused.
    assert roc([0.2, 0.6, 0.4, 0.8], [True, True, False, False]).equal_error == pytest.approx(0.5)
    assert roc([0.1, 0.2, 0.8, 0.9], [True, True, False, False]).equal_error == 0


@pytest.mark.parametrize(
    ("distances", "same", "sentence"),
    [
        ([0.1, 0.2], [False, False], "No pair shows the same person"),
        ([0.1, 0.2], [True, True], "No pair shows two different people"),
        ([0.1, np.nan], [True, False], "1 of 2 distances are NaN"),
        ([], [], "no distances to score"),
        ([0.1, 0.2, 0.3], [True, False], "equally many rows"),
    ],
)
def test_sets_that_cannot_be_scored_are_refused(distances, same, sentence):
    for score in (lambda: verify_folds(distances, same, [0] * len(distances)), lambda: roc(distances, same)):
        with pytest.raises(DataError, match=sentence):
            score()


def test_one_fold_has_no_others_to_choose_on():
    with pytest.raises(DataError, match="two folds.*got 1"):
        verify_folds([0.1, 0.2], [True, False], [0, 0])


def test_zero_embedding_is_refused():
    with pytest.raises(DataError, match="all zeros"):
        measure_squared_distances(np.zeros((1, 4)), np.ones((1, 4)))
