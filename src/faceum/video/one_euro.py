"""The One Euro filter: steady where a signal rests, prompt where it moves.

Source: G. Casiez, N. Roussel, D. Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input
in Interactive Systems", CHI 2012.
"""

from __future__ import annotations

import math

import numpy as np

MIN_CUTOFF = 0.8
"""Cutoff in Hz at rest: lower is steadier."""

BETA = 6.0
"""Rise of the cutoff in Hz for a speed of one unit a second: higher lags less."""

SPEED_CUTOFF = 2.0
"""Cutoff in Hz of the speed itself."""


class OneEuro:
    """Smooths points (n, 2) over time, each by its own speed.

    The unit of speed is given with each value: points of faces move in eye distances, so that a face far away
    is smoothed like a near one.
    """

    def __init__(self) -> None:
        self._time = -math.inf
        self._value = np.zeros((0, 2))
        self._speed = np.zeros((0, 2))

    def smooth(self, points: np.ndarray, time: float, unit: float) -> np.ndarray:
        """Return the smoothed points (n, 2) at a time in seconds; starts over if their number changes."""
        points = np.asarray(points, np.float64)
        elapsed = time - self._time
        if points.shape != self._value.shape or not 0 < elapsed < 1:
            self._time, self._value, self._speed = time, points, np.zeros_like(points)
            return points
        speed = (points - self._value) / elapsed / max(unit, 1e-6)
        share = _share(np.asarray(SPEED_CUTOFF), elapsed)
        self._speed = self._speed + share * (speed - self._speed)
        cutoff = MIN_CUTOFF + BETA * np.linalg.norm(self._speed, axis=1, keepdims=True)
        self._value = self._value + _share(cutoff, elapsed) * (points - self._value)
        self._time = time
        return self._value


def _share(cutoff: np.ndarray, elapsed: float) -> np.ndarray:
    """Return the weight of a new value in a first-order low-pass filter."""
    return np.asarray(1 / (1 + 1 / (2 * math.pi * cutoff * elapsed)))
