"""Estimate confidence intervals by a seeded bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from faceum.errors import DataError
from faceum.metrics.checks import check_finite


@dataclass(frozen=True, kw_only=True)
class Interval:
    """The bounds that contain the share `level` of the resampled statistics, in the statistic's unit."""

    low: float
    high: float
    level: float


def bootstrap(
    statistic: Callable[[np.ndarray], float],
    count: int,
    *,
    resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Draw `count` rows with replacement, `resamples` times, and return percentiles of the statistic.

    statistic: takes (count,) row indices and returns a number; NaN, for example from a resample without the
        class, is left out. Rows are assumed to be independent: for pairs that share people the interval is
        slightly too narrow.
    Raises DataError if there is no row, or every resample gives NaN.
    """
    if count < 1:
        raise DataError("There are no rows to resample for a confidence interval; give at least one.")
    if not 0 < level < 1:
        raise DataError(f"Expected a confidence level between 0 and 1, got {level}.")
    rng = np.random.default_rng(seed)
    drawn = np.array([statistic(rng.integers(0, count, count)) for _ in range(resamples)], np.float64)
    drawn = drawn[~np.isnan(drawn)]
    if len(drawn) == 0:
        raise DataError("No resample gave the statistic a value, so it has no confidence interval.")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high), level=level)


def bootstrap_mean(
    values: np.ndarray | Sequence[float], *, resamples: int = 1000, level: float = 0.95, seed: int = 0
) -> Interval:
    """Return the interval of the mean of values (N,)."""
    rows = check_finite("values", values)
    return bootstrap(
        lambda drawn: float(rows[drawn].mean()), len(rows), resamples=resamples, level=level, seed=seed
    )


def bootstrap_many(
    statistic: Callable[[np.ndarray], np.ndarray],
    count: int,
    *,
    resamples: int = 300,
    level: float = 0.95,
    seed: int = 0,
) -> list[Interval | None]:
    """Return an interval for each of the K numbers that `statistic` returns for (count,) row indices.

    The interval of a number that is NaN in every resample is None. Raises DataError if there is no row.
    """
    if count < 1:
        raise DataError("There are no rows to resample for confidence intervals; give at least one.")
    rng = np.random.default_rng(seed)
    drawn = np.stack([statistic(rng.integers(0, count, count)) for _ in range(resamples)])
    edges = [(1 - level) / 2, (1 + level) / 2]
    intervals: list[Interval | None] = []
    for column in drawn.T:
        known = column[~np.isnan(column)]
        low, high = np.quantile(known, edges) if len(known) else (np.nan, np.nan)
        intervals.append(Interval(low=float(low), high=float(high), level=level) if len(known) else None)
    return intervals
