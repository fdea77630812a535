"""Two networks' outputs for the same crops in; how far apart they are, in each task's own unit, out.

B crops, S their side in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from faceum.decode import decode_ages, decode_class_map
from faceum.errors import ModelError
from faceum.tasks import TASKS

UNITS = {
    "embedding": "1 - cosine, the worst face's",
    "number": "years, the worst face's",
    "labels": "probability, the mean over faces and labels",
    "classes": "probability, the mean over faces and classes",
    "pixels": "share of pixels with another class",
    "points": "pixels of the crop, the mean over faces and points",
}
"""A task's kind -> what its distance is counted in."""

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
"""Precision of an exported file -> a task's kind -> the distance from torch in float32 that is let pass."""


def distances(
    wanted: Mapping[str, np.ndarray], answered: Mapping[str, np.ndarray], *, size: int
) -> dict[str, float]:
    """Task -> how far `answered` lies from `wanted`, in the unit of its kind (`UNITS`).

    wanted, answered: task -> the raw outputs of two networks for the same B crops of `size` pixels, as
    `faceum.decode` takes them. An answer that is not finite is infinitely far.
    """
    found = {}
    for task, values in wanted.items():
        other = answered[task].astype(np.float64)
        measure = MEASURES[TASKS[task].kind]
        found[task] = (
            measure(values.astype(np.float64), other, size) if np.isfinite(other).all() else float("inf")
        )
    return found


def limits_for(precision: str, given: Mapping[str, float] | None = None) -> dict[str, float]:
    """Task -> the distance that is let pass: of the precision, where `given` names no other one."""
    for task in given or {}:
        if task not in TASKS:
            raise ModelError(f"A tolerance is given for {task!r}; the tasks are {', '.join(TASKS)}.")
    of_kind = LIMITS[precision]
    return {name: of_kind[task.kind] for name, task in TASKS.items()} | dict(given or {})


def too_far(found: Mapping[str, float], limits: Mapping[str, float]) -> str:
    """The sentences of the tasks beyond their limit; empty where none is."""
    return "; ".join(
        f"{task} is off by {distance:.3g}, allowed are {limits[task]:g} ({UNITS[TASKS[task].kind]})"
        for task, distance in found.items()
        if not distance <= limits[task]
    )


def _embeddings(one: np.ndarray, two: np.ndarray, size: int) -> float:
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return float((1 - (one * two).sum(axis=1) / np.maximum(lengths, 1e-12)).max())


def _numbers(one: np.ndarray, two: np.ndarray, size: int) -> float:
    years = [np.array([age.years for age in decode_ages(values)]) for values in (one, two)]
    return float(np.abs(years[0] - years[1]).max())


def _labels(one: np.ndarray, two: np.ndarray, size: int) -> float:
    sigmoids = [1 / (1 + np.exp(-np.clip(values, -60, 60))) for values in (one, two)]
    return float(np.abs(sigmoids[0] - sigmoids[1]).mean())


def _classes(one: np.ndarray, two: np.ndarray, size: int) -> float:
    shares = []
    for values in (one, two):
        powers = np.exp(values - values.max(axis=1, keepdims=True))
        shares.append(powers / powers.sum(axis=1, keepdims=True))
    return float(np.abs(shares[0] - shares[1]).mean())


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
"""A task's kind -> the distance between two networks' outputs for the crops."""
