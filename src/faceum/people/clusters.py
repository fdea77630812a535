"""Groups of faces that show one person: average linkage over exact neighbours.

Two faces are linked when their cosine reaches a threshold; scipy's `connected_components` finds what links
connect, and scipy's average linkage divides each component at the same threshold. That is the same as average
linkage over all faces at once: two groups whose mean cosine reaches the threshold have a pair that does.
Connected components alone and HDBSCAN were measured too; docs/people.md has the numbers.

Every pair is compared, block by block. A block's product first goes over the leading axes of a rotation that
gathers the vectors' lengths in few axes; what the other axes can add is bounded by the lengths that are left
in them (Cauchy and Schwarz), so only pairs that the bound cannot rule out need the rest. Nothing is
approximated. Legend: n faces, D numbers of an embedding, m links.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from faceum.errors import FaceumError
from faceum.extras import missing

BLOCK = 1024
"""Faces a side of the blocks that are compared at once: 4 MB of cosines."""

LEADING = 64
"""Axes of the first product."""

FITTED = 20_000
"""Faces by which the rotation is fitted."""

SURVIVORS = 0.02
"""Where more of a block than this could not be ruled out, its full product is quicker than pair by pair."""

SLACK = 1e-4
"""What rounding may take from a bound."""

MOST_LINKS = 100_000_000
"""More links than this would not fit into memory; the threshold is then too low for so many faces."""

LARGEST = 5000
"""Components of more faces are first divided by a higher threshold, because linkage compares all pairs."""

STEP = 0.02
"""By how much the threshold rises for such a component."""

Links = tuple[np.ndarray, np.ndarray, np.ndarray]
"""First faces, second faces and cosines of links, (m,) each."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Clustering:
    """Which faces belong together.

    labels: (n,) the number of each face's cluster, the largest cluster first. links: how many pairs reached
    the threshold. threshold: the mean cosine from which on two groups are one.
    """

    labels: np.ndarray
    links: int
    threshold: float


def cluster_vectors(
    vectors: np.ndarray, threshold: float, *, progress: Callable[[int, int], None] | None = None
) -> Clustering:
    """Cluster embeddings (n, D) of any length but zero by their cosines.

    progress: called with faces done and faces in all. Raises FaceumError where scipy is missing, a vector is
    zero or not finite, or there are too many links.
    """
    try:
        import scipy.cluster.hierarchy
        import scipy.sparse.csgraph  # noqa: F401
    except ImportError:
        raise FaceumError(missing("Clustering", "scipy")) from None
    count, parts, links = len(vectors), [_NO_LINKS], 0
    for done, part in neighbour_pairs(vectors, threshold):
        parts.append(part)
        links += len(part[0])
        if links > MOST_LINKS:
            raise FaceumError(
                f"More than {MOST_LINKS:,} pairs of {count:,} faces reach the cosine {threshold:.3f}; "
                "give a higher threshold."
            )
        if progress is not None:
            progress(done, count)
    i, j, cosines = (np.concatenate(part) for part in zip(*parts, strict=True))
    labels = np.empty(count, np.int64)
    used = 0
    for faces in _components((i, j, cosines), count, threshold):
        divided = _linkage(vectors[faces], threshold) if len(faces) > 2 else np.zeros(len(faces), np.int64)
        labels[faces] = divided + used
        used += int(divided.max()) + 1
    return Clustering(labels=_sort_by_size(labels), links=links, threshold=threshold)


