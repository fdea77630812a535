"""The cosine thresholds of a model, from a verification set: what `faceum eval` and `calibrate` write.

They are measured on embeddings as `faceum analyze` gives them, of the face alone, without the mirror image
that the verification protocol adds. Pairs of one person are those of the set's list. Pairs of different
people are far more than the list's: every face with every face of another person where the set names its
people, or with every face of another fold where folds share no person, as LFW's do by its protocol.
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
    """Measure the thresholds on a set's pairs; missed faces are left out.

    first, second: where side a and side b of the pairs are looked up. disjoint_folds: whether no person is in
    two folds. None where the pairs are too few for two thresholds.
    """
    found = np.array(
        [
            first.found[a] != "missed" and second.found[b] != "missed"
            for a, b in zip(pairs.a, pairs.b, strict=True)
        ]
    )
    cosines = np.array(
        [first.single[a] @ second.single[b] for a, b in zip(pairs.a, pairs.b, strict=True)], np.float32
    )
    groups = _groups(first, second, pairs, disjoint_folds)
    if groups is None:
        different = different_pairs_listed(cosines[found & ~pairs.same])
    elif second is first:
        different = different_pairs_across(_faces(first, [*pairs.a, *pairs.b], groups))
    else:
        different = different_pairs_across(
            _faces(first, [*pairs.a], groups), _faces(second, [*pairs.b], groups)
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
    """The thresholds as a table of a report."""
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
    """The thresholds of the first set that has them, with those for masked faces; {} where none has."""
    bare = next((one for one in evaluations if one.thresholds and one.protocol == "verification"), None)
    if bare is None or bare.thresholds is None:
        return {}
    masked = next(
        (one.thresholds for one in evaluations if one.protocol == "masked" and one.dataset == bare.dataset),
        None,
    )
    return bare.thresholds.with_masked(masked).to_dict()


def _groups(
    first: Embeddings, second: Embeddings, pairs: Pairs, disjoint_folds: bool
) -> Mapping[str, Any] | None:
    """Face -> group, such that faces of two groups show two people; None where only the list tells."""
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


def _faces(embeddings: Embeddings, names: Sequence[str], groups: Mapping[str, Any]) -> FaceVectors:
    """The named faces that were found, each once."""
    known = [name for name in dict.fromkeys(names) if embeddings.found[name] != "missed"]
    numbers = {group: number for number, group in enumerate(sorted(set(groups.values()), key=str))}
    people = {
        person: number for number, person in enumerate(sorted(set(embeddings.people.values()), key=str))
    }
    own = {name: number for number, name in enumerate(sorted(groups))}  # both sides must count them alike
    return FaceVectors(
        vectors=np.stack([embeddings.single[name] for name in known]),
        groups=np.array([numbers[groups[name]] for name in known]),
        people=np.array(
            [people[embeddings.people[name]] if embeddings.people else own[name] for name in known]
        ),
    )
