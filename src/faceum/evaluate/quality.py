"""Fit and score the quality of faces: does leaving out the faces of the lowest quality lower the error?

One face of each pair of one person is weakened (or, in a third of the pairs, not). The formula is fitted on
half of the folds, which share no person with the other half; all scores are those of the other half.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from faceum.data.pairs import Pairs
from faceum.errors import DataError, count_noun
from faceum.evaluate.record import Evaluation, Score, Table, percent
from faceum.evaluate.verification import Embeddings
from faceum.metrics.intervals import bootstrap, bootstrap_mean
from faceum.quality import SIGNALS
from faceum.weights.quality import QualityFit, fit_quality
from faceum.weights.thresholds import Thresholds

FMR = 1e-3
"""The false match rate whose threshold decides what is recognized."""

SHARES = (0.0, 0.05, 0.1, 0.2, 0.3)
"""Shares of pairs that are left out in the table."""

TENTH = 0.1

BINS = 5
"""Groups of equal size in the table of stated and measured qualities."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Half:
    """Pairs of one person: signals of both faces, name -> (P,), and (P,) whether they are recognized."""

    first: Mapping[str, np.ndarray]
    second: Mapping[str, np.ndarray]
    recognized: np.ndarray

    def worse(self, fit: QualityFit) -> np.ndarray:
        """Return the lower of both faces' qualities (P,)."""
        return np.minimum(fit.predict(self.first), fit.predict(self.second))


def evaluate_quality(
    plain: Embeddings, weakened: Embeddings, pairs: Pairs, thresholds: Thresholds, dataset: str = ""
) -> Evaluation:
    """Score the quality by the false non-match rate with and without the lowest tenth of the pairs.

    plain: of both sides of the pairs. weakened: of side b. Pairs with a missed face are left out. The pairs
    of every second fold are fitted on. Raises DataError if there are fewer than two folds.
    """
    folds = np.unique(pairs.fold)
    if len(folds) < 2:
        raise DataError(f"The quality is fitted and scored on different folds, but {dataset} has only one.")
    limit = thresholds.at(FMR).cosine
    fitted_on = np.isin(pairs.fold, folds[::2]) & pairs.same
    scored_on = ~np.isin(pairs.fold, folds[::2]) & pairs.same
    training = _half(plain, weakened, pairs, fitted_on, limit)
    fit = fit_quality(training.second, training.recognized, fmr=FMR, pairs=len(training.recognized))
    held_out = {
        "weakened": _half(plain, weakened, pairs, scored_on, limit),
        "as they are": _half(plain, plain, pairs, scored_on, limit),
    }
    found = [weakened.found[name] for name in pairs.b[pairs.same]]
    missed = sum(how == "missed" for how in found)
    return Evaluation(
        protocol="quality",
        dataset=dataset,
        count=len(held_out["weakened"].recognized),
        found={how: found.count(how) for how in sorted(set(found))},
        scores=_scores(held_out, fit),
        tables=(*(_reject_table(name, half, fit) for name, half in held_out.items()), _bins(held_out, fit)),
        curves={"reject": _curves(held_out, fit)},
        notes=(
            f"Fitted on {count_noun(fit.pairs, 'pair')} of folds {', '.join(map(str, folds[::2]))}; "
            f"scored on folds {', '.join(map(str, folds[1::2]))}.",
            *((f"Weakened faces not found, and left out: {missed:,}.",) if missed else ()),
        ),
        quality=fit,
    )


def reject_curve(worse: np.ndarray, recognized: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the false non-match rate of the pairs that are left when the lowest of each share are out."""
    missed = ~recognized[np.argsort(worse, kind="stable")]
    starts = (np.asarray(shares) * len(missed)).astype(int)
    return np.array([missed[start:].mean() for start in starts])


def _half(first: Embeddings, second: Embeddings, pairs: Pairs, chosen: np.ndarray, limit: float) -> _Half:
    names = [
        (a, b)
        for a, b in zip(pairs.a[chosen], pairs.b[chosen], strict=True)
        if first.found[a] != "missed" and second.found[b] != "missed"
    ]
    if not names:
        raise DataError("There is no pair of one person to measure the quality on; add such pairs.")

    def signals(side: Embeddings, place: int) -> dict[str, np.ndarray]:
        rows = np.array([side.signals[pair[place]] for pair in names])
        return dict(zip(SIGNALS, rows.T, strict=True))

    cosines = np.array([first.single[a] @ second.single[b] for a, b in names])
    return _Half(first=signals(first, 0), second=signals(second, 1), recognized=cosines >= limit)


def _scores(halves: Mapping[str, _Half], fit: QualityFit) -> dict[str, Score]:
    """Of each half: the false non-match rate, that without the lowest tenth, and by how much it fell."""
    scores: dict[str, Score] = {}
    for name, half in halves.items():
        prefix = "" if name == "weakened" else "bare_"
        worse, recognized = half.worse(fit), half.recognized

        def kept(rows: np.ndarray, worse: np.ndarray = worse, recognized: np.ndarray = recognized) -> float:
            return float(reject_curve(worse[rows], recognized[rows], np.array([TENTH]))[0])

        def fell(rows: np.ndarray, recognized: np.ndarray = recognized) -> float:
            return float((~recognized[rows]).mean() - kept(rows))

        every = np.arange(len(recognized))
        scores[f"{prefix}fnmr"] = percent(float((~recognized).mean()), bootstrap_mean(~recognized))
        scores[f"{prefix}fnmr_without_lowest_tenth"] = percent(kept(every), bootstrap(kept, len(every)))
        scores[f"{prefix}fnmr_fall"] = percent(fell(every), bootstrap(fell, len(every)))
    return scores


def _reject_table(name: str, half: _Half, fit: QualityFit) -> Table:
    """Return the false non-match rates by quality and by each signal alone."""
    orders = {"quality": half.worse(fit)} | {
        signal: np.minimum(half.first[signal], half.second[signal]) for signal in SIGNALS
    }
    curves = {
        order: reject_curve(worse, half.recognized, np.array(SHARES)) for order, worse in orders.items()
    }
    return Table(
        title=f"False non-match rate in % when the lowest pairs are left out, faces {name}",
        columns=("left out, %", *(f"by {order}" for order in orders)),
        rows=tuple(
            (f"{100 * share:.0f}", *(100 * float(curve[k]) for curve in curves.values()))
            for k, share in enumerate(SHARES)
        ),
    )


def _bins(halves: Mapping[str, _Half], fit: QualityFit) -> Table:
    """Return stated against measured qualities of the weakened faces, in groups of equal size."""
    half = halves["weakened"]
    stated = fit.predict(half.second)
    groups = np.array_split(np.argsort(stated, kind="stable"), BINS)
    return Table(
        title="Stated quality against the share of pairs recognized, weakened faces",
        columns=("pairs", "mean quality, %", "recognized, %"),
        rows=tuple(
            (len(rows), 100 * float(stated[rows].mean()), 100 * float(half.recognized[rows].mean()))
            for rows in groups
            if len(rows)
        ),
    )


def _curves(halves: Mapping[str, _Half], fit: QualityFit) -> dict[str, list[float]]:
    shares = np.linspace(0, 0.5, 26)
    return {
        "share": shares.round(4).tolist(),
        **{
            name: reject_curve(half.worse(fit), half.recognized, shares).round(5).tolist()
            for name, half in halves.items()
        },
    }
