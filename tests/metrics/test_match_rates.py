"""Thresholds at fixed false match rates, against counting every pair one by one."""

from __future__ import annotations

import numpy as np
import pytest

from faceum.errors import DataError
from faceum.metrics.match_rates import (
    NEEDED,
    FaceVectors,
    different_pairs_across,
    different_pairs_listed,
    match_rates,
)


def faces(count: int, groups: int, seed: int = 0) -> FaceVectors:
    """Random faces in so many groups, each face a person of its own."""
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((count, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return FaceVectors(vectors=vectors, groups=rng.integers(0, groups, count), people=np.arange(count))


def counted(first: FaceVectors, second: FaceVectors | None) -> list[float]:
    """The cosines of all pairs of two groups, highest first, by two plain loops."""
    other = first if second is None else second
    cosines = []
    for i in range(len(first.vectors)):
        for j in range(i + 1 if second is None else 0, len(other.vectors)):
            if first.groups[i] != other.groups[j]:
                cosines.append(float(first.vectors[i] @ other.vectors[j]))
    return sorted(cosines, reverse=True)


@pytest.mark.parametrize("crossed", [False, True])
def test_every_pair_across_groups_is_counted_once(crossed: bool) -> None:
    first, second = faces(60, 5), faces(50, 5, seed=1) if crossed else None
    expected, pairs = counted(first, second), different_pairs_across(first, second)
    assert pairs.count == len(expected)
    assert len(pairs.cosines) >= 0.1 * len(expected)
    assert pairs.cosines == pytest.approx(expected[: len(pairs.cosines)], abs=1e-6)


def test_threshold_lets_through_no_more_than_its_rate() -> None:
    first = faces(200, 40)
    pairs = different_pairs_across(first)
    cosines = np.array(counted(first, None), np.float32)
    same = np.linspace(-1, 1, 501)
    for rate in match_rates(same, pairs):
        reached = float((cosines >= rate.cosine).mean())
        assert reached <= rate.fmr
        assert rate.tmr == pytest.approx(float((same >= rate.cosine).mean()))
        assert rate.tmr_low <= rate.tmr <= rate.tmr_high
        if rate.measured:
            assert reached == pytest.approx(rate.fmr, abs=1.5 / len(cosines))
            assert rate.fmr_low is not None and rate.fmr_high is not None
            assert rate.fmr_low <= rate.fmr <= rate.fmr_high


def test_rates_beyond_the_pairs_are_extrapolated_and_say_so() -> None:
    cosines = np.linspace(0, 1, 10 * NEEDED)
    rates = match_rates(np.array([0.9, 0.99]), different_pairs_listed(cosines), (1e-1, 1e-2, 1e-3, 1e-4))
    # A tenth of the cosines lies above 0.9, a hundredth above 0.99: 0.09 a decade.
    assert [rate.measured for rate in rates] == [True, False, False, False]
    assert [rate.cosine for rate in rates[:2]] == pytest.approx([0.9, 0.99], abs=0.01)
    step = rates[1].cosine - rates[0].cosine
    assert rates[2].cosine == pytest.approx(min(1.01, rates[1].cosine + step))
    assert rates[3].cosine == 1.01
    assert rates[3].tmr == 0


def test_pairs_of_one_kind_are_refused() -> None:
    with pytest.raises(DataError, match="different people"):
        different_pairs_across(faces(5, 1))
    with pytest.raises(DataError, match="different people"):
        different_pairs_listed(np.zeros(0))
    with pytest.raises(DataError, match="one person"):
        match_rates(np.zeros(0), different_pairs_listed(np.zeros(9)))
