"""Clusters of embeddings, against comparing all pairs at once."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs the extra `cluster`")
from scipy.cluster.hierarchy import fcluster, linkage

from faceum.errors import FaceumError
from faceum.people import clusters
from faceum.people.clusters import cluster_vectors, neighbour_pairs


def drawn_people(count: int, people: int, rank: int, dim: int = 96, noise: float = 0.6) -> np.ndarray:
    """Faces of people: vectors of length 1 in a space of so many of the axes."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.standard_normal((dim, rank)))[0]
    centres = rng.standard_normal((people, rank))
    inside = centres[rng.integers(0, people, count)] + noise * rng.standard_normal((count, rank))
    vectors = (inside * np.exp(-np.arange(rank) / rank * 3)) @ axes.T
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def as_sets(labels: np.ndarray) -> set[frozenset[int]]:
    """Clusters without their numbers."""
    return {frozenset(np.flatnonzero(labels == label).tolist()) for label in np.unique(labels)}


@pytest.mark.parametrize(("rank", "leading"), [(96, 16), (96, 96), (24, 16), (12, 16)])
def test_every_pair_at_the_threshold_is_found(
    monkeypatch: pytest.MonkeyPatch, rank: int, leading: int
) -> None:
    monkeypatch.setattr(clusters, "BLOCK", 64)
    monkeypatch.setattr(clusters, "LEADING", leading)
    vectors = drawn_people(300, 40, rank)
    cosines = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    # No pair may lie so near to the threshold that rounding decides.
    near = np.sort(cosines[np.triu_indices(300, 1)])
    gaps = np.diff(near) * (near[:-1] > 0.5)
    threshold = float(near[gaps.argmax()] + gaps.max() / 2)
    found = {
        (min(i, j), max(i, j))
        for _, links in neighbour_pairs(vectors, threshold)
        for i, j in zip(links[0].tolist(), links[1].tolist(), strict=True)
    }
    assert found == set(zip(*np.nonzero(np.triu(cosines >= threshold, 1)), strict=True))


def test_clusters_are_those_of_average_linkage_over_all_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "BLOCK", 64)
    vectors = drawn_people(300, 40, 48)
    distances = 1 - (vectors @ vectors.T)[np.triu_indices(300, 1)].astype(np.float64)
    expected = fcluster(linkage(distances, "average"), 0.45, "distance")
    result = cluster_vectors(vectors, 0.55)
    assert as_sets(result.labels) == as_sets(expected)
    assert 2 < len(as_sets(expected)) < 300


def test_largest_cluster_comes_first() -> None:
    labels = cluster_vectors(drawn_people(200, 9, 48, noise=0.2), 0.7).labels
    sizes = np.bincount(labels)
    assert sizes.tolist() == sorted(sizes.tolist(), reverse=True)
    assert sizes.sum() == 200


def test_component_too_large_is_divided_by_a_higher_threshold(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = drawn_people(200, 9, 48, noise=0.2)
    whole = cluster_vectors(vectors, -0.5).labels
    monkeypatch.setattr(clusters, "LARGEST", 60)
    parts = cluster_vectors(vectors, -0.5).labels
    assert len(np.unique(parts)) > len(np.unique(whole))
    assert np.bincount(parts).max() <= 60


def test_faces_of_any_length_are_compared_by_their_direction() -> None:
    vectors = drawn_people(100, 9, 48)
    scaled = vectors * np.linspace(0.1, 50, 100, dtype=np.float32)[:, None]
    assert np.array_equal(cluster_vectors(scaled, 0.6).labels, cluster_vectors(vectors, 0.6).labels)


def test_progress_ends_at_all_faces() -> None:
    calls: list[tuple[int, int]] = []
    cluster_vectors(drawn_people(50, 5, 48), 0.6, progress=lambda *call: calls.append(call))
    assert calls[-1] == (50, 50)


def test_vector_without_direction_is_refused() -> None:
    vectors = drawn_people(10, 2, 48)
    vectors[3] = 0
    with pytest.raises(FaceumError, match="zero or not finite"):
        cluster_vectors(vectors, 0.6)


def test_too_many_links_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "MOST_LINKS", 10)
    with pytest.raises(FaceumError, match="higher threshold"):
        cluster_vectors(drawn_people(50, 5, 48), -1.0)
