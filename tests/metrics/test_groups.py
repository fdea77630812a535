"""Group tables by hand, and the bands that ages fall into."""

import math

import pytest

from faceum.errors import DataError
from faceum.metrics.groups import age_band, group_scores


def test_by_hand():
    rows = group_scores([1, 3, 5, 100], ["b", "a", "a", None])
    assert [(row.group, row.count, row.mean) for row in rows] == [("a", 2, 4.0), ("b", 1, 1.0)]
    assert rows[0].interval.low == 3
    assert rows[0].interval.high == 5


@pytest.mark.parametrize(
    ("years", "band"),
    [(0, "00-02"), (2.9, "00-02"), (3, "03-09"), (19, "10-19"), (20, "20-29"), (69, "60-69"), (116, "70+")],
)
def test_bands(years, band):
    assert age_band(years) == band


def test_no_age_gives_a_sentence():
    for years in (-1, 200, math.nan):
        with pytest.raises(DataError, match="age from 0 to 200"):
            age_band(years)
    with pytest.raises(DataError, match="1 of 1 scores are NaN"):
        group_scores([math.nan], ["a"])
