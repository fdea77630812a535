"""How signals of a face become its quality: the fitted formula that weights carry with their thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from faceum.errors import ModelError


@dataclass(frozen=True, kw_only=True)
class SignalWeight:
    """What one signal adds: its weight, and the bounds that its value is clipped to before."""

    weight: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class QualityFit:
    """A logistic regression from the signals of a face to its quality, 0..1.

    fmr: the false match rate whose threshold decides what is recognized. pairs: number of pairs of one person
    that it was fitted on. intercept, signals: the formula; a signal is a number of
    `faceum.quality.measure_signals`.
    """

    fmr: float
    pairs: int
    intercept: float
    signals: Mapping[str, SignalWeight]

    def predict(self, signals: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return the quality (B,) float64 of B faces. signals: name -> (B,) values, all that the fit uses."""
        total: np.ndarray = np.float64(self.intercept) + np.zeros(len(next(iter(signals.values()))))
        for name, one in self.signals.items():
            total += one.weight * np.clip(np.asarray(signals[name], np.float64), one.low, one.high)
        return np.asarray(1 / (1 + np.exp(-total)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, rounded, ready for JSON."""
        return {
            "fmr": self.fmr,
            "pairs": self.pairs,
            "intercept": _round_values(self.intercept),
            "signals": {
                name: {key: _round_values(value) for key, value in asdict(one).items()}
                for name, one in self.signals.items()
            },
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> QualityFit:
        """Build a fit from `to_dict`'s values; raises ModelError if the values are none."""
        try:
            return cls(
                fmr=float(values["fmr"]),
                pairs=int(values["pairs"]),
                intercept=float(values["intercept"]),
                signals={name: SignalWeight(**one) for name, one in values["signals"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(f"The quality's formula cannot be read ({error!r}); measure it again.") from None


def fit_quality(
    signals: Mapping[str, np.ndarray], recognized: np.ndarray, *, fmr: float, pairs: int
) -> QualityFit:
    """Fit the formula by ridge-regularized logistic regression.

    signals: name -> (n,) values. recognized: (n,) bool, whether the face's pair of one person was recognized.
    A signal is clipped to its middle 98 %.
    """
    names = list(signals)
    raw = np.stack([np.asarray(signals[name], np.float64) for name in names], axis=1)
    low, high = np.quantile(raw, [0.01, 0.99], axis=0)
    clipped = np.clip(raw, low, high)
    middle, spread = clipped.mean(axis=0), np.maximum(clipped.std(axis=0), 1e-9)
    columns = np.concatenate([np.ones((len(raw), 1)), (clipped - middle) / spread], axis=1)
    ridge = np.diag([0.0, *[1.0] * len(names)])
    weights = np.zeros(columns.shape[1])
    for _ in range(30):  # Newton's method
        chances = 1 / (1 + np.exp(-np.clip(columns @ weights, -30, 30)))
        slope = columns.T @ (recognized - chances) - ridge @ weights
        curve = (columns * (chances * (1 - chances))[:, None]).T @ columns + ridge
        weights = weights + np.linalg.solve(curve + 1e-9 * np.eye(len(curve)), slope)
    per_signal = weights[1:] / spread
    return QualityFit(
        fmr=fmr,
        pairs=pairs,
        intercept=float(weights[0] - per_signal @ middle),
        signals={
            name: SignalWeight(weight=float(per_signal[k]), low=float(low[k]), high=float(high[k]))
            for k, name in enumerate(names)
        },
    )


def _round_values(value: float) -> float:
    return float(f"{value:.6g}")
