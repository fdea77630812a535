"""Measure a model's cosine thresholds on a verification set, for `faceum eval` and `faceum calibrate`.

They are measured on embeddings as `faceum analyze` computes them, without the mirror image that the
verification protocol adds. Pairs of one person are those of the set's list. Pairs of different people are
many more than the list's: every face with every face of another person if the set names its people, or of
another fold if folds share no person, as in the protocol of LFW.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from faceum.evaluate.record import Evaluation, Table
from faceum.metrics.match_rates import (
    FaceVectors,
    different_pairs_across,
    different_pairs_listed,
    match_rates,
)
from faceum.weights.thresholds import Thresholds

if TYPE_CHECKING:
    from faceum.data.pairs import Pairs
    from faceum.evaluate.verification import Embeddings

TITLE = "Cosine thresholds of `faceum compare` (embeddings without mirror image)"


def measure_thresholds(
    first: Embeddings, second: Embeddings, pairs: Pairs, dataset: str, *, disjoint_folds: bool
) -> Thresholds | None:
    """Measure the thresholds on a set's pairs without missed faces; return None if there are too few pairs.

    first, second: the embeddings of side a and of side b of the pairs. disjoint_folds: True if no person is
    in two folds.
    """
    found = np.array(
        [
            first.found[a] != "missed" and second.found[b] != "missed"
            for a, b in zip(pairs.a, pairs.b, strict=True)
        ]
    )
    if not (found & pairs.same).any() or not (found & ~pairs.same).any():
        return None
    cosines = np.array(
        [first.single[a] @ second.single[b] for a, b in zip(pairs.a, pairs.b, strict=True)], np.float32
    )
    groups = _group_collect_faces(first, second, pairs, disjoint_folds)
    if groups is None:
        different = different_pairs_listed(cosines[found & ~pairs.same])
    elif second is first:
        different = different_pairs_across(_collect_faces(first, [*pairs.a, *pairs.b], groups))
    else:
        different = different_pairs_across(
            _collect_faces(first, [*pairs.a], groups), _collect_faces(second, [*pairs.b], groups)
        )
    same = cosines[found & pairs.same]
    rates = match_rates(same, different)
    people = {*first.people.values(), *second.people.values()}
    if len(rates) < 2:
        return None
    return Thresholds(
        set=dataset,
        people=len(people),
        same_pairs=len(same),
        different_pairs=different.count,
        rates=rates,
    )


def threshold_table(measured: Thresholds) -> Table:
    """Return the thresholds as a table of a report."""
    return Table(
        title=TITLE,
        columns=(
            "false match rate",
            "95 % interval",
            "cosine",
            "true match rate, %",
            "95 % interval",
            "basis",
        ),
        rows=tuple(
            (
                f"{rate.fmr:g}",
                "" if rate.fmr_low is None else f"{rate.fmr_low:.2g} to {rate.fmr_high:.2g}",
                f"{rate.cosine:.4f}",
                100 * rate.tmr,
                f"{100 * rate.tmr_low:.1f} to {100 * rate.tmr_high:.1f}",
                "measured" if rate.measured else "too few pairs",
            )
            for rate in measured.rates
        ),
    )


def thresholds_of(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Return the first set's thresholds, with those for masked faces and the quality; {} if none has any."""
    bare = next((one for one in evaluations if one.thresholds and one.protocol == "verification"), None)
    if bare is None or bare.thresholds is None:
        return {}
    masked = next(
        (one.thresholds for one in evaluations if one.protocol == "masked" and one.dataset == bare.dataset),
        None,
    )
    fits = (one.quality for one in evaluations if one.dataset == bare.dataset and one.quality is not None)
    return bare.thresholds.with_masked(masked).with_quality(next(fits, None)).to_dict()


def _group_collect_faces(
    first: Embeddings, second: Embeddings, pairs: Pairs, disjoint_folds: bool
) -> Mapping[str, Any] | None:
    """Return face -> group; faces of two groups show two people. None if only the listed pairs are known."""
    names = {*pairs.a, *pairs.b}
    people = {**first.people, **second.people}
    if all(name in people for name in names):
        return people
    if not disjoint_folds:
        return None
    folds = {}
    for fold, a, b in zip(pairs.fold, pairs.a, pairs.b, strict=True):
        folds[a] = folds[b] = int(fold)
    return folds


def _collect_faces(embeddings: Embeddings, names: Sequence[str], groups: Mapping[str, Any]) -> FaceVectors:
    """Return the named faces that were found, each once."""
    known = [name for name in dict.fromkeys(names) if embeddings.found[name] != "missed"]
    numbers = {group: number for number, group in enumerate(sorted(set(groups.values()), key=str))}
    people = {
        person: number for number, person in enumerate(sorted(set(embeddings.people.values()), key=str))
    }
    own = {name: number for number, name in enumerate(sorted(groups))}  # the same numbers on both sides
    return FaceVectors(
        vectors=np.stack([embeddings.single[name] for name in known]),
        groups=np.array([numbers[groups[name]] for name in known]),
        people=np.array(
            [people[embeddings.people[name]] if embeddings.people else own[name] for name in known]
        ),
    )
