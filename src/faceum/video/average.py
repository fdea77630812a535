"""Averages along a track: age, attributes, expression and embedding, weighted by each frame's quality."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from faceum.results import Age, Expression, Face

MEMORY_SECONDS = {"age": math.inf, "embedding": math.inf, "attributes": 2.0, "expression": 0.5}
"""After so many seconds an answer counts 1 / e as much: faces keep their age, but not their smile."""


class _Mean:
    """A weighted mean that forgets."""

    def __init__(self, memory: float) -> None:
        self._memory = memory
        self._time = 0.0
        self.weight = 0.0
        self.sum: Any = 0.0

    def add(self, value: np.ndarray, weight: float, time: float) -> None:
        kept = math.exp(-max(time - self._time, 0.0) / self._memory) if self.weight else 0.0
        self.sum = self.sum * kept + value * weight
        self.weight = self.weight * kept + weight
        self._time = time

    def value(self) -> np.ndarray:
        return np.asarray(self.sum / self.weight)


class Averages:
    """The averaged answers of one track."""

    def __init__(self) -> None:
        self._means = {name: _Mean(memory) for name, memory in MEMORY_SECONDS.items()}
        self.samples = 0
        """How many embeddings went into the mean."""

    def add(self, face: Face, weight: float, time: float) -> None:
        """Add the answers of one frame; those that it lacks are left out."""
        if face.age is not None:
            self._means["age"].add(np.array([face.age.years, face.age.std]), weight, time)
        if face.embedding is not None:
            self._means["embedding"].add(np.asarray(face.embedding, np.float64), weight, time)
            self.samples += 1
        if face.attributes is not None:
            self._means["attributes"].add(np.array(list(face.attributes.values())), weight, time)
        if face.expression is not None:
            self._means["expression"].add(
                np.array(list(face.expression.probabilities.values())), weight, time
            )

    def merge(self, older: Averages) -> None:
        """Add what another track of the same person had."""
        for name, mean in older._means.items():
            if mean.weight and math.isinf(MEMORY_SECONDS[name]):
                self._means[name].sum = self._means[name].sum + mean.sum
                self._means[name].weight += mean.weight
        self.samples += older.samples

    def embedding(self) -> np.ndarray | None:
        """Return the mean embedding with length 1, None without any."""
        mean = self._means["embedding"]
        if not mean.weight:
            return None
        value = mean.value()
        return np.asarray(value / max(float(np.linalg.norm(value)), 1e-12), np.float32)

    def answers(self, latest: Face) -> dict[str, Any]:
        """Return fields of `Face` for those answers that `latest`, the last full answer, has."""
        answers: dict[str, Any] = {}
        if latest.age is not None:
            years, std = self._means["age"].value()
            answers["age"] = Age(years=float(years), std=float(std))
        if latest.embedding is not None:
            answers["embedding"] = self.embedding()
        if latest.attributes is not None:
            values = self._means["attributes"].value().tolist()
            answers["attributes"] = dict(zip(latest.attributes, values, strict=True))
        if latest.expression is not None:
            values = self._means["expression"].value()
            words = list(latest.expression.probabilities)
            answers["expression"] = Expression(
                label=words[int(values.argmax())],
                probabilities=dict(zip(words, values.tolist(), strict=True)),
            )
        return answers
