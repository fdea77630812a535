"""How long clustering takes, and how much memory, on drawn embeddings of 512 numbers.

    python benchmarks/people_clusters.py --faces 1000000

People are drawn in a space of 192 axes whose strengths fall as those of the shipped network's embeddings
do (half of the squared length in the first 32 axes, 98 % in the first 160), ten faces each on average, and
turned into 512 numbers. Prints the time by the clock and of the processor, the peak of memory, and whether
the people were found.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from faceum.people.clusters import cluster_vectors

DIM, RANK, FALL = 512, 192, 40.0
"""Numbers of an embedding, axes along which it extends, and after how many of them the square falls by e."""

NOISE = 0.3
"""Of a face, against 1 of its person."""


def drawn_faces(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return embeddings (count, DIM) float16 of length 1, and each face's person."""
    rng = np.random.default_rng(seed)
    people = max(2, count // 10)
    strengths = np.exp(-np.arange(RANK) / (2 * FALL)).astype(np.float32)
    axes = np.linalg.qr(rng.standard_normal((DIM, RANK)))[0].astype(np.float32)
    centres = rng.standard_normal((people, RANK), dtype=np.float32)
    who = rng.integers(0, people, count)
    faces = np.empty((count, DIM), np.float16)
    for start in range(0, count, 10_000):
        some = who[start : start + 10_000]
        inside = centres[some] + NOISE * rng.standard_normal((len(some), RANK), dtype=np.float32)
        inside *= strengths
        inside /= np.linalg.norm(inside, axis=1, keepdims=True)
        faces[start : start + 10_000] = inside @ axes.T
    return faces, who


def main() -> None:
    """Draw, cluster, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--faces", type=int, default=1_000_000)
    parser.add_argument("--threshold", type=float, default=0.75)
    given = parser.parse_args()
    faces, who = drawn_faces(given.faces)
    start, used = time.perf_counter(), time.process_time()
    last = start

    def progress(done: int, count: int) -> None:
        nonlocal last
        if time.perf_counter() - last > 60:
            last = time.perf_counter()
            print(f"{done:,} of {count:,} after {last - start:.0f} s", flush=True)

    result = cluster_vectors(faces, given.threshold, progress=progress)
    people = len(np.unique(who))
    pairs = np.unique(np.stack([result.labels, who]), axis=1).shape[1]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{given.faces:,} faces: {time.perf_counter() - start:.0f} s, processor time "
        f"{time.process_time() - used:.0f} s, peak {peak:.2f} GB; "
        f"{result.labels.max() + 1:,} clusters of {people:,} people, {result.links:,} links, "
        f"{pairs - people:,} people divided and {pairs - result.labels.max() - 1:,} joined"
    )


if __name__ == "__main__":
    main()
