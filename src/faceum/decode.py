"""Decodes a network's outputs into the fields of `Face`; numpy only.

B faces, (h, w) the resolution of the parsing head, S the crop's side in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from faceum.errors import ModelError, count_noun
from faceum.results import Age, Expression, Parsing
from faceum.tasks import TASKS

if TYPE_CHECKING:
    from faceum.crop import Crop


def decode_answers(
    outputs: Mapping[str, np.ndarray],
    crops: Sequence[Crop],
    labels: Mapping[str, Sequence[str]] | None = None,
    calibration: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Return one dict per crop: field of `Face` -> its value, for the tasks in `outputs`.

    outputs: recognition (B, 512); age (B, 101), attributes (B, 40), expression (B, C) logits; parsing
        (B, 19, h, w) logits; landmarks (B, 68, 2), x then y, 0..1 over the crop.
    labels: task -> its labels, for tasks whose labels differ from `faceum.tasks`.
    calibration: task -> the temperature that its logits are divided by or, for age, the factor by which the
        deviation is multiplied; 1 for tasks without one.
    Raises ModelError if the number of labels is not that of the output.
    """
    answers: list[dict[str, Any]] = [{} for _ in crops]
    for name, values in outputs.items():
        task = TASKS[name]
        if not np.isfinite(values).all():
            raise ModelError(f"The network's answer for {name} has values that are not finite.")
        words = tuple((labels or {}).get(name) or task.labels)
        if words and values.shape[1] != len(words):
            raise ModelError(
                f"The network answers {name!r} with {count_noun(values.shape[1], 'value')} for "
                f"{count_noun(len(words), 'label')}; its labels do not belong to it."
            )
        correction = (calibration or {}).get(name, 1.0)
        decoded = DECODERS[task.kind](values.astype(np.float32, copy=False), crops, words, correction)
        for answer, value in zip(answers, decoded, strict=True):
            answer[task.result_field] = value
    return answers


def decode_ages(logits_BY: np.ndarray, spread: float = 1.0) -> list[Age]:
    """Return ages for (B, 101) logits: expectation and deviation of p = sigmoid / its sum over the years.

    spread: factor by which the deviation is multiplied.
    """
    p_BY = sigmoid(logits_BY.astype(np.float64))
    p_BY /= p_BY.sum(axis=1, keepdims=True)
    years_Y = np.arange(p_BY.shape[1])
    mean_B = p_BY @ years_Y
    variance_B = (p_BY * (years_Y - mean_B[:, None]) ** 2).sum(axis=1)
    return [
        Age(years=float(mean), std=float(spread * np.sqrt(var)))
        for mean, var in zip(mean_B, variance_B, strict=True)
    ]


def decode_class_map(logits_Chw: np.ndarray, size: int) -> np.ndarray:
    """Return (size, size) uint8 class ids: logits enlarged bilinearly (corners not aligned), then argmax."""
    logits_SSC = cv2.resize(
        np.ascontiguousarray(logits_Chw.transpose(1, 2, 0)), (size, size), interpolation=cv2.INTER_LINEAR
    )
    return logits_SSC.argmax(axis=2).astype(np.uint8)


def _embeddings(
    values: np.ndarray, crops: Sequence[Crop], words: tuple[str, ...], correction: float
) -> list[np.ndarray]:
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return list(values / np.maximum(lengths, 1e-12))


def _ages(values: np.ndarray, crops: Sequence[Crop], words: tuple[str, ...], correction: float) -> list[Age]:
    return decode_ages(values, correction)


def _labels(
    values: np.ndarray, crops: Sequence[Crop], words: tuple[str, ...], correction: float
) -> list[dict[str, float]]:
    p_BA = sigmoid(values.astype(np.float64) / correction)
    return [dict(zip(words, row, strict=True)) for row in p_BA.tolist()]


def _classes(
    values: np.ndarray, crops: Sequence[Crop], words: tuple[str, ...], correction: float
) -> list[Expression]:
    probabilities = softmax(values.astype(np.float64) / correction)
    return [
        Expression(label=words[int(row.argmax())], probabilities=dict(zip(words, row.tolist(), strict=True)))
        for row in probabilities
    ]


def _pixels(
    values: np.ndarray, crops: Sequence[Crop], words: tuple[str, ...], correction: float
) -> list[Parsing]:
    # The class map has the crop's size, so the crop's inverse matrix is also the map's.
    return [
        Parsing(
            class_map=decode_class_map(logits, crop.image.shape[0]), matrix=np.array(crop.inverse, np.float64)
        )
        for logits, crop in zip(values, crops, strict=True)
    ]


def _points(
    values: np.ndarray, crops: Sequence[Crop], words: tuple[str, ...], correction: float
) -> list[np.ndarray]:
    faces = []
    for points, crop in zip(values.astype(np.float64), crops, strict=True):
        in_crop = points * crop.image.shape[0]
        faces.append((in_crop @ crop.inverse[:, :2].T + crop.inverse[:, 2]).astype(np.float32))
    return faces


def softmax(values: np.ndarray) -> np.ndarray:
    """Return the softmax of (B, C) values over C."""
    powers = np.exp(values - values.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(values: np.ndarray) -> np.ndarray:
    """Return 1 / (1 + exp(-x)) without overflow."""
    return 1.0 / (1.0 + np.exp(-np.clip(values, -60.0, 60.0)))


DECODERS: dict[str, Callable[[np.ndarray, Sequence[Any], tuple[str, ...], float], Sequence[Any]]] = {
    "embedding": _embeddings,
    "number": _ages,
    "labels": _labels,
    "classes": _classes,
    "pixels": _pixels,
    "points": _points,
}
"""Kind of task -> the function from its outputs for B crops, its labels and its correction to B answers."""
