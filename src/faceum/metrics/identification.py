"""Score open-set identification: whether a face shows an enrolled person, and which.

Legend: E enrolled people, M probes of enrolled people, S probes of strangers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faceum.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Identification:
    """The scores of one split of a set.

    rank1: the share of the M probes whose nearest person is the right one. dir: the share that is the right
    one and reaches the threshold (detection and identification rate). far: the share of the S strangers whose
    nearest person reaches it. threshold: the cosine.
    """

    rank1: float
    dir: float
    far: float
    threshold: float


def identify(
    mated: np.ndarray, right: np.ndarray, strangers: np.ndarray, far: float = 0.01
) -> Identification:
    """Score cosines of probes with each enrolled person.

    mated: (M, E); right: (M,) the column of each probe's own person; strangers: (S, E). The threshold is the
    lowest that at most the share `far` of strangers reaches. Raises DataError if a kind of probe is missing.
    """
    if not len(mated) or not len(strangers):
        raise DataError(
            f"Identification needs probes of enrolled people and of strangers; there are {len(mated)} and "
            f"{len(strangers)}, so give a set of more people with two images or more."
        )
    highest = np.sort(strangers.max(axis=1))[::-1]
    threshold = float(np.nextafter(highest[int(far * len(highest) + 1e-9)], 2, dtype=highest.dtype))
    nearest, best = mated.argmax(axis=1), mated.max(axis=1)
    return Identification(
        rank1=float((nearest == right).mean()),
        dir=float(((nearest == right) & (best >= threshold)).mean()),
        far=float((highest >= threshold).mean()),
        threshold=threshold,
    )
