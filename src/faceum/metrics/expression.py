"""Score predicted classes, one per image: accuracy, recalls and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faceum.errors import DataError
from faceum.metrics.checks import check_class_ids, check_finite, check_same_length

NO_ANSWER = -1
"""A predicted class that is never right, such as that of a face that was not found."""

TIE = -1
"""The class that `majority_vote` returns if two or more classes share the most votes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassScores:
    """Accuracy, recalls and confusion of predicted classes.

    accuracy: share of images. mean_class_accuracy: mean recall of the classes that occur.
    recalls: class name -> recall, None if the class does not occur. confusion: (C, C) int64 counts, row true,
    column predicted. notes: a sentence for each class that does not occur.
    """

    accuracy: float
    mean_class_accuracy: float
    recalls: dict[str, float | None]
    confusion: np.ndarray
    notes: tuple[str, ...]


def class_scores(
    predicted: np.ndarray | Sequence[int], true: np.ndarray | Sequence[int], names: Sequence[str]
) -> ClassScores:
    """Score class ids (N,) against true ones (N,), both 0..len(names) - 1.

    A prediction may also be `NO_ANSWER`: it is wrong, and in no column of the confusion. Raises DataError for
    other ids.
    """
    predicted = check_finite("predicted classes", predicted)
    true = check_class_ids("true classes", true, len(names))
    check_same_length(predictions=predicted, labels=true)
    given = predicted != NO_ANSWER
    answers = check_class_ids("predicted classes", predicted[given], len(names)) if given.any() else true[:0]
    confusion = confusion_matrix(answers, true[given], len(names))
    counts = np.bincount(true, minlength=len(names))
    recalls = {
        name: float(confusion[row, row] / counts[row]) if counts[row] else None
        for row, name in enumerate(names)
    }
    return ClassScores(
        accuracy=float(np.trace(confusion) / len(true)),
        mean_class_accuracy=float(np.mean([recall for recall in recalls.values() if recall is not None])),
        recalls=recalls,
        confusion=confusion,
        notes=tuple(
            f"{name}: no image shows this class, so it is left out of the mean class accuracy."
            for name, recall in recalls.items()
            if recall is None
        ),
    )


def confusion_matrix(predicted: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """Return (classes, classes) int64 counts, row true, column predicted, of valid ids of any equal shape."""
    places = true.astype(np.int64).ravel() * classes + predicted.astype(np.int64).ravel()
    return np.bincount(places, minlength=classes * classes).reshape(classes, classes)


def majority_vote(votes: np.ndarray) -> tuple[np.ndarray, int]:
    """Return the class (N,) with the most votes (N, C), or `TIE` if several have; and the number of ties.

    Raises DataError if a row has negative votes or none.
    """
    votes = check_finite("votes", votes)
    if votes.ndim != 2:
        raise DataError(f"Expected votes of shape (images, classes), got {votes.shape}.")
    bad = (votes.sum(axis=1) <= 0) | (votes < 0).any(axis=1)
    if bad.any():
        raise DataError(
            f"Rows without votes or with negative ones: {int(bad.sum()):,}, the first is row "
            f"{int(np.argmax(bad))}; leave them out."
        )
    tied = (votes == votes.max(axis=1, keepdims=True)).sum(axis=1) > 1
    return np.where(tied, TIE, votes.argmax(axis=1)), int(tied.sum())
