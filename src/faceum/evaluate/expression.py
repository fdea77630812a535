"""Score expressions: accuracy, mean class accuracy and calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from faceum.errors import count_noun
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
from faceum.metrics.calibration import calibration_interval, reliability
from faceum.metrics.expression import NO_ANSWER, TIE, ClassScores, class_scores, majority_vote
from faceum.metrics.intervals import bootstrap, bootstrap_many, bootstrap_mean
from faceum.tasks import EXPRESSIONS

if TYPE_CHECKING:
    from faceum.runner import Runner


def evaluate_expression(
    runner: Runner, samples: Iterable[CutFace], dataset: str = "", *, classes: Sequence[str] | None = None
) -> Evaluation:
    """Score expressions against the majority vote: accuracy (main) and mean class accuracy.

    samples: each with the label expression_votes (8,); faces with tied votes are dropped. A missed face
    counts as wrong. classes: the expressions that the set labels, all by default; the answer is the most
    probable of them, probabilities are divided by their sum over them, and faces of other expressions are
    dropped. Raises DataError if no sample is left, an answer is NaN, or a face has no votes.
    """
    names = EXPRESSIONS if classes is None else tuple(name for name in EXPRESSIONS if name in classes)
    found: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    extremes = Extremes()
    truths, true, predicted, confidences = [], [], [], []
    for sample, answer in answers(
        runner, count_found(_select_decided(samples, names, dropped), found), "expression"
    ):
        label = names.index(_find_majority(sample))
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
            "reliability": reliability_curve(held),
        },
        notes=(
            f"Dropped because votes are tied: {count_noun(dropped['ties'], 'face')}.",
            *_class_notes(names, dropped["others"]),
            *finding_notes(found, "they count as wrong"),
            *scores.notes,
        ),
        best=extremes.best(),
        worst=extremes.worst(),
    )


def _find_majority(sample: CutFace) -> str:
    """Return the expression with the most votes; "" if several have."""
    label = int(majority_vote(np.asarray(sample.truth["expression_votes"])[None])[0][0])
    return "" if label == TIE else EXPRESSIONS[label]


def _select_decided(
    samples: Iterable[CutFace], names: Sequence[str], dropped: Counter[str]
) -> Iterator[CutFace]:
    """Yield the samples whose majority is one of the names; count the others in `dropped`."""
    for sample in samples:
        voted = _find_majority(sample)
        if voted in names:
            yield sample
        else:
            dropped["others" if voted else "ties"] += 1


def _class_notes(names: Sequence[str], others: int) -> list[str]:
    left_out = [name for name in EXPRESSIONS if name not in names]
    if not left_out:
        return []
    return [
        f"Compared without {', '.join(left_out)}; dropped with these labels: {count_noun(others, 'face')}."
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
            (name, int(count), None if recall is None else 100 * recall, *percent_bounds(interval))
            for (name, recall), count, interval in zip(scores.recalls.items(), counts, intervals, strict=True)
        ),
    )
