"""Run the protocols of a labelled set with a network.

Not covered, since there is no reader: the landmarks of COFW and AFLW-19, the ages of FG-NET and of AgeDB (its
pairs, agedb_30.bin, are). WFLW is covered by only 68 of its 98 points, and its report says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from faceum.data.face import LabelledFace, read_face
from faceum.data.pairs import Pairs
from faceum.errors import DataError
from faceum.evaluate.age import evaluate_age
from faceum.evaluate.attributes import evaluate_attributes
from faceum.evaluate.damage import DAMAGES, damage_rows, weaken_rows
from faceum.evaluate.dense import evaluate_landmarks, evaluate_parsing
from faceum.evaluate.expression import evaluate_expression
from faceum.evaluate.identification import evaluate_identification
from faceum.evaluate.quality import evaluate_quality
from faceum.evaluate.record import Evaluation
from faceum.evaluate.samples import CutFace, cut_faces
from faceum.evaluate.thresholds import measure_thresholds, threshold_table
from faceum.evaluate.verification import Embeddings, embed, evaluate_verification, mask_rows, turn_pairs
from faceum.tasks import TASKS

if TYPE_CHECKING:
    from faceum.data.sample import Sample
    from faceum.detect.base import Detector
    from faceum.runner import Runner

OF_PAIRS = ("verification", "masked", *DAMAGES, "quality")
"""The protocols that compare the faces of pairs."""

WHEN_REQUESTED = ("identification", "quality")
"""The protocols that run only where they are asked for."""

TASK_OF = dict.fromkeys((*OF_PAIRS, "identification"), "recognition") | {
    name: name for name in TASKS if name != "recognition"
}
"""Protocol -> the task whose answers it scores."""

BY_FACE: dict[str, Callable[[Runner, Iterable[CutFace], str], Evaluation]] = {
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

    name: its name in the report. faces: a function without arguments that yields its samples from the start.
    protocols: those that its labels allow. pairs: for verification. landmarks: id -> (68, 2) points in the
    image, to paint masks by where the samples have none themselves.
    tight: its images are cut too tightly to detect in. aligned: they are crops, and no detector is asked.
    pointed: its faces have points to paint masks by; where they have none, a detector finds them. classes:
    the ids of the parsing classes that the set knows, None for all. expressions: those that it knows, None
    for all. disjoint_folds: no person is in two folds of its pairs. notes: what a reader of its scores must
    know.
    """

    name: str
    faces: Callable[[], Iterator[Sample]]
    protocols: tuple[str, ...]
    pairs: Pairs | None = None
    landmarks: Mapping[str, np.ndarray] = field(default_factory=dict)
    tight: bool = False
    aligned: bool = False
    classes: tuple[int, ...] | None = None
    expressions: tuple[str, ...] | None = None
    pointed: bool = True
    disjoint_folds: bool = False
    notes: tuple[str, ...] = ()


def choose_protocols(
    available: Sequence[str], requested: Sequence[str], tasks: Sequence[str], name: str
) -> list[str]:
    """Return the set's protocols that were asked for, or all, as far as the network can answer them.

    Raises DataError for an unknown protocol and if none is left.
    """
    unknown = [word for word in requested if word not in TASK_OF]
    if unknown:
        raise DataError(f"There is no protocol {unknown[0]}; choose among {', '.join(TASK_OF)}.")
    available = [*available, *(word for word in WHEN_REQUESTED if word in requested)]
    left = [word for word in available if (not requested or word in requested) and TASK_OF[word] in tasks]
    if not left:
        asked = f", requested are {', '.join(requested)}" if requested else ""
        raise DataError(
            f"Nothing to evaluate on {name}: its labels allow {', '.join(available) or 'nothing'}{asked}, "
            f"and the network answers {', '.join(tasks)}."
        )
    return left


def evaluate_set(
    labelled: LabelledSet,
    runner: Runner,
    detector: Detector | None,
    requested: Sequence[str] = (),
    *,
    limit: int | None = None,
    seed: int = 0,
) -> Iterator[Evaluation]:
    """Yield the evaluation of each protocol as soon as it is done.

    detector: None cuts every face by the set's box. requested: protocols; if empty, all that the labels allow
    except `WHEN_REQUESTED`. limit: at most so many faces or pairs, evenly spaced. seed: decides which face of
    a pair is masked or damaged. If neither the set nor a detector gives points to paint masks by, the
    protocol "masked" runs only if requested. Raises DataError as `choose_protocols` and the metrics do, and
    for a face whose label cannot be right.
    """
    asked = None if labelled.aligned else detector
    paintable = labelled.pointed or asked is not None or "masked" in requested
    available = [word for word in labelled.protocols if word != "masked" or paintable]
    protocols = choose_protocols(available, requested, runner.card.tasks, labelled.name)
    cut = partial(cut_faces, runner=runner, detector=asked, tight=labelled.tight)
    if any(protocol in OF_PAIRS for protocol in protocols):
        faces = partial(cut, task="recognition")
        for evaluation in _verify(labelled, runner, faces, asked, protocols, (limit, seed)):
            yield _add_notes(evaluation, labelled)
    if "identification" in protocols:
        named = (read_face(one, parsing=False) for one in labelled.faces() if one.identity is not None)
        embedded = embed(runner, cut(named, task="recognition"))
        yield _add_notes(evaluate_identification(embedded, labelled.name), labelled)
    for protocol in protocols:
        if protocol in BY_FACE:
            rows = (
                read_face(one, parsing=protocol == "parsing")
                for one in _select_labelled(labelled, protocol, limit)
            )
            score = BY_FACE[protocol]
            if protocol == "parsing":
                score = partial(evaluate_parsing, classes=labelled.classes)
            if protocol == "expression":
                score = partial(evaluate_expression, classes=labelled.expressions)
            yield _add_notes(score(runner, cut(rows, task=TASK_OF[protocol]), labelled.name), labelled)


