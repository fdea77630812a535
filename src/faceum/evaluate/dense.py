"""Score parsing and landmarks in the whole image."""

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
    round_numbers,
)
from faceum.evaluate.record import Evaluation, Example, Score, Table, percent
from faceum.evaluate.samples import CutFace, answers
from faceum.metrics.intervals import bootstrap, bootstrap_many, bootstrap_mean
from faceum.metrics.landmarks import LIMIT, cumulative_errors, landmark_scores, measure_normalized_errors
from faceum.metrics.parsing import OFTEN, ParsingScores, f1_of_confusion, image_confusion, parsing_scores
from faceum.tasks import PARSING_CLASSES

if TYPE_CHECKING:
    from faceum.runner import Runner

REGIONS = {
    "jaw": range(17),
    "brows": range(17, 27),
    "nose": range(27, 36),
    "eyes": range(36, 48),
    "mouth": range(48, 68),
}
"""Which of the 68 points belong to which part of the face."""


def evaluate_parsing(
    runner: Runner, samples: Iterable[CutFace], dataset: str = "", *, classes: Sequence[int] | None = None
) -> Evaluation:
    """Score class maps, pasted back into the whole image: mean F1 without background over one confusion.

    samples: each with the label parsing, (H, W) class ids of the image. The answer for a missed face is
    background everywhere. classes: ids that the set labels, background first, all by default; predicted
    pixels of other classes count as background, and the means are over the labelled classes. Raises DataError
    if there is no sample or a label contains an id that is no class.
    """
    known = list(range(len(PARSING_CLASSES)) if classes is None else classes)
    names = [PARSING_CLASSES[index] for index in known]
    found: Counter[str] = Counter()
    extremes = Extremes()
    truths, confusions = [], []
    for sample, answer in answers(runner, count_found(samples, found), "parsing"):
        label = np.asarray(sample.truth["parsing"])
        pasted = np.zeros(label.shape, np.uint8)
        if sample.found != "missed":
            pasted = answer.paste((label.shape[0], label.shape[1]), unknown=0)
            pasted[~np.isin(pasted, known)] = 0
        confusion = image_confusion(pasted, label, len(PARSING_CLASSES))
        truths.append(sample.truth)
        confusions.append(confusion)
        if sample.image is not None:
            value = _image_f1(confusion)
            extremes.add(
                Example(
                    id=sample.id,
                    error=1 - value,
                    caption=f"mean F1 {100 * value:.1f}",
                    image=sample.image,
                    truth=label,
                    answer=pasted,
                )
            )
    if not confusions:
        raise DataError("There are no faces with a parsing map to score; give at least one.")
    stacked = np.stack(confusions)[:, known][:, :, known]
    scores = parsing_scores(stacked, names)
    by_face = np.array([_image_f1(confusion) for confusion in stacked])
    return Evaluation(
        protocol="parsing",
        dataset=dataset,
        count=len(stacked),
        found=dict(found),
        scores=_parsing_scores(stacked, scores),
        tables=(
            _parsing_table(scores, stacked),
            *group_tables([groups_of(truth) for truth in truths], by_face, "mean F1, %", 100),
        ),
        curves={"confusion": {"names": names, "counts": scores.confusion.tolist()}},
        notes=(*finding_notes(found, "their answer is background everywhere"), *scores.notes),
        best=extremes.best(),
        worst=extremes.worst(),
    )


def _parsing_scores(confusions: np.ndarray, scores: ParsingScores) -> dict[str, Score]:
    """Return the mean F1 of the frequent classes (main) and of all; names contain the number of classes."""
    names = list(scores.f1)
    often = [names.index(name) for name in scores.frequent]
    every = list(range(1, len(names)))

    def mean_f1(classes: list[int]) -> Score:
        def of_rows(rows: np.ndarray) -> float:
            values = f1_of_confusion(confusions[rows].sum(axis=0))[classes]
            return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

        value = of_rows(np.arange(len(confusions)))
        if np.isnan(value):
            return percent(None)
        return percent(value, bootstrap(of_rows, len(confusions), resamples=500))

    numbers = {f"f1_{len(often)}": mean_f1(often)} if often else {}
    numbers[f"f1_{len(every)}"] = mean_f1(every)
    hits = np.trace(scores.confusion) / scores.confusion.sum()
    numbers["pixel_accuracy"] = percent(float(hits))
    return numbers


def _image_f1(confusion: np.ndarray) -> float:
    """Return the mean F1 of the classes that are labelled in an image but the background; 1 if none is."""
    labelled = confusion.sum(axis=1)[1:] > 0
    return float(f1_of_confusion(confusion)[1:][labelled].mean()) if labelled.any() else 1.0


