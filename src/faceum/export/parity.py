"""Distances between the answers of two networks, in a unit per task, and the limits of each precision."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from faceum.decode import decode_ages, decode_class_map, sigmoid, softmax
from faceum.errors import ModelError, unknown_name
from faceum.tasks import TASKS

UNITS = {
    "embedding": "1 - cosine, the worst face's",
    "number": "years, the worst face's",
    "labels": "probability, the mean over faces and labels",
    "classes": "probability, the mean over faces and classes",
    "pixels": "share of pixels with another class",
    "points": "pixels of the crop, the mean over faces and points",
}
"""Kind of task -> unit of its distance."""

LIMITS = {
    "fp32": {
        "embedding": 1e-4,
        "number": 0.01,
        "labels": 1e-3,
        "classes": 1e-3,
        "pixels": 1e-3,
        "points": 0.05,
    },
    "fp16": {
        "embedding": 1e-3,
        "number": 0.1,
        "labels": 5e-3,
        "classes": 5e-3,
        "pixels": 5e-3,
        "points": 0.1,
    },
    "int8": {
        "embedding": 0.05,
        "number": 1.0,
        "labels": 0.02,
        "classes": 0.02,
        "pixels": 0.02,
        "points": 0.5,
    },
}
"""Precision of an exported file -> kind of task -> largest accepted distance from torch in float32."""


def distances(
    expected: Mapping[str, np.ndarray], answered: Mapping[str, np.ndarray], *, size: int
) -> dict[str, float]:
    """Return task -> distance between two networks' answers, in the unit of its kind (UNITS).

    expected, answered: task -> raw outputs for the same B crops of `size` pixels, as `faceum.decode` takes
    them. The distance is infinite if an answer is not finite.
    """
    result = {}
    for task, values in expected.items():
        other = answered[task].astype(np.float64)
        measure = MEASURES[TASKS[task].kind]
        result[task] = (
            measure(values.astype(np.float64), other, size) if np.isfinite(other).all() else float("inf")
        )
    return result


def limits_for(precision: str, tolerance: Mapping[str, float] | None = None) -> dict[str, float]:
    """Return task -> largest accepted distance: that of `tolerance`, or else that of the precision."""
    for task in tolerance or {}:
        if task not in TASKS:
            raise ModelError(unknown_name(task, "task", TASKS))
    of_kind = LIMITS[precision]
    return {name: of_kind[task.kind] for name, task in TASKS.items()} | dict(tolerance or {})


def describe_excess(measured: Mapping[str, float], limits: Mapping[str, float]) -> str:
    """Return a text that names the tasks beyond their limit; empty if there are none."""
    return "; ".join(
        f"{task} is off by {distance:.3g}, at most {limits[task]:g} is accepted ({UNITS[TASKS[task].kind]})"
        for task, distance in measured.items()
        if not distance <= limits[task]
    )


def _embeddings(one: np.ndarray, two: np.ndarray, size: int) -> float:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return float((1 - (one * two).sum(axis=1) / np.maximum(lengths, 1e-12)).max())


def _numbers(one: np.ndarray, two: np.ndarray, size: int) -> float:
    years = [np.array([age.years for age in decode_ages(values)]) for values in (one, two)]
    return float(np.abs(years[0] - years[1]).max())


def _labels(one: np.ndarray, two: np.ndarray, size: int) -> float:
    return float(np.abs(sigmoid(one) - sigmoid(two)).mean())


def _classes(one: np.ndarray, two: np.ndarray, size: int) -> float:
    return float(np.abs(softmax(one) - softmax(two)).mean())


def _pixels(one: np.ndarray, two: np.ndarray, size: int) -> float:
    maps = [[decode_class_map(face.astype(np.float32), size) for face in values] for values in (one, two)]
    return float((np.stack(maps[0]) != np.stack(maps[1])).mean())


def _points(one: np.ndarray, two: np.ndarray, size: int) -> float:
    return float(np.linalg.norm((one - two) * size, axis=-1).mean())


MEASURES: dict[str, Callable[[np.ndarray, np.ndarray, int], float]] = {
    "embedding": _embeddings,
    "number": _numbers,
    "labels": _labels,
    "classes": _classes,
    "pixels": _pixels,
    "points": _points,
}
"""Kind of task -> function that returns the distance between two networks' outputs for the same crops."""
