"""What verdicts are worth: thresholds, whole galleries and clusters on a set of people.

    python benchmarks/people_verdicts.py thresholds gallery clusters --corpus C --cache lfw.npz

The corpus holds lfw.val.parquet and lfw-pairs.val.parquet. Faces are embedded as `faceum analyze` does, once;
the cache keeps their vectors (never an image). People are known by the files' names, PERSON_NUMBER; folds
share no person. `thresholds` also writes docs/images/thresholds.png.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faceum.metrics.match_rates import FaceVectors, different_pairs_across, match_rates
from faceum.weights.thresholds import Thresholds

FIGURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "thresholds.png"
RATES = (0.1, 0.05, 0.02, 0.01)
"""False match rates asked of whole galleries."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Lfw:
    """LFW's faces: vectors (n, 512), people, folds (n,); pairs: rows a and b, and whether they are same."""

    vectors: np.ndarray
    people: np.ndarray
    folds: np.ndarray
    a: np.ndarray
    b: np.ndarray
    same: np.ndarray


def read(corpus: Path, cache: Path) -> Lfw:
    """Embed the set, or read its vectors from the cache."""
    import pyarrow.parquet as parquet

    if not cache.exists():
        embed(corpus / "lfw.val.parquet", cache)
    known = np.load(cache)
    ids = known["ids"]
    folds = parquet.read_table(corpus / "lfw.val.parquet", columns=["id", "fold"]).to_pydict()
    fold = dict(zip(folds["id"], folds["fold"], strict=True))
    pairs = parquet.read_table(corpus / "lfw-pairs.val.parquet").to_pydict()
    row = {name: number for number, name in enumerate(ids)}
    norm = np.linalg.norm(known["v"], axis=1)
    names = [re.sub(r"_\d+$", "", name) for name in ids]
    return Lfw(
        vectors=(known["v"] / norm[:, None]).astype(np.float32),
        people=np.unique(names, return_inverse=True)[1],
        folds=np.array([fold[name] for name in ids]),
        a=np.array([row[name] for name in pairs["a"]]),
        b=np.array([row[name] for name in pairs["b"]]),
        same=np.array(pairs["same"], bool),
    )


def embed(file: Path, cache: Path) -> None:
    """Embed every face of a packed set as it is, without its mirror image."""
    from faceum.data.face import read_face
    from faceum.data.parquet import read_packed
    from faceum.detect.base import load_detector
    from faceum.evaluate.samples import batches, cut_faces, run
    from faceum.runner import load_runner

    runner, detector = load_runner("compact", tasks=["recognition"]), load_detector()
    rows = (read_face(sample, parsing=False) for sample in read_packed(file))
    ids, vectors = [], []
    for group in batches(cut_faces(rows, runner, detector, task="recognition", tight=False)):
        vectors.append(run(runner, [face.crop for face in group], "recognition")["recognition"])
        ids += [face.id for face in group]
    np.savez(cache, ids=np.array(ids), v=np.concatenate(vectors))


def measured(lfw: Lfw, rows: np.ndarray | None = None) -> Thresholds:
    """Measure thresholds on all pairs of different people, of all faces or of some."""
    chosen = np.ones(len(lfw.folds), bool) if rows is None else rows
    faces = FaceVectors(vectors=lfw.vectors[chosen], groups=lfw.people[chosen], people=lfw.people[chosen])
    pairs = lfw.same & chosen[lfw.a] & chosen[lfw.b]
    different = different_pairs_across(faces)
    return Thresholds(
        set="lfw",
        people=len(np.unique(faces.people)),
        same_pairs=int(pairs.sum()),
        different_pairs=different.count,
        rates=match_rates(cosines(lfw)[pairs], different),
    )


def cosines(lfw: Lfw) -> np.ndarray:
    """(P,) cosines of the listed pairs."""
    return np.einsum("nd,nd->n", lfw.vectors[lfw.a], lfw.vectors[lfw.b])


def show_thresholds(lfw: Lfw) -> None:
    """Print the thresholds from cross pairs and from the list alone, and draw both error rates."""
    from faceum.metrics.match_rates import different_pairs_listed

    listed = match_rates(cosines(lfw)[lfw.same], different_pairs_listed(cosines(lfw)[~lfw.same]))
    across = measured(lfw)
    print(f"{across.same_pairs} pairs of one person, {across.different_pairs:,} of different people")
    for name, rates in (("all pairs of two people", across.rates), ("listed pairs alone", listed)):
        for rate in rates:
            basis = "measured" if rate.measured else "extrapolated"
            bounds = "" if rate.fmr_low is None else f" [{rate.fmr_low:.2g}, {rate.fmr_high:.2g}]"
            print(
                f"{name}: FMR {rate.fmr:g}{bounds} cosine {rate.cosine:.4f} TMR {100 * rate.tmr:.1f} % "
                f"[{100 * rate.tmr_low:.1f}, {100 * rate.tmr_high:.1f}] {basis}"
            )
    draw(lfw, across)


