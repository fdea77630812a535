"""The results of an evaluation: scores with intervals, tables, curves and examples."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from faceum.metrics.intervals import Interval
from faceum.weights.quality import QualityFit
from faceum.weights.thresholds import Thresholds


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number of a report.

    value: in `unit` ("%", "years" or "" for a plain number); None where it is not defined, the notes say why.
    low, high: the bounds of its 95 % bootstrap interval, None where it has none.
    """

    value: float | None
    unit: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a report; cells are words, whole numbers, or numbers shown with two decimals."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """A face worth showing, among the best or the worst of its set.

    id: the face's name (or both of a pair). error: what it was ranked by, more is worse. caption: in words.
    image: (H, W, 3) uint8 RGB. truth, answer: landmarks (68, 2) or class maps (H, W), both in the image's
    pixels, where the task has something to draw.
    """

    id: str
    error: float
    caption: str
    image: np.ndarray
    truth: np.ndarray | None = None
    answer: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """One protocol on one set.

    protocol, dataset: their names. count: faces (pairs for verification) that were scored.
    found: faces in all -> how each was found, a key of `faceum.evaluate.samples.SOURCES` -> how many.
    scores: name -> score, the main one first. tables: per class and per group.
    curves: name -> axis -> numbers, what the plots show. notes: what a reader must know, a sentence each.
    thresholds: of verification, those for `faceum compare`. quality: the formula that was fitted. best,
    worst: examples, best or worst first; they hold images and are not in `to_dict`.
    """

    protocol: str
    dataset: str
    count: int
    found: dict[str, int]
    scores: dict[str, Score]
    tables: tuple[Table, ...] = ()
    curves: dict[str, dict[str, list[Any]]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    thresholds: Thresholds | None = None
    quality: QualityFit | None = None
    best: tuple[Example, ...] = ()
    worst: tuple[Example, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON, without the images."""
        return {
            "protocol": self.protocol,
            "dataset": self.dataset,
            "count": self.count,
            "found": self.found,
            "scores": {name: asdict(score) for name, score in self.scores.items()},
            "tables": [asdict(table) for table in self.tables],
            "curves": self.curves,
            "notes": list(self.notes),
        }


def percent(share: float | None, interval: Interval | None = None) -> Score:
    """Return a share 0..1, and its interval, as a score in per cent."""
    if share is None:
        return Score(value=None, unit="%")
    if interval is None:
        return Score(value=100 * share, unit="%")
    return Score(value=100 * share, unit="%", low=100 * interval.low, high=100 * interval.high)


def percent_bounds(interval: Interval | None) -> tuple[float | None, float | None]:
    """Return the bounds of an interval of fractions in per cent; (None, None) if there is none."""
    return (None, None) if interval is None else (100 * interval.low, 100 * interval.high)


def years(value: float | None, interval: Interval | None = None) -> Score:
    """Return a number of years, and its interval, as a score."""
    if interval is None:
        return Score(value=value, unit="years")
    return Score(value=value, unit="years", low=interval.low, high=interval.high)


COUNTS = {"detector": "faces_found", "given": "faces_given", "missed": "faces_missed"}
"""How a face was found -> the word of its count among the headline scores."""


CHANGED = ("masked", "stretched", "small", "quality")
"""The protocols that change one side of each pair."""


def headline_scores(evaluations: Iterable[Evaluation]) -> dict[str, float]:
    """Return every defined score under one flat name, rounded to three decimals, for a weights file's header.

    A name is the set's and the score's: "lfw_accuracy", "utkface_mae", "celebamask_f1_18"; a protocol
    of `CHANGED` puts its name between: "lfw_masked_accuracy". Shares are per cent, ages years. The bounds of
    a score's 95 % interval, where it has one, follow it as "lfw_accuracy_low" and "lfw_accuracy_high".
    Whole numbers close a protocol: "lfw_faces_found" by our detector, "lfw_faces_given" cut by the set's
    box because no detector was asked or the images are too tight for one, "lfw_faces_missed". A miss
    makes its pair wrong in "accuracy" of verification and its face wrong in "accuracy" of other tasks,
    fails cs5, fr10 and auc10, is background in parsing, and is left out of "mae", "bias" and "nme";
    "accuracy_with_set_box", "mae_with_set_box" and "nme_with_set_box" hold it cut by the set's box. Where
    two protocols of a set have a score of the same name, the later one's protocol is put in between:
    "celeba_landmarks_faces_found".
    """
    flat: dict[str, float] = {}
    for evaluation in evaluations:
        changed = evaluation.protocol in CHANGED
        prefix = evaluation.dataset + (f"_{evaluation.protocol}" if changed else "")
        for name, value in _flatten(evaluation).items():
            word = f"{prefix}_{name}"
            flat[word if word not in flat else f"{evaluation.dataset}_{evaluation.protocol}_{name}"] = value
    return flat


def _flatten(evaluation: Evaluation) -> dict[str, float]:
    """Return one protocol's scores, bounds and counts, without the set's name."""
    numbers: dict[str, float] = {}
    for name, score in evaluation.scores.items():
        for word, value in ((name, score.value), (f"{name}_low", score.low), (f"{name}_high", score.high)):
            if value is not None:
                numbers[word] = round(value, 3)
    return numbers | {word: evaluation.found.get(source, 0) for source, word in COUNTS.items()}