def _components(links: Links, count: int, threshold: float) -> Iterator[np.ndarray]:
    """Yield the faces of each connected component, of at most `LARGEST` faces each."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    i, j, cosines = links
    graph = coo_array((np.ones(len(i), np.int8), (i, j)), shape=(count, count))
    labels = connected_components(graph, directed=False)[1]
    order = np.argsort(labels, kind="stable")
    for faces in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        if len(faces) <= LARGEST:
            yield faces
            continue
        place = np.full(count, -1)
        place[faces] = np.arange(len(faces))
        inside = (place[i] >= 0) & (cosines >= threshold + STEP)
        within = place[i[inside]], place[j[inside]], cosines[inside]
        for part in _components(within, len(faces), threshold + STEP):
            yield faces[part]


def _linkage(vectors: np.ndarray, threshold: float) -> np.ndarray:
    """Return (n,) clusters, from 0: groups merge while the mean cosine between them reaches the threshold."""
    from scipy.cluster.hierarchy import fcluster, linkage

    unit = _unit(vectors)
    distances = 1 - (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    tree = linkage(np.clip(distances, 0, 2).astype(np.float64), "average")
    return np.asarray(fcluster(tree, 1 - threshold, "distance"), np.int64) - 1


def neighbour_pairs(vectors: np.ndarray, threshold: float) -> Iterator[tuple[int, Links]]:
    """Yield, block by block, how many faces are done and the pairs of faces with cosine >= threshold."""
    turned, beyond = _project(vectors)
    # Ordered by their bounds, so that one bound for a whole block is nearly as sharp as one for each pair.
    order = np.argsort(beyond, kind="stable")
    turned, beyond = turned[order], beyond[order]
    count = len(turned)
    for start in range(0, count, BLOCK):
        for low in range(start, count, BLOCK):
            i, j, cosines = _find_linked(turned, beyond, start, low, threshold)
            if low == start:
                i, j, cosines = i[i < j], j[i < j], cosines[i < j]
            if len(i):
                yield start, (order[i].astype(np.int32), order[j].astype(np.int32), cosines)
        yield min(start + BLOCK, count), _NO_LINKS


def _find_linked(turned: np.ndarray, beyond: np.ndarray, start: int, low: int, threshold: float) -> Links:
    """Return the pairs of two blocks whose cosine reaches the threshold."""
    a, b = turned[start : start + BLOCK], turned[low : low + BLOCK]
    cosines = a[:, :LEADING] @ b[:, :LEADING].T
    most = beyond[start : start + BLOCK].max() * beyond[low : low + BLOCK].max()
    i, j = _find_nonzero(cosines >= threshold - SLACK - most)
    if turned.shape[1] > LEADING and len(i) > SURVIVORS * cosines.size:
        cosines += a[:, LEADING:] @ b[:, LEADING:].T
        i, j = _find_nonzero(cosines >= threshold)
        return i + start, j + low, cosines[i, j]
    exact = cosines[i, j] + np.einsum("nd,nd->n", a[i, LEADING:], b[j, LEADING:])
    kept = exact >= threshold
    return i[kept] + start, j[kept] + low, exact[kept]


def _find_nonzero(marked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Do the same as np.nonzero, but faster if little is marked."""
    rows = np.flatnonzero(marked.any(axis=1))
    i, j = np.nonzero(marked[rows])
    return rows[i], j


def _project(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return unit vectors (n, d') float32 on their principal axes, and (n,) the length beyond `LEADING`.

    The axes are those of the second moments, without centring, so that cosines stay as they are; axes along
    which no vector extends are left out.
    """
    vectors = np.asarray(vectors)
    some = _unit(vectors[:: max(1, len(vectors) // FITTED)]).astype(np.float64)
    strengths, axes = np.linalg.eigh(some.T @ some)
    axes = np.ascontiguousarray(axes[:, ::-1], np.float32)
    for width in (int((strengths > 1e-9 * strengths.max()).sum()), axes.shape[1]):
        turned = np.empty((len(vectors), width), np.float32)
        for start in range(0, len(vectors), BLOCK):
            turned[start : start + BLOCK] = _unit(vectors[start : start + BLOCK]) @ axes[:, :width]
        if np.abs(np.einsum("nd,nd->n", turned, turned) - 1).max() < SLACK / 10:
            break
    return turned, np.linalg.norm(turned[:, LEADING:], axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise FaceumError("An embedding is zero or not finite, so it cannot be compared; leave out its face.")
    return vectors / lengths


_NO_LINKS: Links = (np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.float32))


def _sort_by_size(labels: np.ndarray) -> np.ndarray:
    """Number the clusters from the largest; equal ones in the order of their first faces."""
    _, first, inverse, sizes = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    order = np.lexsort((first, -sizes))
    numbers = np.empty(len(order), np.int64)
    numbers[order] = np.arange(len(order))
    return numbers[inverse]
