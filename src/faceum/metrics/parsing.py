"""Score face parsing: F1 per class from one confusion matrix over the whole set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faceum.errors import DataError
from faceum.metrics.checks import check_class_ids
from faceum.metrics.expression import confusion_matrix

OFTEN = 20
"""The number of images in which a frequent class is at least labelled."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ParsingScores:
    """F1 over all pixels of all images; class 0 is the background and in no mean.

    f1: class name -> 0..1, None if the class is neither labelled nor predicted in any image.
    images: class name -> number of images in which it is labelled.
    mean_f1: mean over all classes but the background that have an F1.
    mean_f1_frequent: mean over `frequent`, the classes labelled in at least `OFTEN` images; None if there
        are none.
    confusion: (C, C) int64 pixels, row true, column predicted. notes: a sentence for each class without an
    F1.
    """

    f1: dict[str, float | None]
    images: dict[str, int]
    mean_f1: float | None
    mean_f1_frequent: float | None
    frequent: tuple[str, ...]
    confusion: np.ndarray
    notes: tuple[str, ...]


def image_confusion(predicted: np.ndarray, true: np.ndarray, classes: int) -> np.ndarray:
    """Return one image's (classes, classes) int64 pixel counts, row true, column predicted.

    predicted, true: (H, W) class ids of the same image. Raises DataError if the sizes differ or an id is no
    class.
    """
    if predicted.shape != true.shape:
        raise DataError(
            f"Expected a parsing map of the labelled image's size {true.shape}, got {predicted.shape}."
        )
    predicted = check_class_ids("predicted pixels", predicted, classes)
    return confusion_matrix(predicted, check_class_ids("labelled pixels", true, classes), classes)


def parsing_scores(confusions: np.ndarray, names: Sequence[str]) -> ParsingScores:
    """Score a set from its images' confusions (N, C, C), as `image_confusion` returns them.

    names: (C,) the classes. Raises DataError if the shape differs or there is no image.
    """
    confusions = np.asarray(confusions, np.int64)
    if confusions.ndim != 3 or confusions.shape[1:] != (len(names), len(names)) or len(confusions) == 0:
        raise DataError(
            f"Expected confusions of shape (images, {len(names)}, {len(names)}) of at least one image, "
            f"got {confusions.shape}."
        )
    confusion = confusions.sum(axis=0)
    values = f1_of_confusion(confusion)
    f1 = {name: None if np.isnan(value) else float(value) for name, value in zip(names, values, strict=True)}
    labelled = (confusions.sum(axis=2) > 0).sum(axis=0)
    often = [index for index in range(1, len(names)) if labelled[index] >= OFTEN]
    parts = values[1:][~np.isnan(values[1:])]
    return ParsingScores(
        f1=f1,
        images={name: int(count) for name, count in zip(names, labelled, strict=True)},
        mean_f1=float(parts.mean()) if len(parts) else None,
        mean_f1_frequent=float(values[often].mean()) if often else None,
        frequent=tuple(names[index] for index in often),
        confusion=confusion,
        notes=tuple(
            f"{name}: neither labelled nor predicted in any image, so it is in no mean."
            for name, value in f1.items()
            if value is None
        ),
    )


def f1_of_confusion(confusion: np.ndarray) -> np.ndarray:
    """Return the F1 (..., C) of each class of confusions (..., C, C); NaN if it is on neither side."""
    hits = np.diagonal(confusion, axis1=-2, axis2=-1).astype(np.float64)
    mentions = confusion.sum(axis=-1) + confusion.sum(axis=-2)
    return np.where(mentions > 0, 2 * hits / np.maximum(mentions, 1), np.nan)
