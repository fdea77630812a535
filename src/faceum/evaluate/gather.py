"""Collect what all protocols report: how faces were found, examples, groups and notes."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from faceum.errors import count_noun
from faceum.evaluate.record import Example, Table
from faceum.evaluate.samples import CutFace
from faceum.metrics.calibration import Reliability
from faceum.metrics.groups import age_band, group_scores
from faceum.tasks import ATTRIBUTES

SHOWN = 6
"""The number of best examples that are kept, and of worst ones."""

OLDER = 40
"""Age in years that divides the groups by gender and age."""

GENDERS = ("male", "female")
"""The words for a set's perceived gender, 0 and 1."""


class Extremes:
    """The best and the worst of the examples that are added."""

    def __init__(self, keep: int = SHOWN) -> None:
        self._keep = keep
        self._seen = 0
        self._low: list[tuple[float, int, Example]] = []
        self._high: list[tuple[float, int, Example]] = []

    def add(self, example: Example) -> None:
        """Add an example; if errors are equal, earlier examples are kept."""
        self._seen += 1
        _push(self._low, (-example.error, -self._seen, example), self._keep)
        _push(self._high, (example.error, -self._seen, example), self._keep)

    def best(self) -> tuple[Example, ...]:
        """Return the examples with the lowest errors, lowest first."""
        return tuple(entry[2] for entry in sorted(self._low, reverse=True))

    def worst(self) -> tuple[Example, ...]:
        """Return the examples with the highest errors, highest first."""
        return tuple(entry[2] for entry in sorted(self._high, reverse=True))


def _push(heap: list[tuple[float, int, Example]], entry: tuple[float, int, Example], keep: int) -> None:
    if len(heap) < keep:
        heapq.heappush(heap, entry)
    else:
        heapq.heappushpop(heap, entry)


def count_found(samples: Iterable[CutFace], found: Counter[str]) -> Iterator[CutFace]:
    """Yield the samples; count in `found` how each was found."""
    for sample in samples:
        found[sample.found] += 1
        yield sample


def finding_notes(found: Mapping[str, int], consequence: str) -> list[str]:
    """Return a sentence on faces cropped by the set's box and one on missed faces.

    consequence: how missed faces are scored.
    """
    total = count_noun(sum(found.values()), "face")
    notes = []
    if found.get("given"):
        notes.append(
            f"Cropped by the set's own box: {found['given']:,} of {total}, because no detector was used "
            "or it does not find faces in images cropped so tightly; they count like all others."
        )
    if found.get("missed"):
        notes.append(f"Not found by our detector: {found['missed']:,} of {total}; {consequence}.")
    return notes


def groups_of(truth: Mapping[str, Any]) -> dict[str, str]:
    """Return kind of group -> group of one face, for the kinds that its labels determine."""
    groups = {}
    if "age" in truth:
        groups["age band"] = age_band(float(truth["age"]))
    if "gender" in truth:
        groups["perceived gender"] = GENDERS[int(truth["gender"])]
    if "age" in truth and "gender" in truth:
        older = "over" if float(truth["age"]) > OLDER else "up to"
        groups["perceived gender and age"] = f"{GENDERS[int(truth['gender'])]}, {older} {OLDER}"
    if "attributes" in truth:
        attributes = dict(zip(ATTRIBUTES, truth["attributes"], strict=True))
        if attributes["Male"] >= 0:
            groups.setdefault("perceived gender", GENDERS[0 if attributes["Male"] else 1])
        if attributes["Young"] >= 0:
            groups["perceived age"] = "young" if attributes["Young"] else "not young"
    return groups


def group_tables(
    groups: Sequence[Mapping[str, str]], values: np.ndarray | Sequence[float], score: str, factor: float = 1.0
) -> tuple[Table, ...]:
    """Return one table per kind of group: the mean of `values` (N,) times `factor`, and its interval.

    groups: N dicts of `groups_of`. score: the values' name and unit, for the heading.
    """
    tables = []
    for kind in sorted({kind for one in groups for kind in one}):
        rows = group_scores(np.asarray(values) * factor, [one.get(kind) for one in groups])
        tables.append(
            Table(
                title=f"By {kind}",
                columns=(kind, "faces", score, "95 % from", "to"),
                rows=tuple(
                    (row.group, row.count, row.mean, row.interval.low, row.interval.high) for row in rows
                ),
            )
        )
    return tuple(tables)


def round_numbers(values: np.ndarray | Sequence[float], digits: int = 5) -> list[Any]:
    """Return numbers as a plain list, rounded, for JSON."""
    plain: list[Any] = np.round(np.asarray(values, np.float64), digits).tolist()
    return plain


def reliability_curve(held: Reliability) -> dict[str, list[float]]:
    """Return the axes of a reliability plot."""
    return {
        "confidence": round_numbers(held.confidence),
        "accuracy": round_numbers(held.accuracy),
        "count": held.counts.tolist(),
    }
