"""Age, attributes and expression: a runner and samples in, one `Evaluation` each out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from faceum.errors import DataError
from faceum.evaluate.gather import Extremes, counting, finding_notes, group_tables, groups_of, rounded
from faceum.evaluate.record import Evaluation, Example, Score, Table, percent, years
from faceum.evaluate.samples import CutFace, answers
from faceum.metrics.age import AgeScores, age_scores
from faceum.metrics.attributes import AttributeScores, attribute_scores
from faceum.metrics.calibration import Reliability, calibration_interval, reliability, spread_reliability
from faceum.metrics.expression import NO_ANSWER, TIE, ClassScores, class_scores, majority_vote
from faceum.metrics.intervals import Interval, bootstrap, bootstrap_many, bootstrap_mean
from faceum.tasks import ATTRIBUTES, EXPRESSIONS

if TYPE_CHECKING:
    from faceum.runner import Runner

ADULTS = (21, 60)
"""The ages, both included, of UTKFace's usual subset."""


def evaluate_age(runner: Runner, samples: Iterable[CutFace], dataset: str = "") -> Evaluation:
    """Score ages in years: MAE (main), CS@5, the eps-error where labels have `age_sigma`, and calibration.

    samples: each with the label age. A missed face fails CS@5 and costs 1 in the eps-error; MAE, bias, groups
    and curves are over the faces found. Where there is a miss, `mae_with_set_box` is the MAE over all, missed
    faces cut by the set's box. Raises DataError when there is no sample or an answer is NaN.
    """
    found: Counter[str] = Counter()
    extremes = Extremes()
    truths, ages, spreads, true, missed = [], [], [], [], []
    for sample, answer in answers(runner, counting(samples, found), "age"):
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
            **_adults(scores.errors[kept], np.array(true)[kept]),
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
                "they fail CS@5 and cost 1 in the eps-error; MAE, bias and groups are over the others, and "
                "only mae_with_set_box holds them, cut by the set's box",
            ),
            *_age_notes(scores),
        ),
        best=extremes.best(),
        worst=extremes.worst(),
    )


def _mean_years(values: np.ndarray) -> Score:
    """The mean of values (N,) in years and its interval; none where no face was found."""
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
        "scatter": {"true": true.tolist(), "predicted": rounded(ages, 2)},
        "spread": {"predicted": rounded(spread.predicted), "observed": rounded(spread.observed)},
        "coverage": {"level": rounded(spread.levels), "share": rounded(spread.coverage)},
    }


def _adults(errors: np.ndarray, true: np.ndarray) -> dict[str, Score]:
    inside = (true >= ADULTS[0]) & (true <= ADULTS[1])
    if not inside.any():
        return {}
    adults = np.abs(errors[inside])
    return {f"mae_{ADULTS[0]}_{ADULTS[1]}": years(float(adults.mean()), bootstrap_mean(adults))}


def _age_notes(scores: AgeScores) -> list[str]:
    if scores.eps_error is None:
        return ["The set gives no deviation of its annotators, so there is no eps-error."]
    return []


def evaluate_attributes(runner: Runner, samples: Iterable[CutFace], dataset: str = "") -> Evaluation:
    """Score the 40 attributes at 0.5: mean accuracy (main), balanced accuracy, average precision.

    samples: each with the label attributes, (40,) bool, or int with -1 for not labelled. All answers for a
    missed face count as wrong. Raises DataError when there is no sample or an answer is NaN.
    """
    found: Counter[str] = Counter()
    extremes = Extremes()
    truths, probabilities, labels = [], [], []
    for sample, answer in answers(runner, counting(samples, found), "attributes"):
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
        curves={"reliability": _reliability_curve(held)},
        notes=(*finding_notes(found, "all their answers count as wrong"), *scores.notes),
        best=extremes.best(),
        worst=extremes.worst(),
    )


