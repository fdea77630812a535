"""Score 68 landmarks per face: NME, failure rate, AUC and CED."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faceum.errors import DataError
from faceum.metrics.checks import check_finite, check_same_length

OUTER_EYES = (36, 45)
"""The outer eye corners among iBUG's 68 points, counted from 0."""

LIMIT = 0.10
"""The NME above which a face is a failure, and up to which the area under the CED is computed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LandmarkScores:
    """Errors of the points, as shares of the distance between the outer eye corners.

    nme: mean over the faces. failure_rate: share of faces whose NME is above `LIMIT`. auc: area under the
    cumulative error distribution from 0 to `LIMIT`, divided by `LIMIT`. errors: (N,) NME of each face.
    point_errors: (68,) mean error of each point.
    """

    nme: float
    failure_rate: float
    auc: float
    errors: np.ndarray
    point_errors: np.ndarray


def measure_normalized_errors(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return the errors (N, 68) of points, divided by the true distance of each face's outer eye corners.

    predicted, true: (N, 68, 2) x y in the same pixels. Raises DataError if a shape differs, a value is NaN,
    or both eye corners are one point.
    """
    predicted, true = check_finite("predicted points", predicted), check_finite("true points", true)
    check_same_length(predictions=predicted, labels=true)
    for name, points in (("predicted", predicted), ("true", true)):
        if points.ndim != 3 or points.shape[1:] != (68, 2):
            raise DataError(f"Expected {name} landmarks of shape (faces, 68, 2), got {points.shape}.")
    eye_distance = np.linalg.norm(true[:, OUTER_EYES[0]] - true[:, OUTER_EYES[1]], axis=1)
    if (eye_distance == 0).any():
        raise DataError(
            f"Face {int(np.argmax(eye_distance == 0))} has both outer eye corners in one place, so its error "
            "cannot be normalized; correct or leave out its label."
        )
    return np.linalg.norm(predicted - true, axis=2) / eye_distance[:, None]


def landmark_scores(
    predicted: np.ndarray, true: np.ndarray, missed: np.ndarray | Sequence[bool] | None = None
) -> LandmarkScores:
    """Score points (N, 68, 2) against true ones (N, 68, 2), x y in the same pixels.

    missed: (N,) bool, faces that the detector did not find: they are failures whatever their points are, so
        they add nothing to `auc`; `nme` uses their points.
    """
    distances = measure_normalized_errors(predicted, true)
    errors = distances.mean(axis=1)
    lost = np.zeros(len(errors), bool) if missed is None else np.asarray(missed, bool)
    check_same_length(predictions=errors, missed=lost)
    judged = np.where(lost, np.inf, errors)
    return LandmarkScores(
        nme=float(errors.mean()),
        failure_rate=float((judged > LIMIT).mean()),
        auc=float(np.clip(1 - judged / LIMIT, 0, None).mean()),
        errors=errors,
        point_errors=distances.mean(axis=0),
    )


def cumulative_errors(
    errors: np.ndarray | Sequence[float], limit: float = LIMIT
) -> tuple[np.ndarray, np.ndarray]:
    """Return the CED: errors (K,) from 0 to `limit`, and (K,) the share of faces at or below each."""
    errors = np.sort(check_finite("errors", errors))
    inside = errors[errors <= limit]
    steps = np.concatenate(([0.0], np.unique(inside), [limit]))
    return steps, np.searchsorted(errors, steps, side="right") / len(errors)
