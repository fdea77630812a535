"""Age scores against values worked by hand."""

import math

import pytest

from faceum.errors import DataError
from faceum.metrics.age import age_scores


def test_by_hand():
    scores = age_scores([20, 35, 52], [22, 30, 46], sigma=[2, 5, 3])
    assert scores.mae == pytest.approx((2 + 5 + 6) / 3)
    assert scores.cs5 == pytest.approx(2 / 3)
    assert scores.bias == pytest.approx((-2 + 5 + 6) / 3)
    assert scores.eps_error == pytest.approx(1 - (2 * math.exp(-0.5) + math.exp(-2)) / 3)
    assert scores.errors.tolist() == [-2, 5, 6]


def test_one_sigma_for_all_and_none():
    assert age_scores([20], [22], sigma=2).eps_error == pytest.approx(1 - math.exp(-0.5))
    assert age_scores([20], [22]).eps_error is None


@pytest.mark.parametrize(
    ("predicted", "true", "sigma", "sentence"),
    [
        ([math.nan, 3], [1, 2], None, "1 of 2 predicted ages are NaN or infinite, the first in row 0"),
        ([], [], None, "no predicted ages"),
        ([1], [1, 2], None, "equally many rows"),
        ([1], [1], 0, "above 0 years"),
    ],
)
def test_sets_that_cannot_be_scored_are_refused(predicted, true, sigma, sentence):
    with pytest.raises(DataError, match=sentence):
        age_scores(predicted, true, sigma)
