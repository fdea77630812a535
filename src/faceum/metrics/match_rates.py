"""Cosine thresholds at fixed false match rates, from pairs of one person and of different people.

A pair matches when its cosine is at or above a threshold. The false match rate (FMR) is the share of pairs of
different people that match, the true match rate (TMR) that of pairs of one person. Legend: P pairs, n faces,
D numbers of an embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from faceum.errors import DataError
from faceum.metrics.intervals import bootstrap_mean
from faceum.weights.thresholds import NEEDED, MatchRate

RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
"""The false match rates whose thresholds are measured."""

MOST_FACES = 6000
"""The number of faces that are compared at most; pairs of more would need too much memory."""

RESAMPLES = 200
"""Bootstrap samples of people for the interval of a false match rate."""

BLOCK = 512
"""Faces that are compared with all others at once."""


@dataclass(frozen=True, kw_only=True, eq=False)
class FaceVectors:
    """Faces whose pairs across groups show different people.

    vectors: (n, D) float32 of length 1. groups: (n,) ints; two faces of different groups are different
    people. people: (n,) ints, what the intervals resample: people where they are known, else faces.
    """

    vectors: np.ndarray
    groups: np.ndarray
    people: np.ndarray

    def thin(self, most: int = MOST_FACES) -> FaceVectors:
        """Return at most `most` of the faces, evenly spaced."""
        rows = np.arange(0, len(self.vectors), max(1, -(-len(self.vectors) // most)))
        return FaceVectors(vectors=self.vectors[rows], groups=self.groups[rows], people=self.people[rows])


@dataclass(frozen=True, kw_only=True, eq=False)
class DifferentPairs:
    """Pairs of different people.

    cosines: the highest ones, descending: at least the highest tenth. count: of all pairs. ranks,
    low, high: (R,) for the first so many of `cosines`, the 95 % interval of their share of all pairs.
    """

    cosines: np.ndarray
    count: int
    ranks: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def interval(self, rank: int) -> tuple[float, float]:
        """Return the 95 % interval of the share of pairs that the first `rank` are, by interpolation."""
        return float(np.interp(rank, self.ranks, self.low)), float(np.interp(rank, self.ranks, self.high))


def different_pairs_across(first: FaceVectors, second: FaceVectors | None = None) -> DifferentPairs:
    """Compare every face with every face of another group; if second is None, of `first` itself.

    Raises DataError if there is no such pair.
    """
    first = first.thin()
    second = None if second is None else second.thin()
    count = _weigh_pairs(
        np.ones(len(first.groups)), first, None if second is None else np.ones(len(second.groups)), second
    )
    if count < 1:
        raise DataError("There is no pair of different people, so no false match can be counted; add people.")
    floor = _cosine_at(first, second, int(np.ceil(0.1 * count)) + 1)
    rows, columns, cosines = (
        np.concatenate(part)
        for part in zip(*((r, c, s) for r, c, s in _select_pairs(first, second, floor)), strict=True)
    )
    order = np.argsort(-cosines, kind="stable")
    ranks = _rank_rates(round(count), len(cosines))
    drawn = [
        _resample(first, second, rows[order], columns[order], np.random.default_rng(seed))[ranks - 1]
        for seed in range(RESAMPLES)
    ]
    low, high = np.quantile(np.stack(drawn), [0.025, 0.975], axis=0)
    return DifferentPairs(cosines=cosines[order], count=round(count), ranks=ranks, low=low, high=high)


def different_pairs_listed(cosines: np.ndarray) -> DifferentPairs:
    """Return the record of a list of pairs, (P,) cosines; the intervals resample pairs.

    Raises DataError if the list is empty.
    """
    if not len(cosines):
        raise DataError(
            "There is no pair of different people, so no false match can be counted; add such pairs."
        )
    ordered = np.sort(cosines)[::-1]
    ranks = _rank_rates(len(ordered), len(ordered))
    rng = np.random.default_rng(0)
    drawn = np.stack([rng.binomial(len(ordered), ranks / len(ordered)) for _ in range(RESAMPLES)]) / len(
        ordered
    )
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    return DifferentPairs(cosines=ordered, count=len(ordered), ranks=ranks, low=low, high=high)


def match_rates(
    same: np.ndarray, different: DifferentPairs, rates: Sequence[float] = RATES
) -> tuple[MatchRate, ...]:
    """Return the threshold at each rate, highest rate first, for (P,) cosines of pairs of one person.

    A threshold lets through at most the asked share of `different`. Rates too low for the number of pairs are
    extrapolated: the threshold rises by as much a decade as between the last two measured rates, which is
    careful where the tail falls faster than exponentially, as that of cosines does. They are left out where
    there are not two rates to go by. Raises DataError where there is no pair of one person.
    """
    if not len(same):
        raise DataError("There is no pair of one person, so no true match can be counted; add such pairs.")
    found: list[MatchRate] = []
    for rate in rates:
        allowed = int(np.floor(rate * different.count + 1e-9))
        if allowed >= NEEDED or (allowed >= 1 and rate >= 1e-3):
            # Just above the first pair that is too many.
            cosine = float(np.nextafter(different.cosines[allowed], np.float32(2), dtype=np.float32))
            low, high = different.interval(allowed)
            found.append(_rate(same, rate, cosine, low, high, allowed >= NEEDED))
        elif len(found) >= 2:
            before, last = found[-2], found[-1]
            step = (last.cosine - before.cosine) / np.log10(before.fmr / last.fmr)
            cosine = min(1.01, last.cosine + step * np.log10(last.fmr / rate))
            found.append(_rate(same, rate, float(cosine), None, None, False))
    return tuple(found)


def _rank_rates(count: int, kept: int) -> np.ndarray:
    """Return how many pairs each rate accepts, ascending, up to the number of pairs that are kept."""
    ranks = {int(np.floor(rate * count + 1e-9)) for rate in RATES}
    return np.array(sorted(rank for rank in ranks if 1 <= rank <= kept) or [1])


def _rate(
    same: np.ndarray, rate: float, cosine: float, low: float | None, high: float | None, measured: bool
) -> MatchRate:
    matched = same >= cosine
    interval = bootstrap_mean(matched)
    return MatchRate(
        fmr=rate, cosine=cosine, tmr=float(matched.mean()), tmr_low=interval.low, tmr_high=interval.high,
        fmr_low=low, fmr_high=high, measured=measured,
    )  # fmt: skip


def _compare_blocks(
    first: FaceVectors, second: FaceVectors | None
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield blocks: first row, (b, m) cosines, and (b, m) bool, True once per pair of different people."""
    other = first if second is None else second
    for start in range(0, len(first.vectors), BLOCK):
        rows = slice(start, start + BLOCK)
        allowed = first.groups[rows, None] != other.groups[None]
        if second is None:
            index = np.arange(len(other.groups))
            allowed &= index[rows, None] < index[None]
        yield start, first.vectors[rows] @ other.vectors.T, allowed