def _parsing_table(scores: ParsingScores, confusions: np.ndarray) -> Table:
    intervals = bootstrap_many(
        lambda rows: f1_of_confusion(confusions[rows].sum(axis=0)), len(confusions), resamples=200
    )
    bounds = [(None, None) if one is None else (100 * one.low, 100 * one.high) for one in intervals]
    return Table(
        title=f"By class (* counts in the mean over classes labelled in at least {OFTEN} images)",
        columns=("class", "images", "F1, %", "F1 from, %", "F1 to, %"),
        rows=tuple(
            (
                f"{name} *" if name in scores.frequent else name,
                scores.images[name],
                None if value is None else 100 * value,
                *bounds[place],
            )
            for place, (name, value) in enumerate(scores.f1.items())
        ),
    )


def evaluate_landmarks(runner: Runner, samples: Iterable[CutFace], dataset: str = "") -> Evaluation:
    """Score 68 points in the image's pixels: NME by the outer eye corners (main), FR@10, AUC@10.

    samples: each with the label landmarks (68, 2). A missed face is a failure in FR@10 and AUC@10; NME and
    its tables are over the faces found. If any face is missed, `nme_with_set_box` is the NME over all faces,
    with missed ones cropped by the set's box. Raises DataError if there is no sample or an answer is NaN.
    """
    found: Counter[str] = Counter()
    extremes = Extremes()
    truths, predicted, true, missed = [], [], [], []
    for sample, answer in answers(runner, count_found(samples, found), "landmarks"):
        label = np.asarray(sample.truth["landmarks68"], np.float64)
        truths.append(sample.truth)
        predicted.append(np.asarray(answer, np.float64))
        true.append(label)
        missed.append(sample.found == "missed")
        if sample.image is not None:
            error = float(measure_normalized_errors(predicted[-1][None], label[None]).mean())
            extremes.add(
                Example(
                    id=sample.id,
                    error=error,
                    caption=f"NME {100 * error:.2f} %",
                    image=sample.image,
                    truth=label,
                    answer=predicted[-1],
                )
            )
    if not true:
        raise DataError("There are no faces with landmarks to score; give at least one.")
    scores = landmark_scores(np.stack(predicted), np.stack(true), missed)
    lost = np.array(missed)
    failed = lost | (scores.errors > LIMIT)
    area = np.where(lost, 0.0, np.clip(1 - scores.errors / LIMIT, 0, None))
    steps, share = cumulative_errors(np.where(lost, 1e9, scores.errors))
    return Evaluation(
        protocol="landmarks",
        dataset=dataset,
        count=len(true),
        found=dict(found),
        scores={
            "nme": _mean_percent(scores.errors[~lost]),
            "fr10": percent(scores.failure_rate, bootstrap_mean(failed)),
            "auc10": percent(scores.auc, bootstrap_mean(area)),
            **({"nme_with_set_box": _mean_percent(scores.errors)} if lost.any() else {}),
        },
        tables=(
            *_region_tables(measure_normalized_errors(np.stack(predicted), np.stack(true))[~lost]),
            *group_tables(
                [groups_of(truth) for truth, one in zip(truths, lost, strict=True) if not one],
                scores.errors[~lost],
                "NME, %",
                100,
            ),
        ),
        curves={"ced": {"error": round_numbers(steps), "share": round_numbers(share)}},
        notes=tuple(
            finding_notes(
                found,
                "they fail in FR@10 and AUC@10; NME is over the others, and only nme_with_set_box includes "
                "them, cropped by the set's box",
            )
        ),
        best=extremes.best(),
        worst=extremes.worst(),
    )


def _mean_percent(shares: np.ndarray) -> Score:
    """Return the mean of shares (N,) in per cent and its interval; an empty score if no face was found."""
    return percent(float(shares.mean()), bootstrap_mean(shares)) if len(shares) else percent(None)


def _region_tables(point_errors: np.ndarray) -> list[Table]:
    """Return one table of (N, 68) errors; none if no face was found."""
    if len(point_errors) == 0:
        return []
    rows: list[tuple[str | int | float | None, ...]] = []
    for name, points in REGIONS.items():
        by_face = 100 * point_errors[:, list(points)].mean(axis=1)
        interval = bootstrap_mean(by_face)
        rows.append((name, len(points), float(by_face.mean()), interval.low, interval.high))
    columns = ("part", "points", "NME, %", "NME from, %", "NME to, %")
    return [Table(title="By part of the face", columns=columns, rows=tuple(rows))]
