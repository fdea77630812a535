"""The records of a verification set: its faces, and pairs that name them by their ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faceum.data.sample import Sample


@dataclass(frozen=True, kw_only=True, eq=False)
class Pairs:
    """The pairs of a verification set in file order.

    fold: (P,) fold ids. a, b: (P,) face ids. same: (P,) bool, True where both faces show one person.
    """

    fold: np.ndarray
    a: np.ndarray
    b: np.ndarray
    same: np.ndarray

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[int, str, str, bool]]) -> Pairs:
        """Collect (fold, a, b, same) rows, at least one."""
        fold, a, b, same = zip(*rows, strict=True)
        return cls(
            fold=np.array(fold), a=np.array(a, object), b=np.array(b, object), same=np.array(same, bool)
        )

    def __len__(self) -> int:
        return len(self.same)


@dataclass(frozen=True, kw_only=True, eq=False)
class PairSet:
    """A verification set: every face once, and pairs that name them by their ids."""

    samples: list[Sample]
    pairs: Pairs
