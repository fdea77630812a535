"""Layer 4. One set's rows in, its evaluations by the wanted protocols out: what `faceum eval` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from faceum.errors import DataError
from faceum.evaluate.dense import evaluate_landmarks, evaluate_parsing
from faceum.evaluate.image_level import evaluate_age, evaluate_attributes, evaluate_expression
from faceum.evaluate.record import Evaluation
from faceum.evaluate.samples import Sample, samples_of
from faceum.evaluate.verification import embed, evaluate_verification, masked_rows

if TYPE_CHECKING:
    from faceum.data.parquet import FaceRow, Pairs
    from faceum.detect.protocol import Detector
    from faceum.runner import Runner

TASK_OF = {
    "verification": "recognition",
    "masked": "recognition",
    "age": "age",
    "attributes": "attributes",
    "expression": "expression",
    "parsing": "parsing",
    "landmarks": "landmarks",
}
"""Protocol -> the task whose answers it scores."""

LABEL_OF = {
    "age": "age",
    "attributes": "attributes",
    "expression": "expression_votes",
    "parsing": "parsing",
    "landmarks": "landmarks",
}
"""Protocol -> the label that a row needs for it."""

BY_FACE: dict[str, Callable[[Runner, Iterable[Sample], str], Evaluation]] = {
    "age": evaluate_age,
    "attributes": evaluate_attributes,
    "expression": evaluate_expression,
    "parsing": evaluate_parsing,
    "landmarks": evaluate_landmarks,
}
"""The protocols that score each face by its own label."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledSet:
    """A set to evaluate on.

    name: its word in the report. rows: called without arguments, yields its faces from the beginning.
    protocols: those that its labels allow. pairs: for verification. landmarks: id -> (68, 2) points in the
    picture, to paint masks by. tight: whether its pictures are cut too tightly to detect in.
    every: only one of so many labelled faces is scored, evenly spaced. It does not thin `pairs`.
    """

    name: str
    rows: Callable[[], Iterator[FaceRow]]
    protocols: tuple[str, ...]
    pairs: Pairs | None = None
    landmarks: Mapping[str, np.ndarray] = field(default_factory=dict)
    tight: bool = False
    every: int = 1


def chosen_protocols(
    available: Sequence[str], wanted: Sequence[str], tasks: Sequence[str], name: str
) -> list[str]:
    """Return the set's protocols that are wanted, all where none is named, and that the network can answer.

    Raises DataError for an unknown word and where nothing is left.
    """
    unknown = [word for word in wanted if word not in TASK_OF]
    if unknown:
        raise DataError(f"There is no protocol {unknown[0]}; choose among {', '.join(TASK_OF)}.")
    left = [word for word in available if (not wanted or word in wanted) and TASK_OF[word] in tasks]
    if not left:
        asked = f", wanted are {', '.join(wanted)}" if wanted else ""
        raise DataError(
            f"Nothing to evaluate on {name}: its labels allow {', '.join(available) or 'nothing'}{asked}, "
            f"and the network answers {', '.join(tasks)}."
        )
    return left


def evaluate_set(
    labelled: LabelledSet,
    runner: Runner,
    detector: Detector | None,
    wanted: Sequence[str] = (),
    seed: int = 0,
) -> Iterator[Evaluation]:
    """Yield an evaluation a protocol as soon as it is done.

    detector: None cuts every face by the set's box. wanted: protocols, all that the labels allow where none
    is named. seed: decides which masks are painted. Raises DataError as `chosen_protocols` and the metrics
    do.
    """
    protocols = chosen_protocols(labelled.protocols, wanted, runner.card.tasks, labelled.name)

    def samples(rows: Iterable[FaceRow], protocol: str) -> Iterator[Sample]:
        return samples_of(rows, runner, detector, task=TASK_OF[protocol], tight=labelled.tight)

    if "verification" in protocols or "masked" in protocols:
        yield from _verify(labelled, runner, samples, protocols, seed)
    for protocol in protocols:
        if protocol in BY_FACE:
            known = (row for row in labelled.rows() if LABEL_OF[protocol] in row.labels)
            rows = islice(known, 0, None, labelled.every)
            yield BY_FACE[protocol](runner, samples(rows, protocol), labelled.name)


def _verify(
    labelled: LabelledSet,
    runner: Runner,
    samples: Callable[[Iterable[FaceRow], str], Iterator[Sample]],
    protocols: Sequence[str],
    seed: int,
) -> Iterator[Evaluation]:
    pairs = labelled.pairs
    if pairs is None:
        raise DataError(f"Verification on {labelled.name} needs its list of pairs.")
    names = {*pairs.a, *(pairs.b if "verification" in protocols else ())}
    shown = (row for row in labelled.rows() if row.id in names)
    plain = embed(runner, samples(shown, "verification"))
    if "verification" in protocols:
        yield evaluate_verification(plain, plain, pairs, labelled.name)
    if "masked" in protocols:
        painted = masked_rows(labelled.rows(), labelled.landmarks, pairs.b, seed)
        masked = embed(runner, samples(painted, "masked"))
        yield evaluate_verification(plain, masked, pairs, labelled.name, "masked")