def draw(lfw: Lfw, limits: Thresholds) -> None:
    """Both error rates over the threshold, and the densities that they come from."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    same = cosines(lfw)[lfw.same]
    every = lfw.vectors @ lfw.vectors.T
    different = every[np.triu(lfw.people[:, None] != lfw.people[None], 1)]
    grid = np.linspace(-0.2, 1, 241)
    fmr = 1 - np.searchsorted(np.sort(different), grid) / len(different)
    fnmr = np.searchsorted(np.sort(same), grid) / len(same)
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    left.hist(different, grid[::4], density=True, alpha=0.6, label="different people")
    left.hist(same, grid[::4], density=True, alpha=0.6, label="one person")
    left.set(xlabel="cosine", ylabel="density", title="Cosines of LFW's faces")
    left.legend()
    right.semilogy(grid, np.where(fmr > 0, fmr, np.nan), label="false match rate")
    right.semilogy(grid, np.where(fnmr > 0, fnmr, np.nan), label="false non-match rate")
    right.set(xlabel="threshold (cosine)", ylabel="rate", title="What a threshold costs", ylim=(1e-7, 1))
    for rate in limits.rates[:5]:
        right.axvline(rate.cosine, color="grey", linewidth=0.5)
    right.grid(alpha=0.3)
    right.legend()
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=100)
    print(f"drawn: {FIGURE.name}")


def show_gallery(lfw: Lfw) -> None:
    """Enroll the people of three folds, search with two: how many strangers are taken for somebody?

    Thresholds come from the two searching folds' pairs with each other and among themselves, never with the
    gallery. Every choice of two folds is tried.
    """
    from itertools import combinations

    found: dict[float, list[float]] = {rate: [] for rate in RATES}
    uncorrected: list[float] = []
    for two in combinations(np.unique(lfw.folds), 2):
        outside = np.isin(lfw.folds, two)
        limits = measured(lfw, outside)
        highest = (lfw.vectors[outside] @ lfw.vectors[~outside].T).max(axis=1)
        samples = int((~outside).sum())
        for rate in RATES:
            found[rate].append(float((highest >= limits.for_gallery(rate, samples).cosine).mean()))
        uncorrected.append(float((highest >= limits.at(0.01).cosine).mean()))
    print(f"galleries of about {samples:,} samples, {int(outside.sum()):,} strangers search each")
    for rate, shares in found.items():
        print(f"asked {rate:.0%}: {np.mean(shares):.2%} of strangers were taken for somebody")
    print(f"uncorrected, a pair's threshold at 1 %: {np.mean(uncorrected):.2%}")


def show_clusters(lfw: Lfw) -> None:
    """BCubed and pairwise F of average linkage, connected components and HDBSCAN; people with two images."""
    from scipy.sparse.csgraph import connected_components
    from sklearn.cluster import HDBSCAN

    from faceum.cli.cluster import RATE
    from faceum.people.clusters import cluster_vectors

    several = np.isin(lfw.people, np.flatnonzero(np.bincount(lfw.people) >= 2))
    vectors, truth = lfw.vectors[several], np.unique(lfw.people[several], return_inverse=True)[1]
    print(f"{len(truth)} faces of {truth.max() + 1} people")
    default = measured(lfw).for_gallery(RATE, len(vectors)).cosine
    print(f"default threshold {default:.3f}: {agreement(truth, cluster_vectors(vectors, default).labels)}")
    for threshold in (0.45, 0.5, 0.55, 0.6, 0.65):
        linked = cluster_vectors(vectors, threshold).labels
        alone = connected_components(vectors @ vectors.T >= threshold, directed=False)[1]
        print(f"average linkage at {threshold}: {agreement(truth, linked)}")
        print(f"connected components at {threshold}: {agreement(truth, alone)}")
    for size in (2, 3):
        labels = HDBSCAN(min_cluster_size=size, min_samples=1, copy=True).fit_predict(vectors)
        alone = labels < 0
        labels[alone] = labels.max() + 1 + np.arange(alone.sum())
        print(f"HDBSCAN, clusters of {size} or more: {agreement(truth, labels)}")


def agreement(truth: np.ndarray, labels: np.ndarray) -> str:
    """BCubed and pairwise precision, recall and F, in words."""
    together = np.zeros((truth.max() + 1, labels.max() + 1), np.int64)
    np.add.at(together, (truth, labels), 1)
    people, groups = together.sum(axis=1), together.sum(axis=0)
    square = together.astype(np.float64) ** 2
    precision = float((square / np.maximum(groups, 1)).sum() / len(truth))
    recall = float((square / people[:, None]).sum() / len(truth))
    both = (square - together).sum()
    pair_precision = float(both / max(1, (groups * (groups - 1)).sum()))
    pair_recall = float(both / (people * (people - 1)).sum())
    return (
        f"BCubed F {f_score(precision, recall):.3f} (precision {precision:.3f}, recall {recall:.3f}), "
        f"pairwise F {f_score(pair_precision, pair_recall):.3f} ({pair_precision:.3f}, {pair_recall:.3f})"
    )


def f_score(precision: float, recall: float) -> float:
    """Return the harmonic mean."""
    return 2 * precision * recall / max(precision + recall, 1e-12)


def main() -> None:
    """Read the command line and print what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", default=list(PARTS), choices=[*PARTS, []])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    given = parser.parse_args()
    lfw = read(given.corpus, given.cache)
    for part in given.parts:
        print(f"== {part}")
        PARTS[part](lfw)


PARTS = {
    "thresholds": show_thresholds,
    "gallery": show_gallery,
    "clusters": show_clusters,
}

if __name__ == "__main__":
    main()
