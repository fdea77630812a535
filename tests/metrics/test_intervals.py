"""Bootstrap intervals against scipy's, and their seed."""

import numpy as np
import pytest
from scipy import stats

from faceum.errors import DataError
from faceum.metrics.intervals import bootstrap, bootstrap_many, bootstrap_mean


def test_agrees_with_scipy():
    values = np.random.default_rng(0).normal(5, 2, 200)
    ours = bootstrap_mean(values, resamples=4000)
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=4000, method="percentile", rng=1
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.high, abs=0.02)
    assert ours.level == 0.95


def test_seed_decides():
    values = np.arange(50.0)
    assert bootstrap_mean(values, seed=3) == bootstrap_mean(values, seed=3)
    assert bootstrap_mean(values, seed=3) != bootstrap_mean(values, seed=4)


def test_constant_has_no_width():
    interval = bootstrap_mean([2.0, 2.0, 2.0])
    assert (interval.low, interval.high) == (2, 2)


def test_resamples_without_a_value_are_left_out():
    def share_of_first(rows: np.ndarray) -> float:
        return float((rows == 0).mean()) if (rows == 0).any() else float("nan")

    assert bootstrap(share_of_first, 3).low >= 1 / 3


@pytest.mark.parametrize(
    ("statistic", "count", "level", "sentence"),
    [
        (lambda rows: 1.0, 0, 0.95, "no rows"),
        (lambda rows: float("nan"), 3, 0.95, "No resample"),
        (lambda rows: 1.0, 3, 1.0, "between 0 and 1"),
    ],
)
def test_values_without_an_interval_are_refused(statistic, count, level, sentence):
    with pytest.raises(DataError, match=sentence):
        bootstrap(statistic, count, level=level, resamples=5)


def test_many_numbers_have_the_intervals_that_each_has_alone():
    values = np.random.default_rng(3).normal(size=(40, 2))

    def means(rows):
        return np.array([*values[rows].mean(axis=0), np.nan])

    first, second, nothing = bootstrap_many(means, 40, resamples=200)
    for column, interval in enumerate((first, second)):
        alone = bootstrap_mean(values[:, column], resamples=200)
        assert (interval.low, interval.high) == pytest.approx((alone.low, alone.high))
    assert nothing is None
    with pytest.raises(DataError, match="no rows"):
        bootstrap_many(means, 0)
