"""Compare stated confidences with the share of answers that are right, and predicted with actual errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from faceum.errors import DataError
from faceum.metrics.checks import check_finite, check_same_length
from faceum.metrics.intervals import Interval, bootstrap

LEVELS = (0.5, 0.68, 0.8, 0.9)
"""The shares of true ages that intervals are fitted to cover."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reliability:
    """Confidence and accuracy in bins of confidence, without the empty bins.

    confidence, accuracy: (K,) mean confidence and share right of each bin; counts: (K,) images.
    expected_error: mean over the images of |accuracy - confidence| of their bin (ECE), 0..1.
    """

    confidence: np.ndarray
    accuracy: np.ndarray
    counts: np.ndarray
    expected_error: float


@dataclass(frozen=True, kw_only=True, eq=False)
class SpreadReliability:
    """Predicted deviations and actual errors in bins of equally many images.

    predicted, observed: (K,) root mean square of the predicted deviations and of the errors, in years.
    counts: (K,) images. levels, coverage: (L,) the share of true values that a normal interval of that level
    should contain, and the share that it does contain.
    """

    predicted: np.ndarray
    observed: np.ndarray
    counts: np.ndarray
    levels: np.ndarray
    coverage: np.ndarray


def reliability(
    confidences: np.ndarray | Sequence[float], correct: np.ndarray | Sequence[bool], bins: int = 10
) -> Reliability:
    """Compare confidences (N,), 0..1, with outcomes (N,) in `bins` bins of equal width.

    A bin contains its upper edge. Raises DataError if a confidence is NaN or outside 0..1, or the lengths
    differ.
    """
    confidences = check_finite("confidences", confidences)
    correct = np.asarray(correct, bool)
    check_same_length(confidences=confidences, outcomes=correct)
    if confidences.min() < 0 or confidences.max() > 1:
        raise DataError(
            "Expected confidences from 0 to 1, got values from "
            f"{confidences.min():g} to {confidences.max():g}."
        )
    places = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    used = counts > 0
    confidence = np.bincount(places, confidences, bins)[used] / counts[used]
    accuracy = np.bincount(places, correct, bins)[used] / counts[used]
    gap = float(np.sum(counts[used] * np.abs(accuracy - confidence)) / len(confidences))
    return Reliability(confidence=confidence, accuracy=accuracy, counts=counts[used], expected_error=gap)


def calibration_interval(
    confidences: np.ndarray, correct: np.ndarray, known: np.ndarray, bins: int = 10
) -> Interval:
    """Return the bootstrap interval of `reliability`'s expected error; a face is drawn with all its answers.

    confidences: (N, K), 0..1. correct: (N, K) bool. known: (N, K) bool, False if there is no label. The error
    of a resample is on average slightly higher than that of the set.
    """
    places = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    cells = (np.arange(len(places))[:, None] * bins + places)[known]
    shape = (len(places), bins)
    gaps = (correct.astype(np.float64) - confidences)[known]
    gap_NB = np.bincount(cells, gaps, shape[0] * bins).reshape(shape)
    count_N = known.sum(axis=1)

    def of_rows(rows: np.ndarray) -> float:
        drawn = np.bincount(rows, minlength=len(count_N)).astype(np.float64)
        answers = float(drawn @ count_N)
        return float(np.abs(drawn @ gap_NB).sum()) / answers if answers else float("nan")

    return bootstrap(of_rows, len(count_N), resamples=300)


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> float:
    """Return the temperature, 0.1 to 10, that makes the targets likeliest when logits are divided by it.

    logits: (N, C). targets: (N,) ints for one class of many, or (N, C) for independent answers; 1 yes, 0 no,
        -1 unknown.
    Raises DataError if no target is known.
    """
    logits, targets = check_finite("logits", logits), np.asarray(targets)
    known = targets >= 0
    if not known.any():
        raise DataError("A temperature needs labelled faces, got none.")

    def cost(temperature: float) -> float:
        scaled = logits / temperature
        if targets.ndim == 1:
            below = scaled - scaled.max(1, keepdims=True)
            likelihood = below - np.log(np.exp(below).sum(1, keepdims=True))
            return -float(likelihood[known, targets[known].astype(int)].mean())
        return float(np.logaddexp(0, np.where(targets == 1, -scaled, scaled))[known].mean())

    # The cost has a single minimum over the logarithm of the temperature: golden-section search finds it.
    low, high, golden = np.log(0.1), np.log(10.0), (np.sqrt(5) - 1) / 2
    for _ in range(60):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if cost(float(np.exp(left))) < cost(float(np.exp(right))):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def fit_spread(
    deviations: np.ndarray | Sequence[float],
    errors: np.ndarray | Sequence[float],
    levels: Sequence[float] = LEVELS,
) -> float:
    """Return the factor of predicted deviations (N,) with which normal intervals cover the errors (N,) best.

    It is the geometric mean, over the levels, of how much too narrow each interval is.
    """
    deviations = check_finite("predicted deviations", deviations)
    errors = check_finite("errors", errors)
    check_same_length(deviations=deviations, errors=errors)
    reached = np.abs(errors) / deviations
    factors = [np.quantile(reached, level) / NormalDist().inv_cdf((1 + level) / 2) for level in levels]
    return float(np.exp(np.mean(np.log(factors))))


def spread_reliability(
    deviations: np.ndarray | Sequence[float], errors: np.ndarray | Sequence[float], bins: int = 10
) -> SpreadReliability:
    """Compare predicted deviations (N,), above 0, with the actual errors (N,), both in the same unit.

    Raises DataError if a value is NaN, a deviation is not above 0, or the lengths differ.
    """
    deviations = check_finite("predicted deviations", deviations)
    errors = check_finite("errors", errors)
    check_same_length(deviations=deviations, errors=errors)
    if deviations.min() <= 0:
        raise DataError(f"A predicted deviation must be above 0, got {deviations.min():g}.")
    groups = np.array_split(np.argsort(deviations, kind="stable"), min(bins, len(deviations)))
    levels = np.linspace(0.1, 0.9, 9)
    reach = np.array([NormalDist().inv_cdf((1 + level) / 2) for level in levels])
    return SpreadReliability(
        predicted=np.array([np.sqrt(np.mean(deviations[group] ** 2)) for group in groups]),
        observed=np.array([np.sqrt(np.mean(errors[group] ** 2)) for group in groups]),
        counts=np.array([len(group) for group in groups]),
        levels=levels,
        coverage=np.array([np.mean(np.abs(errors) <= z * deviations) for z in reach]),
    )
