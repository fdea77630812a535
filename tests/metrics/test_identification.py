"""Open-set identification, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from faceum.errors import DataError
from faceum.metrics.identification import identify

STRANGERS = np.array([[0.1, 0.2], [0.3, 0.5], [0.4, 0.1], [0.2, 0.2]])
MATED = np.array([[0.9, 0.1], [0.45, 0.2], [0.7, 0.3], [0.3, 0.6]])
RIGHT = np.array([0, 0, 1, 1])


def test_rates_are_those_counted_by_hand() -> None:
    # One stranger of four may pass: the threshold lies just above the second highest, 0.4.
    found = identify(MATED, RIGHT, STRANGERS, 0.25)
    assert found.threshold == pytest.approx(0.4)
    assert (found.rank1, found.dir, found.far) == (0.75, 0.75, 0.25)
    # None may pass: just above 0.5, where the second probe no longer counts.
    found = identify(MATED, RIGHT, STRANGERS, 0.01)
    assert (found.rank1, found.dir, found.far) == (0.75, 0.5, 0.0)


@pytest.mark.parametrize(("mated", "strangers"), [(0, 4), (4, 0)])
def test_both_kinds_of_probes_are_needed(mated: int, strangers: int) -> None:
    with pytest.raises(DataError, match="strangers"):
        identify(MATED[:mated], RIGHT[:mated], STRANGERS[:strangers])
