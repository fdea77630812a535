"""Average a score per group of faces, such as age bands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faceum.errors import DataError
from faceum.metrics.checks import check_finite, check_same_length
from faceum.metrics.intervals import Interval, bootstrap_mean

AGE_BANDS = ((0, 2), (3, 9), (10, 19), (20, 29), (30, 39), (40, 49), (50, 59), (60, 69), (70, 200))
"""First and last whole year of each band."""


@dataclass(frozen=True, kw_only=True)
class GroupScore:
    """One group's mean score and its bootstrap interval, in the score's unit, over `count` images."""

    group: str
    count: int
    mean: float
    interval: Interval


def group_scores(values: np.ndarray | Sequence[float], groups: Sequence[str | None]) -> list[GroupScore]:
    """Return the mean of values (N,) per group, sorted by group; rows whose group is None are left out."""
    values = check_finite("scores", values)
    check_same_length(scores=values, groups=np.asarray(groups, object))
    rows = []
    for group in sorted({group for group in groups if group is not None}):
        inside = values[[name == group for name in groups]]
        rows.append(
            GroupScore(
                group=group, count=len(inside), mean=float(inside.mean()), interval=bootstrap_mean(inside)
            )
        )
    return rows


def age_band(years: float) -> str:
    """Return the band of an age, "00-02" to "70+"; names sort by age. Raises DataError if it is no age."""
    if not 0 <= years < AGE_BANDS[-1][1]:
        raise DataError(f"Expected an age from 0 to {AGE_BANDS[-1][1]} years, got {years}.")
    first, last = next((first, last) for first, last in AGE_BANDS if np.floor(years) <= last)
    return f"{first}+" if last == AGE_BANDS[-1][1] else f"{first:02d}-{last:02d}"
