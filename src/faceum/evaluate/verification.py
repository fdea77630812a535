"""Score verification: compare the embeddings of the faces of each pair.

An embedding is the network's answer for the crop plus that for its mirror image, then L2-normalized. In the
masked protocol one face of every pair wears a mask, painted into the image before it is cut; which one, the
seed decides.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from faceum.data.face import find_labelled
from faceum.data.mask_painter import paint_mask, paint_mask_by_points5
from faceum.errors import DataError, count_noun
from faceum.evaluate.gather import Extremes, finding_notes, group_tables, groups_of, round_numbers
from faceum.evaluate.record import Evaluation, Example, Score, Table, percent
from faceum.evaluate.samples import BATCH, CutFace, batches, mirror_crop, run
from faceum.metrics.intervals import bootstrap, bootstrap_mean
from faceum.metrics.verification import (
    OperatingPoint,
    measure_squared_distances,
    operating_point,
    roc,
    verify_folds,
)
from faceum.quality import measure_signals

if TYPE_CHECKING:
    from faceum.data.face import LabelledFace
    from faceum.data.pairs import Pairs
    from faceum.detect.base import Detector
    from faceum.runner import Runner

RATES = (1e-1, 1e-2, 1e-3, 1e-4)
"""The false match rates at which a threshold is given."""

NEVER = 5.0
"""The squared distance of a pair that no threshold accepts; embeddings are at most 4 apart."""

THUMBNAIL = 64
"""Pixels a side of the crops kept for examples."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Embeddings:
    """The embeddings of a set's faces.

    vectors: id -> (D,) float64 of length 1, of face and mirror image. single: id -> (D,) float32 of length 1,
    of the face alone. signals: id -> the numbers of `faceum.quality.SIGNALS`. people: id -> the person's name
    or number, where the set tells it. thumbnails: id -> (64, 64, 3) uint8 RGB. found: id -> how the face was
    found, a key of `SOURCES`. groups: id -> kind of group -> group.
    """

    vectors: dict[str, np.ndarray]
    single: dict[str, np.ndarray]
    signals: dict[str, tuple[float, ...]]
    people: dict[str, Any]
    thumbnails: dict[str, np.ndarray]
    found: dict[str, str]
    groups: dict[str, dict[str, str]]


def embed(runner: Runner, samples: Iterable[CutFace]) -> Embeddings:
    """Return every sample's embedding, L2-normalized; DataError where one is NaN or zero."""
    vectors, single, signals, people, thumbnails, found, groups = {}, {}, {}, {}, {}, {}, {}
    spec = runner.card.crop_of("recognition")
    for group in batches(samples, BATCH):
        crops = [sample.crop for sample in group]
        both = crops + [mirror_crop(crop, spec) for crop in crops]
        outputs = run(runner, both, "recognition")["recognition"].astype(np.float64)
        summed = outputs[: len(group)] + outputs[len(group) :]
        measured = np.stack([*measure_signals(outputs[: len(group)], crops).values()], axis=1)
        for sample, vector, alone, row in zip(group, summed, outputs[: len(group)], measured, strict=True):
            length = float(np.linalg.norm(vector))
            if not np.isfinite(length) or length == 0:
                raise DataError(f"The embedding of {sample.id} is NaN or zero, so it cannot be compared.")
            vectors[sample.id] = vector / length
            single[sample.id] = (alone / max(float(np.linalg.norm(alone)), 1e-12)).astype(np.float32)
            signals[sample.id] = tuple(row.tolist())
            if "identity" in sample.truth:
                people[sample.id] = sample.truth["identity"]
            size = (THUMBNAIL, THUMBNAIL)
            thumbnails[sample.id] = cv2.resize(sample.crop.image, size, interpolation=cv2.INTER_AREA)
            found[sample.id] = sample.found
            groups[sample.id] = groups_of(sample.truth)
    return Embeddings(
        vectors=vectors,
        single=single,
        signals=signals,
        people=people,
        thumbnails=thumbnails,
        found=found,
        groups=groups,
    )


def turn_pairs(pairs: Pairs, seed: int = 0) -> Pairs:
    """Return the pairs, each turned so that its side b is the face to be masked or damaged.

    Which one that is depends on the seed and the two faces' ids alone.
    """
    turned = np.array(
        [
            np.random.default_rng((seed, zlib.crc32(f"{a} {b}".encode()))).random() < 0.5
            for a, b in zip(pairs.a, pairs.b, strict=True)
        ]
    )
    return replace(pairs, a=np.where(turned, pairs.b, pairs.a), b=np.where(turned, pairs.a, pairs.b))


