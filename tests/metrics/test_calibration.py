"""Reliability curves against bins filled by hand and draws from known distributions."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from faceum.errors import DataError
from faceum.metrics.calibration import (
    calibration_interval,
    fit_spread,
    fit_temperature,
    reliability,
    spread_reliability,
)
from faceum.metrics.intervals import bootstrap


def test_by_hand():
    curve = reliability([0.2, 0.4, 0.9, 1.0], [False, True, True, True], bins=2)
    assert curve.confidence == pytest.approx([0.3, 0.95])
    assert curve.accuracy == pytest.approx([0.5, 1.0])
    assert curve.counts.tolist() == [2, 2]
    assert curve.expected_error == pytest.approx((0.2 + 0.05) / 2)


def test_equals_scikit_learn_and_leaves_out_empty_bins():
    rng = np.random.default_rng(0)
    confidences = rng.uniform(0.35, 1, 500)
    correct = rng.random(500) < confidences
    curve = reliability(confidences, correct)
    accuracy, confidence = calibration_curve(correct, confidences, n_bins=10)
    assert len(curve.counts) == 7
    assert curve.confidence == pytest.approx(confidence)
    assert curve.accuracy == pytest.approx(accuracy)


def test_true_deviations_lie_on_the_diagonal_and_halved_ones_do_not():
    rng = np.random.default_rng(0)
    deviations = rng.uniform(1, 10, 20_000)
    errors = rng.normal(0, deviations)
    honest = spread_reliability(deviations, errors)
    assert honest.observed == pytest.approx(honest.predicted, rel=0.06)
    assert honest.coverage == pytest.approx(honest.levels, abs=0.02)
    assert honest.counts.tolist() == [2000] * 10
    proud = spread_reliability(deviations / 2, errors)
    assert proud.observed == pytest.approx(2 * proud.predicted, rel=0.06)
    assert (proud.coverage < proud.levels - 0.03).all()


def test_values_that_are_no_confidence_are_refused():
    with pytest.raises(DataError, match="from 0 to 1, got values from 0.5 to 1.5"):
        reliability([0.5, 1.5], [True, True])
    with pytest.raises(DataError, match="1 of 2 confidences are NaN"):
        reliability([0.5, np.nan], [True, True])
    with pytest.raises(DataError, match="above 0, got 0"):
        spread_reliability([0, 1], [1, 1])


def test_interval_is_that_of_the_slow_way():
    rng = np.random.default_rng(0)
    confidences, correct = rng.uniform(0.5, 1, (30, 4)), rng.random((30, 4)) < 0.6
    known = rng.random((30, 4)) < 0.9

    def slow(rows):
        inside = known[rows]
        return reliability(confidences[rows][inside], correct[rows][inside]).expected_error

    theirs = bootstrap(slow, 30, resamples=300)
    ours = calibration_interval(confidences, correct, known)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high))


def test_temperature_undoes_a_scale():
    """Labels drawn by the logits need a temperature of 1; logits three times as large need 3."""
    rng = np.random.default_rng(0)
    logits = 2 * rng.standard_normal((4000, 5))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (p.cumsum(1) > rng.random((4000, 1))).argmax(1)
    assert fit_temperature(logits, labels) == pytest.approx(1, abs=0.08)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3 * fit_temperature(logits, labels), rel=1e-3)
    labels[::2] = -1
    assert fit_temperature(logits, labels) == pytest.approx(fit_temperature(logits[1::2], labels[1::2]))


def test_temperature_of_independent_answers():
    """Of faces with a logit of 2, three quarters are a yes: the right logit is log 3."""
    logits = np.full((4, 2), 2.0)
    labels = np.array([[1, -1], [1, -1], [1, -1], [0, -1]])
    assert fit_temperature(logits, labels) == pytest.approx(2 / np.log(3), rel=1e-3)
    with pytest.raises(DataError, match="got none"):
        fit_temperature(logits, np.full((4, 2), -1))


def test_spread_covers_what_it_states():
    errors = np.random.default_rng(0).normal(0, 3, 20_000)
    assert fit_spread(np.full(20_000, 2.0), errors) == pytest.approx(1.5, rel=0.03)
