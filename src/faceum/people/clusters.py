"""Groups of faces that show one person: average linkage over exact neighbours.

Two faces are linked when their cosine reaches a threshold; scipy's `connected_components` finds what links
connect, and scipy's average linkage divides each component at the same threshold. That is the same as average
linkage over all faces at once: two groups whose mean cosine reaches the threshold have a pair that does.
Connected components alone and HDBSCAN were measured too; docs/people.md has the numbers.

Every pair is compared, block by block. A block's product first goes over the leading axes of a rotation that
gathers the vectors' lengths in few axes; what the other axes can add is bounded by the lengths that are left
in them (Cauchy and Schwarz), so only pairs that the bound cannot rule out need more axes, and of these only
the ones that are left need all. Nothing is approximated. Legend: n faces, D numbers of an embedding, m links.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from faceum.errors import FaceumError
from faceum.extras import missing
from faceum.threads import usable_threads

BLOCK = 1024
"""Faces a side of the blocks that are compared at once: 4 MB of cosines."""

LEADING, MIDDLE = 48, 80
"""Axes of the first product, and of the second, which only the pairs that are left need."""

FITTED = 20_000
"""Faces by which the rotation is fitted."""

SURVIVORS = 0.02
"""Where more of a block than this could not be ruled out, its full product is quicker than pair by pair."""

SLACK, ROUNDING = 1e-4, 1e-5
"""What rounding may take from a cosine, and from a squared length."""

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
        import threadpoolctl  # noqa: F401
    except ImportError as error:
        raise FaceumError(missing("Clustering", (error.name or "scipy").partition(".")[0])) from None
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
    from threadpoolctl import threadpool_limits

    turned = _turn(np.asarray(vectors))
    count = len(turned.order)
    # A thread for each block does more than threads within the product: the rest of a block is parallel, too.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(usable_threads()) as pool:
        for start in range(0, count, BLOCK):
            compare = partial(_find_linked, turned, start, threshold=threshold)
            for i, j, cosines in pool.map(compare, range(start, count, BLOCK)):
                if len(i):
                    yield start, (turned.order[i], turned.order[j], cosines)
            yield min(start + BLOCK, count), _NO_LINKS


@dataclass(frozen=True, kw_only=True, eq=False)
class _Turned:
    """Faces on the principal axes of all, ordered by how much of their length the leading axes leave.

    vectors: (n, D) as they were given. order: (n,) int32, the face of each row below. leading, middle:
    (n, LEADING) and (n, MIDDLE) float32, the first axes and those after them. after_leading, after_middle:
    (n,) at least the length that is left in the axes after these.
    """

    vectors: np.ndarray
    order: np.ndarray
    leading: np.ndarray
    middle: np.ndarray
    after_leading: np.ndarray
    after_middle: np.ndarray

    def take(self, rows: slice | np.ndarray) -> np.ndarray:
        """Return the whole vectors of some rows, float32 of length 1."""
        return _unit(self.vectors[self.order[rows]])


def _find_linked(turned: _Turned, start: int, low: int, *, threshold: float) -> Links:
    """Return the pairs of two blocks whose cosine reaches the threshold; within one block, each pair once."""
    first, second = slice(start, start + BLOCK), slice(low, low + BLOCK)
    cosines = turned.leading[first] @ turned.leading[second].T
    most = turned.after_leading[first].max() * turned.after_leading[second].max()
    i, j = _find_reaching(cosines, threshold - SLACK - most)
    if len(i) > SURVIVORS * cosines.size:
        cosines = turned.take(first) @ turned.take(second).T
        i, j = _find_reaching(cosines, threshold)
        exact = cosines[i, j]
        i, j = i + start, j + low
    else:
        near = cosines[i, j]
        i, j = i + start, j + low
        near += np.einsum("nd,nd->n", turned.middle[i], turned.middle[j])
        left = near >= threshold - SLACK - turned.after_middle[i] * turned.after_middle[j]
        i, j = i[left], j[left]
        exact = np.einsum("nd,nd->n", turned.take(i), turned.take(j))
    kept = exact >= threshold
    if low == start:
        kept &= i < j
    return i[kept], j[kept], exact[kept]


def _find_reaching(cosines: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of values >= least, as np.nonzero returns them; quick where few rows have one."""
    rows = np.flatnonzero(cosines.max(axis=1) >= least)
    i, j = np.nonzero(cosines[rows] >= least)
    return rows[i], j


def _turn(vectors: np.ndarray) -> _Turned:
    """Turn the vectors; the axes are those of the second moments, without centring, so that cosines stay."""
    some = _unit(vectors[:: max(1, len(vectors) // FITTED)]).astype(np.float64)
    axes = np.linalg.eigh(some.T @ some)[1][:, ::-1][:, : LEADING + MIDDLE]
    axes = np.ascontiguousarray(axes, np.float32)
    count = len(vectors)
    after = np.empty((2, count), np.float32)
    for start in range(0, count, BLOCK):
        rows = slice(start, start + BLOCK)
        square = (_unit(vectors[rows]) @ axes) ** 2
        for k, width in enumerate((LEADING, LEADING + MIDDLE)):
            # What rounding takes from the difference may not make the bound too small.
            after[k, rows] = np.sqrt(np.maximum(1 - square[:, :width].sum(axis=1), 0) + ROUNDING)
    # Ordered by their bounds, so that one bound for a whole block is nearly as sharp as one for each pair.
    order = np.argsort(after[0], kind="stable").astype(np.int32)
    leading = np.empty((count, min(LEADING, axes.shape[1])), np.float32)
    middle = np.empty((count, axes.shape[1] - leading.shape[1]), np.float32)
    for start in range(0, count, BLOCK):
        rows = slice(start, start + BLOCK)
        turned = _unit(vectors[order[rows]]) @ axes
        leading[rows], middle[rows] = np.split(turned, [leading.shape[1]], axis=1)
    return _Turned(
        vectors=vectors, order=order, leading=leading, middle=middle,
        after_leading=after[0][order], after_middle=after[1][order],
    )  # fmt: skip


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