def mask_rows(
    rows: Iterable[LabelledFace],
    landmarks: Mapping[str, np.ndarray],
    seed: int = 0,
    detector: Detector | None = None,
    unpainted: list[str] | None = None,
) -> Iterator[LabelledFace]:
    """Yield the rows with a mask painted on; which one depends on the seed and the face's id alone.

    landmarks: id -> (68, 2) points in the image; a face that is not there is painted by its own
    landmarks, or by its five points, or by those that the detector sees. A face that it does not find is
    yielded bare, and its id appended to `unpainted`. Raises DataError naming a face without points where
    there is no detector.
    """
    for row in rows:
        rng = np.random.default_rng((seed, zlib.crc32(row.id.encode())))
        points = landmarks.get(row.id, row.labels.get("landmarks68"))
        if points is not None:
            yield replace(row, image=paint_mask(row.image, points, rng))
        elif row.points5 is not None:
            yield replace(row, image=paint_mask_by_points5(row.image, row.points5, rng))
        elif detector is None:
            raise DataError(
                f"{row.id} has no landmarks to paint a mask by; give a file that holds them, or a detector."
            )
        elif (seen := find_labelled(detector, row.image, row.box)) is not None and seen.points5 is not None:
            yield replace(row, image=paint_mask_by_points5(row.image, seen.points5, rng))
        else:
            if unpainted is not None:
                unpainted.append(row.id)
            yield row


def evaluate_verification(
    first: Embeddings, second: Embeddings, pairs: Pairs, dataset: str = "", protocol: str = "verification"
) -> Evaluation:
    """Score pairs: cross-validated accuracy (main), TAR at FAR 1e-3 and 1e-4, equal error, area of the ROC.

    first, second: where side a and side b of the pairs are looked up; the same object when no side is masked.
    A pair with a missed face is wrong in the accuracy and accepted at no threshold in all else; where there
    is one, `accuracy_with_set_box` is the accuracy with missed faces cut by the set's box.
    Raises DataError when a face of a pair is missing or there are not both kinds of pairs.
    """
    for side, known in ((pairs.a, first), (pairs.b, second)):
        absent = [name for name in side if name not in known.vectors]
        if absent:
            raise DataError(
                f"The set lacks {count_noun(len(absent), 'face')} of its pairs, such as {absent[0]}."
            )
    distances = measure_squared_distances(
        np.stack([first.vectors[name] for name in pairs.a]),
        np.stack([second.vectors[name] for name in pairs.b]),
    )
    answered = np.array(
        [
            first.found[a] != "missed" and second.found[b] != "missed"
            for a, b in zip(pairs.a, pairs.b, strict=True)
        ]
    )
    judged = np.where(answered, distances, NEVER)
    verified = verify_folds(distances, pairs.same, pairs.fold, answered)
    curve = roc(judged, pairs.same)
    points = [operating_point(judged, pairs.same, rate) for rate in RATES]
    found = _count_found(first, second, pairs)
    best, worst = _examples(first, second, pairs, distances, float(np.mean(verified.fold_thresholds)))
    return Evaluation(
        protocol=protocol,
        dataset=dataset,
        count=len(pairs),
        found=dict(found),
        scores={
            "accuracy": percent(verified.accuracy, bootstrap_mean(verified.correct)),
            **_accuracy_with_set_box(distances, pairs, answered),
            **_tar_scores(judged, pairs.same, points),
            **_roc_scores(judged, pairs.same),
        },
        tables=(
            _fold_table(verified.fold_accuracies, verified.fold_thresholds),
            _threshold_table(points),
            *group_tables(_pair_groups(first, second, pairs), verified.correct, "accuracy, %", 100),
        ),
        curves={
            "roc": {"far": round_numbers(curve.far), "tar": round_numbers(curve.tar)},
            "distances": _histogram(distances[answered], pairs.same[answered]),
        },
        notes=(
            *finding_notes(
                found,
                f"{int((~answered).sum()):,} of {count_noun(len(pairs), 'pair')} with one of them. Accuracy "
                "counts these as wrong, no threshold accepts them, and only accuracy_with_set_box compares "
                "them, cut by the set's box",
            ),
            *_support_notes(points),
        ),
        best=best,
        worst=worst,
    )


def _count_found(first: Embeddings, second: Embeddings, pairs: Pairs) -> Counter[str]:
    """Count how the pairs' faces were found: each face once, or once masked and once bare."""
    if second is first:
        return Counter(first.found[name] for name in {*pairs.a, *pairs.b})
    found = Counter(first.found[name] for name in set(pairs.a))
    found.update(second.found[name] for name in set(pairs.b))
    return found