def _add_notes(evaluation: Evaluation, labelled: LabelledSet) -> Evaluation:
    return replace(evaluation, notes=(*labelled.notes, *evaluation.notes))


def _select_labelled(labelled: LabelledSet, protocol: str, limit: int | None) -> Iterator[Sample]:
    """Return the samples with a label of the protocol made by people; at most `limit`, evenly spaced."""

    def known() -> Iterator[Sample]:
        for sample in labelled.faces():
            rough = protocol == "landmarks" and sample.rough_landmarks
            if sample.has_label(protocol) and not rough:
                yield sample

    every = 1 if limit is None else max(1, -(-sum(1 for _ in known()) // limit))
    return islice(known(), 0, None, every)


def _verify(
    labelled: LabelledSet,
    runner: Runner,
    cut: Callable[[Iterable[LabelledFace]], Iterator[CutFace]],
    detector: Detector | None,
    protocols: Sequence[str],
    limit_and_seed: tuple[int | None, int],
) -> Iterator[Evaluation]:
    if labelled.pairs is None:
        raise DataError(f"Verification on {labelled.name} needs its list of pairs.")
    limit, seed = limit_and_seed
    pairs = labelled.pairs if limit is None else _thin_pairs(labelled.pairs, limit)

    def rows(names: Iterable[str]) -> Iterator[LabelledFace]:
        needed = set(names)
        return (read_face(one, parsing=False) for one in labelled.faces() if one.id in needed)

    sides = turn_pairs(pairs, seed)
    whole = "verification" in protocols or "quality" in protocols
    bare = [*pairs.a, *pairs.b] if whole else sides.a
    plain = embed(runner, cut(rows(bare)))
    if "verification" in protocols:
        evaluation = evaluate_verification(plain, plain, pairs, labelled.name)
        yield _add_thresholds(evaluation, plain, plain, pairs, labelled)
    if "masked" in protocols:
        unpainted: list[str] = []
        painted = mask_rows(rows(sides.b), labelled.landmarks, seed, detector, unpainted)
        masked = embed(runner, cut(painted))
        masked.found.update(dict.fromkeys(unpainted, "missed"))
        evaluation = evaluate_verification(plain, masked, sides, labelled.name, "masked")
        yield _add_thresholds(evaluation, plain, masked, sides, labelled)
    for damage in DAMAGES:
        if damage in protocols:
            damaged = embed(runner, cut(damage_rows(rows(sides.b), damage)))
            yield evaluate_verification(plain, damaged, sides, labelled.name, damage)
    if "quality" in protocols:
        measured = measure_thresholds(
            plain, plain, pairs, labelled.name, disjoint_folds=labelled.disjoint_folds
        )
        if measured is None:
            raise DataError(f"{labelled.name} has too few pairs for a threshold, which the quality needs.")
        weakened = embed(runner, cut(weaken_rows(rows(sides.b[sides.same]), seed)))
        yield evaluate_quality(plain, weakened, sides, measured, labelled.name)


def _add_thresholds(
    evaluation: Evaluation, first: Embeddings, second: Embeddings, pairs: Pairs, labelled: LabelledSet
) -> Evaluation:
    """Return the evaluation with the thresholds for `faceum compare` and their table."""
    measured = measure_thresholds(first, second, pairs, labelled.name, disjoint_folds=labelled.disjoint_folds)
    if measured is None:
        return evaluation
    tables = (*evaluation.tables, threshold_table(measured))
    return replace(evaluation, thresholds=measured, tables=tables)


def _thin_pairs(pairs: Pairs, limit: int) -> Pairs:
    """Return at most `limit` pairs, evenly spaced, so that every fold and both kinds are still there."""
    kept = np.unique(np.linspace(0, len(pairs) - 1, min(limit, len(pairs))).astype(int))
    return Pairs(fold=pairs.fold[kept], a=pairs.a[kept], b=pairs.b[kept], same=pairs.same[kept])
