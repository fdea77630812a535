"""Score ages in years: MAE, CS@5 and the eps-error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faceum.errors import DataError
from faceum.metrics.checks import check_finite, check_same_length


@dataclass(frozen=True, kw_only=True, eq=False)
class AgeScores:
    """The errors of predicted ages.

    mae: mean absolute error in years. cs5: share of images with an error of at most five years.
    eps_error: mean of 1 - exp(-(error / sigma)^2 / 2), 0..1 (ChaLearn LAP), None where the set has no sigma.
    bias: mean of predicted minus true, in years. errors: (N,) predicted minus true, in years.
    eps_errors: (N,) the eps-error of each image, or None.
    """

    mae: float
    cs5: float
    eps_error: float | None
    bias: float
    errors: np.ndarray
    eps_errors: np.ndarray | None = None


def age_scores(
    predicted: np.ndarray | Sequence[float],
    true: np.ndarray | Sequence[float],
    sigma: np.ndarray | Sequence[float] | float | None = None,
) -> AgeScores:
    """Score predicted against true ages in years, both (N,).

    sigma: standard deviation of the annotators in years, one number or (N,), if known. Raises DataError if a
    value is NaN, the lengths differ, or a sigma is not above 0.
    """
    predicted, true = check_finite("predicted ages", predicted), check_finite("true ages", true)
    check_same_length(predictions=predicted, ages=true)
    errors = predicted - true
    eps_errors = None
    if sigma is not None:
        deviations = check_finite(
            "age deviations", np.broadcast_to(np.asarray(sigma, np.float64), true.shape)
        )
        if (deviations <= 0).any():
            raise DataError(
                f"The eps-error divides by the annotators' deviation, which must be above 0 years; "
                f"got {float(deviations.min())}."
            )
        eps_errors = 1 - np.exp(-np.square(errors / deviations) / 2)
    absolute = np.abs(errors)
    return AgeScores(
        mae=float(absolute.mean()),
        cs5=float((absolute <= 5).mean()),
        eps_error=None if eps_errors is None else float(eps_errors.mean()),
        bias=float(errors.mean()),
        errors=errors,
        eps_errors=eps_errors,
    )
