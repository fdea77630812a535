"""Score ages: MAE, CS@5, eps-error and calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from faceum.evaluate.gather import (
    Extremes,
    count_found,
    finding_notes,
    group_tables,
    groups_of,
    round_numbers,
)
from faceum.evaluate.record import Evaluation, Example, Score, percent, years
from faceum.evaluate.samples import CutFace, answers
from faceum.metrics.age import AgeScores, age_scores
from faceum.metrics.calibration import spread_reliability
from faceum.metrics.intervals import bootstrap_mean

if TYPE_CHECKING:
    from faceum.runner import Runner

ADULTS = (21, 60)
"""The ages, both included, of UTKFace's usual subset."""


def evaluate_age(runner: Runner, samples: Iterable[CutFace], dataset: str = "") -> Evaluation:
    """Score ages in years: MAE (main), CS@5, the eps-error where labels have `age_sigma`, and calibration.

    samples: each with the label age. A missed face fails CS@5 and counts as 1 in the eps-error; MAE, bias,
    groups and curves are over the faces found. If any face is missed, `mae_with_set_box` is the MAE over all
    faces, with missed ones cropped by the set's box. Raises DataError if there is no sample or an answer is
    NaN.
    """
    found: Counter[str] = Counter()
    extremes = Extremes()
    truths, ages, spreads, true, missed = [], [], [], [], []
    for sample, answer in answers(runner, count_found(samples, found), "age"):
        truths.append(sample.truth)
        true.append(float(sample.truth["age"]))
        ages.append(answer.years)
        spreads.append(answer.std)
        missed.append(sample.found == "missed")
        caption = f"{true[-1]:.0f} years, said {answer.years:.1f} ± {answer.std:.1f}"
        error = abs(answer.years - true[-1])
        extremes.add(Example(id=sample.id, error=error, caption=caption, image=sample.crop.image))
    sigma = [truth["age_sigma"] for truth in truths if "age_sigma" in truth]
    scores = age_scores(ages, true, sigma if sigma and len(sigma) == len(truths) else None)
    kept = ~np.array(missed)
    absolute = np.abs(scores.errors)
    within = (absolute <= 5) & kept
    return Evaluation(
        protocol="age",
        dataset=dataset,
        count=len(true),
        found=dict(found),
        scores={
            "mae": _mean_years(absolute[kept]),
            "cs5": percent(float(within.mean()), bootstrap_mean(within)),
            **({} if kept.all() else {"mae_with_set_box": _mean_years(absolute)}),
            **_score_adults(scores.errors[kept], np.array(true)[kept]),
            "bias": _mean_years(scores.errors[kept]),
            "eps_error": _eps_error(scores, kept),
        },
        tables=group_tables(
            [groups_of(truth) for truth, one in zip(truths, kept, strict=True) if one],
            absolute[kept],
            "MAE, years",
        ),
        curves=_age_curves(np.array(true)[kept], np.array(ages)[kept], np.array(spreads)[kept]),
        notes=(
            *finding_notes(
                found,
                "they fail CS@5 and count as 1 in the eps-error; MAE, bias and groups are over the others, "
                "and only mae_with_set_box includes them, cropped by the set's box",
            ),
            *_age_notes(scores),
        ),
        best=extremes.best(),
        worst=extremes.worst(),
    )


def _mean_years(values: np.ndarray) -> Score:
    """Return the mean of values (N,) in years and its interval; an empty score if no face was found."""
    return years(float(values.mean()), bootstrap_mean(values)) if len(values) else years(None)


def _eps_error(scores: AgeScores, kept: np.ndarray) -> Score:
    if scores.eps_errors is None:
        return Score(value=None)
    costs = np.where(kept, scores.eps_errors, 1.0)
    interval = bootstrap_mean(costs)
    return Score(value=float(costs.mean()), low=interval.low, high=interval.high)


def _age_curves(true: np.ndarray, ages: np.ndarray, spreads: np.ndarray) -> dict[str, dict[str, list[float]]]:
    if len(true) == 0:
        return {}
    spread = spread_reliability(spreads, ages - true)
    return {
        "scatter": {"true": true.tolist(), "predicted": round_numbers(ages, 2)},
        "spread": {"predicted": round_numbers(spread.predicted), "observed": round_numbers(spread.observed)},
        "coverage": {"level": round_numbers(spread.levels), "share": round_numbers(spread.coverage)},
    }


def _score_adults(errors: np.ndarray, true: np.ndarray) -> dict[str, Score]:
    inside = (true >= ADULTS[0]) & (true <= ADULTS[1])
    if not inside.any():
        return {}
    adults = np.abs(errors[inside])
    return {f"mae_{ADULTS[0]}_{ADULTS[1]}": years(float(adults.mean()), bootstrap_mean(adults))}


def _age_notes(scores: AgeScores) -> list[str]:
    if scores.eps_error is None:
        return ["The set has no deviations of its annotators, so there is no eps-error."]
    return []
