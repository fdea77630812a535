"""Score the 40 attributes: accuracy, balanced accuracy, average precision and calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from faceum.errors import DataError
from faceum.evaluate.gather import (
    Extremes,
    count_found,
    finding_notes,
    group_tables,
    groups_of,
    reliability_curve,
)
from faceum.evaluate.record import Evaluation, Example, Table, percent, percent_bounds
from faceum.evaluate.samples import CutFace, answers
from faceum.metrics.attributes import AttributeScores, attribute_scores
from faceum.metrics.calibration import calibration_interval, reliability
from faceum.metrics.intervals import Interval, bootstrap_many, bootstrap_mean
from faceum.tasks import ATTRIBUTES

if TYPE_CHECKING:
    from faceum.runner import Runner


def evaluate_attributes(runner: Runner, samples: Iterable[CutFace], dataset: str = "") -> Evaluation:
    """Score the 40 attributes at 0.5: mean accuracy (main), balanced accuracy, average precision.

    samples: each with the label attributes, (40,) bool, or int with -1 for not labelled. All answers for a
    missed face count as wrong. Raises DataError if there is no sample or an answer is NaN.
    """
    found: Counter[str] = Counter()
    extremes = Extremes()
    truths, probabilities, labels = [], [], []
    for sample, answer in answers(runner, count_found(samples, found), "attributes"):
        truth = np.asarray(sample.truth["attributes"]).astype(np.int64)
        given = np.array([answer[name] for name in ATTRIBUTES])
        given = np.where(truth == 1, 0.0, 1.0) if sample.found == "missed" else given
        truths.append(sample.truth)
        probabilities.append(given)
        labels.append(truth)
        wrong = (truth >= 0) & ((given > 0.5) != (truth == 1))
        names = ", ".join(name for name, one in zip(ATTRIBUTES, wrong, strict=True) if one) or "none"
        error = float(wrong.sum())
        extremes.add(Example(id=sample.id, error=error, caption=f"wrong: {names}", image=sample.crop.image))
    if not truths:
        raise DataError("There are no faces with attributes to score; give at least one.")
    given, label = np.stack(probabilities), np.stack(labels)
    scores = attribute_scores(given, label, ATTRIBUTES)
    right = np.where(label >= 0, (given > 0.5) == (label == 1), np.nan)
    by_face = np.nanmean(right, axis=1)
    sure = np.maximum(given, 1 - given)
    held = reliability(sure[label >= 0], right[label >= 0] == 1)
    intervals = _attribute_intervals(right, label)
    return Evaluation(
        protocol="attributes",
        dataset=dataset,
        count=len(truths),
        found=dict(found),
        scores={
            "accuracy": percent(scores.accuracy, bootstrap_mean(by_face)),
            "balanced_accuracy": percent(scores.balanced_accuracy, intervals[-1]),
            "average_precision": percent(scores.average_precision),
            "majority": percent(scores.majority),
            "calibration_error": percent(
                held.expected_error, calibration_interval(sure, right == 1, label >= 0)
            ),
        },
        tables=(
            _attribute_table(scores, intervals),
            *group_tables([groups_of(truth) for truth in truths], by_face, "accuracy, %", 100),
        ),
        curves={"reliability": reliability_curve(held)},
        notes=(*finding_notes(found, "all their answers count as wrong"), *scores.notes),
        best=extremes.best(),
        worst=extremes.worst(),
    )


def _attribute_intervals(right: np.ndarray, label: np.ndarray) -> list[Interval | None]:
    """Return intervals: A of the accuracies, A of the balanced accuracies, one of the mean of the latter.

    right: (N, A) 1 or 0, NaN where label (N, A) is -1.
    """
    yes, no, hit = label == 1, label == 0, right == 1
    parts = [part.astype(np.float64) for part in (yes, no, hit & yes, hit & no)]

    def of_rows(rows: np.ndarray) -> np.ndarray:
        drawn = np.bincount(rows, minlength=len(label)).astype(np.float64)
        all_yes, all_no, hit_yes, hit_no = (drawn @ part for part in parts)
        with np.errstate(invalid="ignore", divide="ignore"):
            accuracy = (hit_yes + hit_no) / (all_yes + all_no)
            balanced = (hit_yes / all_yes + hit_no / all_no) / 2
        known = balanced[np.isfinite(balanced)]
        return np.concatenate([accuracy, balanced, [known.mean() if len(known) else np.nan]])

    return bootstrap_many(of_rows, len(label))


def _attribute_table(scores: AttributeScores, intervals: Sequence[Interval | None]) -> Table:
    def shown(share: float | None) -> float | None:
        return None if share is None else 100 * share

    return Table(
        title="By attribute",
        columns=(
            *("attribute", "faces", "yes, %", "accuracy, %", "balanced, %", "average precision, %"),
            *("accuracy from, %", "accuracy to, %", "balanced from, %", "balanced to, %"),
        ),
        rows=tuple(
            (
                one.name,
                one.count,
                shown(one.positive),
                shown(one.accuracy),
                shown(one.balanced_accuracy),
                shown(one.average_precision),
                *percent_bounds(intervals[place]),
                *percent_bounds(intervals[place + len(scores.attributes)]),
            )
            for place, one in enumerate(scores.attributes)
        ),
    )
