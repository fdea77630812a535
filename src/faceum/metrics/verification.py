"""Face verification: squared distances of pairs and whether each pair is one person in, scores out.

The accuracy is LFW's: the threshold for a fold is the one that is best on all the others. Distances are
squared Euclidean distances of L2-normalised embeddings, 0..4; a pair is called the same person when its
distance is below the threshold. The cosine of a pair is 1 - distance / 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faceum.errors import DataError
from faceum.metrics.checks import finite, same_length

THRESHOLDS = np.arange(400) * 0.01
"""The squared distances tried as a threshold: 0 to 3.99 in steps of 0.01."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Verification:
    """The cross-validated accuracy.

    accuracy: mean over the folds, 0..1; deviation: its population standard deviation over the folds.
    fold_accuracies, fold_thresholds: one entry a fold, in the order in which the file first names them.
    correct: (P,) bool, whether each pair was judged rightly by its fold's threshold.
    """

    accuracy: float
    deviation: float
    fold_accuracies: tuple[float, ...]
    fold_thresholds: tuple[float, ...]
    correct: np.ndarray


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """What a threshold that lets through at most a given share of strangers achieves.

    far: the false accept rate asked for; far_reached: the one measured, never above it.
    tar: share of same-person pairs accepted; threshold: squared distance below which a pair is accepted.
    supported: False where there are fewer than 1 / far pairs of strangers, so that the rate cannot be told
        from zero; `tar` then is the one at which no stranger passes.
    """

    far: float
    far_reached: float
    tar: float
    threshold: float
    supported: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Roc:
    """Every threshold's pair of rates, from accepting nobody to accepting all.

    far, tar: (K,) share of strangers and of same-person pairs accepted; thresholds: (K,) squared distance, a
    pair is accepted at or below it (the first is -inf). area: under the curve. equal_error: the error rate
    where false accepts and false rejects meet.
    """

    far: np.ndarray
    tar: np.ndarray
    thresholds: np.ndarray
    area: float
    equal_error: float


def squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return (P,) squared distances of the rows of a and b, (P, D), L2-normalised here; no row is zero."""
    a, b = finite("embeddings", a), finite("embeddings", b)
    same_length(a=a, b=b)
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
    """Score each fold by the threshold that is best on the others, the lowest of the best ones.

    distances: (P,) squared; same: (P,) bool; folds: (P,) any fold ids, at least two different ones.
    answered: (P,) bool, False for a pair that is wrong whatever its distance (a face was not found); all are
        answered by default.
    Raises DataError when there are not both kinds of pairs, or fewer than two folds, or a distance is NaN.
    """
    distances, same = _both_kinds(distances, same)
    folds = np.asarray(folds)
    same_length(distances=distances, folds=folds)
    order = list(dict.fromkeys(folds.tolist()))
    if len(order) < 2:
        raise DataError(f"Verification chooses a fold's threshold on the others; came {len(order)} fold.")
    given = np.ones(len(distances), bool) if answered is None else np.asarray(answered, bool)
    same_length(distances=distances, answered=given)
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
    """Return the most generous threshold that accepts at most the share `far` of strangers (0 <= far < 1)."""
    distances, same = _both_kinds(distances, same)
    if not 0 <= far < 1:
        raise DataError(f"A false accept rate lies in 0..1, below 1; came {far}.")
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
    """Return the receiver operating curve over every distinct distance."""
    distances, same = _both_kinds(distances, same)
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


def _both_kinds(
    distances: np.ndarray | Sequence[float], same: np.ndarray | Sequence[bool]
) -> tuple[np.ndarray, np.ndarray]:
    """Return both as arrays, or raise when a rate over one kind of pairs would divide by nothing."""
    distances = finite("distances", distances)
    same = np.asarray(same, bool)
    same_length(distances=distances, same=same)
    if not same.any():
        raise DataError(
            "No pair shows the same person twice, so no true accept can be counted; add such pairs."
        )
    if same.all():
        raise DataError(
            "No pair shows two different people, so no false accept can be counted; add such pairs."
        )
    return distances, same
