"""Score face verification from the squared distances of pairs.

The accuracy is computed as for LFW: the threshold of a fold is the one that is best on all others. Distances
are squared Euclidean distances of L2-normalized embeddings, 0..4; a pair is accepted as one person if its
distance is below the threshold. The cosine of a pair is 1 - distance / 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faceum.errors import DataError
from faceum.metrics.checks import check_finite, check_same_length

THRESHOLDS = np.arange(400) * 0.01
"""The squared distances tried as a threshold: 0 to 3.99 in steps of 0.01."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Verification:
    """The cross-validated accuracy.

    accuracy: mean over the folds, 0..1; deviation: its population standard deviation over the folds.
    fold_accuracies, fold_thresholds: one entry per fold, in the order of their first pairs.
    correct: (P,) bool, whether the threshold of its fold judges the pair correctly.
    """

    accuracy: float
    deviation: float
    fold_accuracies: tuple[float, ...]
    fold_thresholds: tuple[float, ...]
    correct: np.ndarray


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """The rates of a threshold that accepts at most a given share of pairs of different people.

    far: the requested false accept rate; far_reached: the measured one, never above it.
    tar: share of same-person pairs accepted; threshold: squared distance below which a pair is accepted.
    supported: False if there are fewer than 1 / far pairs of different people, too few to measure the rate;
        `tar` is then that of a threshold which accepts none of them.
    """

    far: float
    far_reached: float
    tar: float
    threshold: float
    supported: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Roc:
    """The rates of every threshold, from accepting no pair to accepting all.

    far, tar: (K,) accepted share of pairs of different people and of the same person. thresholds: (K,)
    squared distances; a pair is accepted at or below (the first is -inf). area: that under the curve.
    equal_error: the error rate at which false accepts and false rejects are equal.
    """

    far: np.ndarray
    tar: np.ndarray
    thresholds: np.ndarray
    area: float
    equal_error: float


def measure_squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the squared distances (P,) of the rows of a and b, (P, D), which are L2-normalized first.

    Raises DataError if a row is zero or not finite, or the lengths differ.
    """
    a, b = check_finite("embeddings", a), check_finite("embeddings", b)
    check_same_length(a=a, b=b)
    lengths_a, lengths_b = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    if min(lengths_a.min(), lengths_b.min()) == 0:
        raise DataError("An embedding is all zeros, so it has no direction to compare; leave out its pairs.")
    return np.square(a / lengths_a[:, None] - b / lengths_b[:, None]).sum(axis=1)


def verify_folds(
    distances: np.ndarray | Sequence[float],
    same: np.ndarray | Sequence[bool],
    folds: np.ndarray | Sequence[int],
    answered: np.ndarray | Sequence[bool] | None = None,
) -> Verification:
    """Score each fold by the threshold that is best on the others, the lowest if several are.

    distances: (P,) squared. same: (P,) bool. folds: (P,) fold ids, at least two different ones.
    answered: (P,) bool, False for a pair that counts as wrong whatever its distance, such as one with a face
        that was not found; True for all by default.
    Raises DataError if one kind of pairs is missing, there are fewer than two folds, or a distance is NaN.
    """
    distances, same = _check_both_kinds(distances, same)
    folds = np.asarray(folds)
    check_same_length(distances=distances, folds=folds)
    order = list(dict.fromkeys(folds.tolist()))
    if len(order) < 2:
        raise DataError(
            f"Verification needs at least two folds, to choose the threshold on the others, got {len(order)}."
        )
    given = np.ones(len(distances), bool) if answered is None else np.asarray(answered, bool)
    check_same_length(distances=distances, answered=given)
    right = np.stack([((distances < threshold) == same) & given for threshold in THRESHOLDS])
    correct = np.zeros(len(distances), bool)
    accuracies, thresholds = [], []
    for fold in order:
        inside = folds == fold
        best = int(np.argmax(right[:, ~inside].mean(axis=1)))
        correct[inside] = right[best, inside]
        accuracies.append(float(correct[inside].mean()))
        thresholds.append(float(THRESHOLDS[best]))
    return Verification(
        accuracy=float(np.mean(accuracies)),
        deviation=float(np.std(accuracies)),
        fold_accuracies=tuple(accuracies),
        fold_thresholds=tuple(thresholds),
        correct=correct,
    )


def operating_point(
    distances: np.ndarray | Sequence[float], same: np.ndarray | Sequence[bool], far: float
) -> OperatingPoint:
    """Return the highest threshold that accepts at most the share `far` of pairs of different people.

    Raises DataError unless 0 <= far < 1 and both kinds of pairs are there.
    """
    distances, same = _check_both_kinds(distances, same)
    if not 0 <= far < 1:
        raise DataError(f"Expected a false accept rate of at least 0 and below 1, got {far}.")
    strangers = np.sort(distances[~same])
    allowed = int(np.floor(far * len(strangers) + 1e-9))
    threshold = float(strangers[allowed])
    return OperatingPoint(
        far=far,
        far_reached=float((strangers < threshold).mean()),
        tar=float((distances[same] < threshold).mean()),
        threshold=threshold,
        supported=allowed >= 1,
    )


def roc(distances: np.ndarray | Sequence[float], same: np.ndarray | Sequence[bool]) -> Roc:
    """Return the receiver operating characteristic over every distinct distance."""
    distances, same = _check_both_kinds(distances, same)
    order = np.argsort(distances, kind="stable")
    ordered, hits = distances[order], same[order]
    last_of_ties = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    tar = np.append(0.0, np.cumsum(hits)[last_of_ties] / same.sum())
    far = np.append(0.0, np.cumsum(~hits)[last_of_ties] / (~same).sum())
    area = float(np.sum(np.diff(far) * (tar[1:] + tar[:-1]) / 2))
    gap = far - (1 - tar)
    after = int(np.argmax(gap >= 0))
    share = -gap[after - 1] / (gap[after] - gap[after - 1])
    equal_error = float(far[after - 1] + share * (far[after] - far[after - 1]))
    thresholds = np.append(-np.inf, ordered[last_of_ties])
    return Roc(far=far, tar=tar, thresholds=thresholds, area=area, equal_error=equal_error)


def _check_both_kinds(
    distances: np.ndarray | Sequence[float], same: np.ndarray | Sequence[bool]
) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays; raises DataError if one kind of pairs is missing."""
    distances = check_finite("distances", distances)
    same = np.asarray(same, bool)
    check_same_length(distances=distances, same=same)
    if not same.any():
        raise DataError(
            "No pair shows the same person twice, so no true accept can be counted; add such pairs."
        )
    if same.all():
        raise DataError(
            "No pair shows two different people, so no false accept can be counted; add such pairs."
        )
    return distances, same