def _cosine_at(first: FaceVectors, second: FaceVectors | None, rank: int) -> float:
    """Return a cosine that at least `rank` pairs reach, by a histogram of fine bins."""
    counts = np.zeros(20_000, np.int64)
    for _, cosines, allowed in _compare_blocks(first, second):
        bins = np.clip((cosines[allowed] + 1) * 10_000, 0, len(counts) - 1).astype(np.int64)
        counts += np.bincount(bins, minlength=len(counts))
    above = np.cumsum(counts[::-1])[::-1]
    reached = np.flatnonzero(above >= rank)
    return float(reached[-1] / 10_000 - 1) if len(reached) else -2.0


def _select_pairs(
    first: FaceVectors, second: FaceVectors | None, floor: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield rows, columns and cosines of the pairs at or above `floor`."""
    for start, cosines, allowed in _compare_blocks(first, second):
        rows, columns = np.nonzero(allowed & (cosines >= floor))
        yield rows + start, columns, cosines[rows, columns]


def _weigh_pairs(
    weights: np.ndarray, first: FaceVectors, others: np.ndarray | None, second: FaceVectors | None
) -> float:
    """Return the sum, over all pairs of different groups, of the product of both faces' weights."""
    groups = (
        max(int(first.groups.max(initial=0)), 0 if second is None else int(second.groups.max(initial=0))) + 1
    )
    by_group = np.bincount(first.groups, weights, groups)
    if second is None or others is None:
        return float((weights.sum() ** 2 - (by_group**2).sum()) / 2)
    return float(weights.sum() * others.sum() - by_group @ np.bincount(second.groups, others, groups))


def _resample(
    first: FaceVectors,
    second: FaceVectors | None,
    rows: np.ndarray,
    columns: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return the share (K,) of pairs that the first k are if people are drawn with replacement."""
    people = int(max(first.people.max(), 0 if second is None else second.people.max())) + 1
    drawn = np.bincount(rng.integers(0, people, people), minlength=people).astype(np.float64)
    weights = drawn[first.people]
    others = weights if second is None else drawn[second.people]
    total = _weigh_pairs(weights, first, None if second is None else others, second)
    return np.cumsum(weights[rows] * others[columns]) / total
