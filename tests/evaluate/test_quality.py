"""The quality is fitted on some folds and scored on the others."""

from __future__ import annotations

import numpy as np
import pytest

from faceum.data.pairs import Pairs
from faceum.errors import DataError
from faceum.evaluate.damage import weaken_rows
from faceum.evaluate.quality import evaluate_quality, reject_curve
from faceum.evaluate.verification import Embeddings
from faceum.quality import SIGNALS
from faceum.weights.thresholds import MatchRate, Thresholds

RATES = tuple(
    MatchRate(fmr=10.0**-n, cosine=0.2 * n, tmr=0.9, tmr_low=0.8, tmr_high=1.0) for n in range(1, 5)
)
THRESHOLDS = Thresholds(set="drawn", people=9, same_pairs=9, different_pairs=99, rates=RATES)


def embeddings(people: int, noise: np.ndarray, seed: int) -> Embeddings:
    """A face of each person, as far from the person as the noise says; the first signal is its logarithm."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((people, 64))
    rows = centres + noise[:, None] * np.random.default_rng(seed).standard_normal((people, 64))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    names = [f"{person}-{seed}" for person in range(people)]
    fill = [0.0] * (len(SIGNALS) - 1)
    return Embeddings(
        vectors={},
        single=dict(zip(names, rows, strict=True)),
        signals={name: (-float(np.log(one)), *fill) for name, one in zip(names, noise, strict=True)},
        people={},
        thumbnails={},
        found=dict.fromkeys(names, "detector"),
        groups={},
    )


def joined(one: Embeddings, two: Embeddings) -> Embeddings:
    """The faces of both."""
    return Embeddings(**{name: {**vars(one)[name], **vars(two)[name]} for name in vars(one)})


def pairs_of(people: int, folds: int) -> Pairs:
    return Pairs(
        fold=np.arange(people) * folds // people,
        a=np.array([f"{person}-1" for person in range(people)]),
        b=np.array([f"{person}-2" for person in range(people)]),
        same=np.ones(people, bool),
    )


def test_the_error_falls_without_the_lowest() -> None:
    people = 600
    noise = np.random.default_rng(5).uniform(0.2, 1.6, people)
    plain = joined(embeddings(people, np.full(people, 0.2), 1), embeddings(people, np.full(people, 0.2), 2))
    weakened = embeddings(people, noise, 2)
    weakened.found["599-2"] = "missed"
    done = evaluate_quality(plain, weakened, pairs_of(people, 4), THRESHOLDS, "toy")
    assert done.count == 299 and done.quality is not None and done.quality.pairs == 300
    assert done.scores["fnmr_fall"].low > 0
    assert done.scores["bare_fnmr"].value == 0
    stated = done.tables[-1].rows
    assert [round(row[1]) for row in stated] == sorted(round(row[1]) for row in stated)
    assert np.mean([abs(row[1] - row[2]) for row in stated]) < 10
    with pytest.raises(DataError, match="only one"):
        evaluate_quality(plain, weakened, pairs_of(people, 1), THRESHOLDS, "toy")


def test_the_lowest_pairs_are_left_out_first() -> None:
    recognized = np.array([True, False, True, False, True])
    worse = np.array([0.5, 0.1, 0.6, 0.2, 0.7])
    assert reject_curve(worse, recognized, np.array([0, 0.2, 0.4])) == pytest.approx([0.4, 0.25, 0])


def test_weakening_depends_on_seed_and_face_alone(toy) -> None:
    rows = [toy.row(f"{name}", (90, 150, 200)) for name in range(12)]
    first, again, other = (list(weaken_rows(rows, seed)) for seed in (0, 0, 1))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, again, strict=True))
    changed = [not np.array_equal(a.image, b.image) for a, b in zip(first, rows, strict=True)]
    assert any(changed) and not all(changed)
    assert not all(np.array_equal(a.image, b.image) for a, b in zip(first, other, strict=True))
