"""The formula of a face's quality is fitted, stored and applied."""

from __future__ import annotations

import json

import numpy as np
import pytest

from faceum.errors import ModelError
from faceum.weights.quality import QualityFit, SignalWeight, fit_quality


def drawn(count: int, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Two signals, of which the first decides; the chance of each face, and what came of it."""
    rng = np.random.default_rng(seed)
    signals = {"telling": rng.normal(2, 3, count), "idle": rng.normal(size=count)}
    chances = 1 / (1 + np.exp(-(0.8 * signals["telling"] - 1)))
    return signals, chances, rng.random(count) < chances


def test_a_fit_states_the_chances_of_other_faces():
    signals, _, recognized = drawn(4000, 0)
    fit = fit_quality(signals, recognized, fmr=1e-3, pairs=4000)
    others, chances, _ = drawn(1000, 1)
    assert np.abs(fit.predict(others) - chances).mean() < 0.03
    assert fit.signals["telling"].weight == pytest.approx(0.8, abs=0.1)
    assert abs(fit.signals["idle"].weight) < 0.15


def test_a_signal_beyond_what_was_seen_counts_as_the_last_that_was():
    fit = QualityFit(
        fmr=1e-3, pairs=9, intercept=0.0, signals={"size": SignalWeight(weight=1.0, low=-1.0, high=2.0)}
    )
    qualities = fit.predict({"size": np.array([-50.0, -1.0, 0.0, 2.0, 50.0])})
    assert qualities[0] == qualities[1] < qualities[2] == 0.5 < qualities[3] == qualities[4] < 1


def test_a_fit_survives_json():
    signals, _, recognized = drawn(300, 2)
    fit = fit_quality(signals, recognized, fmr=1e-3, pairs=300)
    again = QualityFit.from_dict(json.loads(json.dumps(fit.to_dict())))
    assert np.allclose(again.predict(signals), fit.predict(signals), atol=1e-4)
    with pytest.raises(ModelError, match="measure it again"):
        QualityFit.from_dict({"fmr": 1e-3})


def test_faces_that_are_all_recognized_can_be_fitted():
    signals, _, _ = drawn(50, 3)
    fit = fit_quality(signals, np.ones(50, bool), fmr=1e-3, pairs=50)
    assert (fit.predict(signals) > 0.8).all()
