"""Score yes/no attributes: accuracy, balanced accuracy and average precision.

Most attributes are rare, so a network that always says no has a high mean accuracy. Compare it with the
balanced accuracy, the mean of the recalls of yes and no, and with the average precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faceum.errors import DataError, count_noun
from faceum.metrics.checks import check_finite, check_same_length


@dataclass(frozen=True, kw_only=True)
class AttributeScore:
    """The scores of one attribute, 0..1.

    count: number of labelled images. positive: the share of yes among them. positive and accuracy are None
    if no image is labelled; balanced_accuracy and average_precision are None unless both a yes and a no
    occur.
    """

    name: str
    count: int
    positive: float | None
    accuracy: float | None
    balanced_accuracy: float | None
    average_precision: float | None


@dataclass(frozen=True, kw_only=True)
class AttributeScores:
    """The scores of each attribute and their means over the attributes that have them.

    majority: the mean accuracy of always giving each attribute's more frequent answer, to compare with
    `accuracy`. notes: a sentence for each score that is undefined.
    """

    accuracy: float
    balanced_accuracy: float | None
    average_precision: float | None
    majority: float
    attributes: tuple[AttributeScore, ...]
    notes: tuple[str, ...]


def attribute_scores(
    probabilities: np.ndarray, labels: np.ndarray, names: Sequence[str], threshold: float = 0.5
) -> AttributeScores:
    """Score probabilities (N, A), 0..1, against labels (N, A): 1 yes, 0 no, -1 not labelled.

    A probability above `threshold` is a yes. Raises DataError if a probability is NaN, a label has another
    value, a shape does not match `names`, or no image is labelled.
    """
    probabilities = check_finite("attribute probabilities", probabilities)
    labels = np.asarray(labels).astype(np.int64)
    if probabilities.ndim != 2 or probabilities.shape != labels.shape or labels.shape[1] != len(names):
        raise DataError(
            f"Expected probabilities and labels of attributes of shape (images, {len(names)}), "
            f"got {probabilities.shape} and {labels.shape}."
        )
    if not np.isin(labels, (-1, 0, 1)).all():
        other = int(labels[~np.isin(labels, (-1, 0, 1))][0])
        raise DataError(
            f"Expected attribute labels 1 for yes, 0 for no and -1 for not labelled, got {other}."
        )
    scores = tuple(
        _score_attribute(name, probabilities[:, column], labels[:, column], threshold)
        for column, name in enumerate(names)
    )
    accuracies = [score.accuracy for score in scores if score.accuracy is not None]
    if not accuracies:
        raise DataError("No image has a label for any attribute, so there is nothing to score.")
    majorities = [max(score.positive, 1 - score.positive) for score in scores if score.positive is not None]
    return AttributeScores(
        accuracy=float(np.mean(accuracies)),
        balanced_accuracy=_mean([score.balanced_accuracy for score in scores]),
        average_precision=_mean([score.average_precision for score in scores]),
        majority=float(np.mean(majorities)),
        attributes=scores,
        notes=tuple(note for score in scores for note in _describe_gaps(score)),
    )


def average_precision(
    probabilities: np.ndarray | Sequence[float], labels: np.ndarray | Sequence[bool]
) -> float:
    """Return the sum of (recall gained) x (precision there) over the distinct probabilities, highest first.

    probabilities: (N,). labels: (N,) bool. Raises DataError if no label is True.
    """
    probabilities = check_finite("probabilities", probabilities)
    labels = np.asarray(labels, bool)
    check_same_length(probabilities=probabilities, labels=labels)
    if not labels.any():
        raise DataError("Average precision needs at least one yes among the labels, got none.")
    order = np.argsort(-probabilities, kind="stable")
    ordered, hits = probabilities[order], labels[order]
    last_of_ties = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)
    found = np.cumsum(hits)[last_of_ties]
    precision = found / (last_of_ties + 1)
    recall_gained = np.diff(np.append(0, found)) / labels.sum()
    return float(np.sum(recall_gained * precision))


def _score_attribute(
    name: str, probability: np.ndarray, label: np.ndarray, threshold: float
) -> AttributeScore:
    known = label >= 0
    count = int(known.sum())
    if count == 0:
        return AttributeScore(
            name=name, count=0, positive=None, accuracy=None, balanced_accuracy=None, average_precision=None
        )
    truth, answer = label[known] == 1, probability[known] > threshold
    right = answer == truth
    balanced, precision = None, None
    if truth.any() and not truth.all():
        balanced = float((right[truth].mean() + right[~truth].mean()) / 2)
        precision = average_precision(probability[known], truth)
    return AttributeScore(
        name=name,
        count=count,
        positive=float(truth.mean()),
        accuracy=float(right.mean()),
        balanced_accuracy=balanced,
        average_precision=precision,
    )


def _describe_gaps(score: AttributeScore) -> list[str]:
    if score.positive is None:
        return [f"{score.name}: no image has this label, so it is in no mean."]
    if score.balanced_accuracy is None:
        missing = "yes" if score.positive == 0 else "no"
        return [
            f"{score.name}: of {count_noun(score.count, 'image')} none has the answer {missing}, "
            "so it is left out of the mean balanced accuracy and average precision."
        ]
    return []


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