def _attribute_intervals(right: np.ndarray, label: np.ndarray) -> list[Interval | None]:
    """Intervals of each attribute's accuracy, then of each one's balanced accuracy, then of these' mean.

    right (N, A): 1 or 0, NaN where label (N, A) is -1.
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


def _bounds(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (100 * interval.low, 100 * interval.high)


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
                *_bounds(intervals[place]),
                *_bounds(intervals[place + len(scores.attributes)]),
            )
            for place, one in enumerate(scores.attributes)
        ),
    )


def _reliability_curve(held: Reliability) -> dict[str, list[float]]:
    return {
        "confidence": rounded(held.confidence),
        "accuracy": rounded(held.accuracy),
        "count": held.counts.tolist(),
    }


def evaluate_expression(
    runner: Runner, samples: Iterable[CutFace], dataset: str = "", *, classes: Sequence[str] | None = None
) -> Evaluation:
    """Score expressions: accuracy (main) and mean class accuracy over the majority vote, ties dropped.

    samples: each with the label expression_votes (8,). A missed face counts as wrong. classes: the words
    that the set knows, all by default; the answer is the likeliest of these, its probability that among
    these, and faces of another expression are dropped and counted. Raises DataError when no sample is left,
    an answer is NaN, or a face has no votes.
    """
    names = EXPRESSIONS if classes is None else tuple(name for name in EXPRESSIONS if name in classes)
    found: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    extremes = Extremes()
    truths, true, predicted, confidences = [], [], [], []
    for sample, answer in answers(runner, counting(_decided(samples, names, dropped), found), "expression"):
        label = names.index(_voted(sample))
        given = np.array([answer.probabilities.get(name, 0.0) for name in names])
        given = given / max(given.sum(), 1e-300)
        truths.append(sample.truth)
        true.append(label)
        predicted.append(NO_ANSWER if sample.found == "missed" else int(given.argmax()))
        confidences.append(float(given.max()))
        said = names[int(given.argmax())]
        caption = f"{names[label]}, said {said} ({100 * given.max():.0f} %)"
        error = 1 - float(given[label])
        extremes.add(Example(id=sample.id, error=error, caption=caption, image=sample.crop.image))
    scores = class_scores(predicted, true, names)
    right = np.array(predicted) == np.array(true)
    held = reliability(confidences, right)
    return Evaluation(
        protocol="expression",
        dataset=dataset,
        count=len(true),
        found=dict(found),
        scores={
            "accuracy": percent(scores.accuracy, bootstrap_mean(right)),
            "mean_class_accuracy": percent(
                scores.mean_class_accuracy,
                bootstrap(lambda rows: _mean_recall(right[rows], np.array(true)[rows]), len(true)),
            ),
            "calibration_error": percent(
                held.expected_error,
                calibration_interval(
                    np.array(confidences)[:, None], right[:, None], np.ones((len(true), 1), bool)
                ),
            ),
        },
        tables=(
            _expression_table(scores, np.array(true), right),
            *group_tables([groups_of(truth) for truth in truths], right, "accuracy, %", 100),
        ),
        curves={
            "confusion": {"names": list(names), "counts": scores.confusion.tolist()},
            "reliability": _reliability_curve(held),
        },
        notes=(
            f"{dropped['ties']} faces whose votes are tied were dropped.",
            *_class_notes(names, dropped["others"]),
            *finding_notes(found, "they count as wrong"),
            *scores.notes,
        ),
        best=extremes.best(),
        worst=extremes.worst(),
    )


def _voted(sample: CutFace) -> str:
    """The expression with most votes, "" where two share them."""
    label = int(majority_vote(np.asarray(sample.truth["expression_votes"])[None])[0][0])
    return "" if label == TIE else EXPRESSIONS[label]


def _decided(samples: Iterable[CutFace], names: Sequence[str], dropped: Counter[str]) -> Iterator[CutFace]:
    """Pass on the samples whose votes have one winner, and this among the names, counting the others."""
    for sample in samples:
        voted = _voted(sample)
        if voted in names:
            yield sample
        else:
            dropped["others" if voted else "ties"] += 1


def _class_notes(names: Sequence[str], others: int) -> list[str]:
    left_out = [name for name in EXPRESSIONS if name not in names]
    if not left_out:
        return []
    return [
        f"Judged among {len(names)} expressions: what the network says of {', '.join(left_out)} is left out, "
        f"and {others} faces labelled so were dropped."
    ]


def _mean_recall(right: np.ndarray, true: np.ndarray) -> float:
    counts = np.bincount(true, minlength=len(EXPRESSIONS))
    hits = np.bincount(true, right, len(EXPRESSIONS))
    return float((hits[counts > 0] / counts[counts > 0]).mean())


def _expression_table(scores: ClassScores, true: np.ndarray, right: np.ndarray) -> Table:
    length = len(scores.recalls)
    counts = np.bincount(true, minlength=length)

    def of_rows(rows: np.ndarray) -> np.ndarray:
        drawn = np.bincount(true[rows], minlength=length)
        hits = np.bincount(true[rows], right[rows], length)
        return np.where(drawn > 0, hits / np.maximum(drawn, 1), np.nan)

    intervals = bootstrap_many(of_rows, len(true))
    return Table(
        title="By expression",
        columns=("expression", "faces", "found, %", "found from, %", "found to, %"),
        rows=tuple(
            (name, int(count), None if recall is None else 100 * recall, *_bounds(interval))
            for (name, recall), count, interval in zip(scores.recalls.items(), counts, intervals, strict=True)
        ),
    )
