"""Exact nearest neighbours in memory: one matrix product over vectors of 16 bits a number.

numpy multiplies float16 without the help of BLAS, ten times slower than float32. So the vectors, which have
length 1, are held as integers in 16 bits, finer than float16 between 0.03 and 1, and turned into float32
block by block while the block lies in the processor's cache.
Legend: N vectors, D numbers each, n probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from faceum.threads import usable_threads

SCALE = 32767
"""What a number of 1 is as an integer."""

ROWS = 256
"""Rows of a block: half a megabyte of float32 at 512 numbers a row."""

PROBES = 64
"""Probes that are compared at once, so that memory for cosines stays bounded."""

MOST_THREADS = 4
"""More threads than this only wait for memory."""


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A person's nearest sample: numbers of both, and the cosine."""

    person: int
    sample: int
    cosine: float


class VectorIndex:
    """Vectors of samples, each with the numbers of its sample and person. One thread changes it at a time."""

    def __init__(self, dim: int) -> None:
        """dim: numbers of a vector."""
        self._vectors = np.empty((0, dim), np.int16)
        self._ids = np.empty((2, 0), np.int64)
        self._count = 0
        self._pool = ThreadPoolExecutor(min(usable_threads(None), MOST_THREADS))

    def __len__(self) -> int:
        return self._count

    @property
    def last_sample(self) -> int:
        """The number of the sample that was added last, 0 where there is none."""
        return int(self._ids[0, self._count - 1]) if self._count else 0

    def add(self, samples: Sequence[int], people: Sequence[int], vectors: np.ndarray) -> None:
        """Append vectors (n, D) of length 1 with the numbers of their samples and people."""
        end = self._count + len(vectors)
        if end > len(self._vectors):
            room = max(end, 2 * len(self._vectors))
            self._vectors = np.concatenate(
                [
                    self._vectors[: self._count],
                    np.empty((room - self._count, self._vectors.shape[1]), np.int16),
                ]
            )
            self._ids = np.concatenate(
                [self._ids[:, : self._count], np.empty((2, room - self._count), np.int64)], axis=1
            )
        self._vectors[self._count : end] = np.rint(vectors.astype(np.float32) * SCALE)
        self._ids[:, self._count : end] = samples, people
        self._count = end

    def nearest(self, probes: np.ndarray, k: int) -> list[list[Hit]]:
        """Return, for each probe (n, D), the k people with the nearest samples, nearest first."""
        hits: list[list[Hit]] = []
        for first in range(0, len(probes), PROBES):
            cosines = self.cosines(probes[first : first + PROBES])
            hits += [self._best_people(row, k) for row in cosines]
        return hits

    def cosines(self, probes: np.ndarray) -> np.ndarray:
        """Return (n, N) float32 cosines of probes (n, D) with every vector."""
        scaled = np.ascontiguousarray(probes, np.float32) / np.float32(SCALE)
        result = np.empty((len(probes), self._count), np.float32)
        share = -(-self._count // self._pool._max_workers // ROWS) * ROWS or ROWS
        starts = range(0, self._count, share)
        list(self._pool.map(lambda start: self._fill(result, scaled, start, start + share), starts))
        return result

    def _fill(self, result: np.ndarray, probes: np.ndarray, start: int, end: int) -> None:
        block = np.empty((ROWS, self._vectors.shape[1]), np.float32)
        for low in range(start, min(end, self._count), ROWS):
            high = min(low + ROWS, end, self._count)
            part = block[: high - low]
            np.copyto(part, self._vectors[low:high])
            result[:, low:high] = probes @ part.T if len(probes) > 1 else part @ probes[0]

    def _best_people(self, cosines: np.ndarray, k: int) -> list[Hit]:
        samples, people = self._ids[:, : self._count]
        taken = min(self._count, max(4 * k, 64))
        while True:
            rows = np.argpartition(-cosines, taken - 1)[:taken] if taken < self._count else np.arange(taken)
            rows = rows[np.argsort(-cosines[rows], kind="stable")]
            _, firsts = np.unique(people[rows], return_index=True)
            if len(firsts) >= k or taken == self._count:
                break
            taken = min(self._count, 4 * taken)
        return [
            Hit(person=int(people[row]), sample=int(samples[row]), cosine=min(1.0, float(cosines[row])))
            for row in rows[np.sort(firsts)[:k]]
        ]