def _accuracy_with_set_box(distances: np.ndarray, pairs: Pairs, answered: np.ndarray) -> dict[str, Score]:
    """Return the accuracy with missed faces cut by the set's box; empty if no face was missed."""
    if answered.all():
        return {}
    verified = verify_folds(distances, pairs.same, pairs.fold)
    return {"accuracy_with_set_box": percent(verified.accuracy, bootstrap_mean(verified.correct))}


def _roc_scores(distances: np.ndarray, same: np.ndarray) -> dict[str, Score]:
    def of_rows(rows: np.ndarray, name: str) -> float:
        if same[rows].all() or not same[rows].any():
            return float("nan")
        return float(getattr(roc(distances[rows], same[rows]), name))

    scores = {}
    for name, word in (("equal_error", "equal_error"), ("area", "roc_area")):
        of_name = partial(of_rows, name=name)
        scores[word] = percent(of_name(np.arange(len(same))), bootstrap(of_name, len(same), resamples=300))
    return scores


def _tar_scores(distances: np.ndarray, same: np.ndarray, points: list[OperatingPoint]) -> dict[str, Score]:
    def interval_of(rate: float) -> Score:
        def of_rows(rows: np.ndarray) -> float:
            if same[rows].all() or not same[rows].any():
                return float("nan")
            return operating_point(distances[rows], same[rows], rate).tar

        return percent(of_rows(np.arange(len(same))), bootstrap(of_rows, len(same), resamples=300))

    return {
        f"tar_at_far_{point.far:g}": interval_of(point.far)
        for point in points
        if point.far < 0.01 and point.supported
    }


def _support_notes(points: list[OperatingPoint]) -> list[str]:
    few = [point for point in points if not point.supported]
    if not few:
        return []
    rates = ", ".join(f"{point.far:g}" for point in few)
    return [
        f"There are too few pairs of different people to measure a false match rate of {rates}; with no "
        f"false match at all, {100 * few[0].tar:.2f} % of the pairs of one person are accepted."
    ]


def _fold_table(accuracies: tuple[float, ...], thresholds: tuple[float, ...]) -> Table:
    return Table(
        title="By fold",
        columns=("fold", "accuracy, %", "threshold (squared distance)", "threshold (cosine)"),
        rows=tuple(
            (index + 1, 100 * accuracy, threshold, 1 - threshold / 2)
            for index, (accuracy, threshold) in enumerate(zip(accuracies, thresholds, strict=True))
        ),
    )


def _threshold_table(points: list[OperatingPoint]) -> Table:
    return Table(
        title="Thresholds at fixed false match rates, chosen on all pairs",
        columns=("false match rate", "reached, %", "accepted of one person, %", "least cosine", "measurable"),
        rows=tuple(
            (
                f"{point.far:g}",
                100 * point.far_reached,
                100 * point.tar,
                1 - point.threshold / 2,
                "yes" if point.supported else "too few pairs",
            )
            for point in points
        ),
    )


def _pair_groups(first: Embeddings, second: Embeddings, pairs: Pairs) -> list[dict[str, str]]:
    """Return the groups that both faces of a pair are in."""
    return [
        dict(first.groups[a].items() & second.groups[b].items())
        for a, b in zip(pairs.a, pairs.b, strict=True)
    ]


def _histogram(distances: np.ndarray, same: np.ndarray) -> dict[str, list[float]]:
    edges = np.linspace(0, float(distances.max(initial=2.5)), 51)
    return {
        "edge": round_numbers(edges),
        "same": np.histogram(distances[same], edges)[0].tolist(),
        "different": np.histogram(distances[~same], edges)[0].tolist(),
    }


def _examples(
    first: Embeddings, second: Embeddings, pairs: Pairs, distances: np.ndarray, threshold: float
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Return the pairs farthest on the right side of the threshold, and those farthest on the wrong side."""
    extremes = Extremes()
    for a, b, same, distance in zip(pairs.a, pairs.b, pairs.same, distances, strict=True):
        words = "one person" if same else "two people"
        extremes.add(
            Example(
                id=f"{a} | {b}",
                error=float(distance - threshold if same else threshold - distance),
                caption=f"{words}, cosine {1 - distance / 2:.2f} (threshold {1 - threshold / 2:.2f})",
                image=np.hstack([first.thumbnails[a], second.thumbnails[b]]),
            )
        )
    return extremes.best(), extremes.worst()
