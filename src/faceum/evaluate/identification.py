"""Score open-set identification: half of the people are enrolled, the others are strangers.

Each split enrolls one image of half of the people with two images or more; all other images, of enrolled
people and of strangers, are probes. Embeddings are those of `faceum analyze`.
"""

from __future__ import annotations

import numpy as np

from faceum.errors import DataError, count_noun
from faceum.evaluate.record import Evaluation, Score, Table, percent
from faceum.evaluate.verification import Embeddings
from faceum.metrics.identification import Identification, identify
from faceum.metrics.intervals import Interval

SPLITS = 50
"""Number of splits into enrolled people and strangers; the intervals are those over the splits."""

FAR = 0.01
"""The share of strangers that may be identified as an enrolled person."""


def evaluate_identification(embeddings: Embeddings, dataset: str = "") -> Evaluation:
    """Score open-set identification: DIR at FAR 1 % (main) and rank-1, as means over `SPLITS` splits.

    Missed faces are left out, and counted in the notes. Raises DataError if the set names no people, or too
    few with two images.
    """
    ids = [name for name in embeddings.people if embeddings.found[name] != "missed"]
    if not ids:
        raise DataError(f"Identification on {dataset} needs the column identity; it names no people.")
    vectors = np.stack([embeddings.single[name] for name in ids])
    people = np.unique([str(embeddings.people[name]) for name in ids], return_inverse=True)[1]
    splits = [_split(vectors, people, np.random.default_rng(seed)) for seed in range(SPLITS)]
    threshold = float(np.mean([one.threshold for one in splits]))
    missed = sum(how == "missed" for how in embeddings.found.values())
    return Evaluation(
        protocol="identification",
        dataset=dataset,
        count=len(ids),
        found={how: [*embeddings.found.values()].count(how) for how in set(embeddings.found.values())},
        scores={
            "dir_at_far_0.01": _mean([one.dir for one in splits]),
            "rank1": _mean([one.rank1 for one in splits]),
        },
        tables=(
            Table(
                title="Splits",
                columns=("people enrolled", "people in all", "splits", "mean threshold (cosine)"),
                rows=((_count_enrolled(people), len(np.unique(people)), SPLITS, threshold),),
            ),
        ),
        notes=(f"Not found, and left out: {count_noun(missed, 'face')}.",) if missed else (),
    )


def _count_enrolled(people: np.ndarray) -> int:
    return int((np.bincount(people) >= 2).sum() + 1) // 2


def _split(vectors: np.ndarray, people: np.ndarray, rng: np.random.Generator) -> Identification:
    """Enroll half of the people with two images or more, and score the rest of the images."""
    order = rng.permutation(len(people))
    several = rng.permutation(np.flatnonzero(np.bincount(people) >= 2))
    enrolled = several[: _count_enrolled(people)]
    first = {person: next(row for row in order if people[row] == person) for person in enrolled}
    gallery = np.array([first[person] for person in enrolled], int)
    column = np.full(people.max() + 1, -1)
    column[enrolled] = np.arange(len(enrolled))
    mated = np.setdiff1d(np.flatnonzero(column[people] >= 0), gallery)
    strangers = np.flatnonzero(column[people] < 0)
    return identify(
        vectors[mated] @ vectors[gallery].T,
        column[people[mated]],
        vectors[strangers] @ vectors[gallery].T,
        FAR,
    )


def _mean(values: list[float]) -> Score:
    """Return the mean over the splits, with their middle 95 % as its interval."""
    low, high = np.quantile(values, [0.025, 0.975])
    return percent(float(np.mean(values)), Interval(low=float(low), high=float(high), level=0.95))
