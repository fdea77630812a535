"""Read RMFD: the same people with and without real face masks, as faces or as pairs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from faceum.data.pairs import Pairs, PairSet
from faceum.data.sample import Sample
from faceum.datasets.folders import read_person
from faceum.datasets.tables import choose, find, is_in_split, list_folders
from faceum.errors import DataError, count_noun

TREES = {False: "AFDB_face_dataset", True: "AFDB_masked_face_dataset"}
"""Wears a mask -> the folder of people."""


def read_rmfd(root: str | Path, split: str = "all") -> Iterator[Sample]:
    """Yield the faces of RMFD's part for recognition (RMFRD): the same people without and with real face
    masks.

    root, or root/self-built-masked-face-recognition-dataset, has AFDB_face_dataset and
    AFDB_masked_face_dataset, each with one folder per person. The set has no split: "train", "val" and
    "test" are people 80:10:10 by a hash of their name, the same in both trees.
    """
    choose(split, dict.fromkeys(("train", "val", "test", "all")), "RMFD")
    for wears_mask, tree in TREES.items():
        outer = f"self-built-masked-face-recognition-dataset/{tree}"
        for person in list_folders(find(root, f"RMFD's {tree}", tree, outer)):
            if is_in_split(person.name, split, "RMFD"):
                yield from read_person(person, "rmfd", wears_mask=wears_mask)


def read_rmfd_pairs(root: str | Path, split: str = "all") -> PairSet:
    """Pair every masked face of RMFD with a bare face of the same person and with one of another person.

    The set itself has no pairs; these are drawn with a fixed seed. Folds are five groups of people; both
    faces of a pair are of one group.
    """
    bare, masked = _by_person(read_rmfd(root, split))
    both = sorted(bare.keys() & masked.keys())
    rng = np.random.default_rng(0)
    rows: list[tuple[int, str, str, bool]] = []
    used: dict[str, Sample] = {}
    for fold in range(5):
        group = both[fold::5]
        if len(group) < 2:
            raise DataError(
                f"{root} has {count_noun(len(both), 'person', 'people')} with and without masks; "
                "pairs need at least 10."
            )
        for person in group:
            for face in masked[person]:
                other = group[(group.index(person) + int(rng.integers(1, len(group)))) % len(group)]
                for name, same in ((person, True), (other, False)):
                    partner = bare[name][int(rng.integers(len(bare[name])))]
                    rows.append((fold, face.id, partner.id, same))
                    used |= {face.id: face, partner.id: partner}
    return PairSet(samples=list(used.values()), pairs=Pairs.from_rows(rows))


def _by_person(samples: Iterator[Sample]) -> tuple[dict[str, list[Sample]], dict[str, list[Sample]]]:
    """Group faces by person, bare and masked ones apart."""
    trees: tuple[dict[str, list[Sample]], dict[str, list[Sample]]] = ({}, {})
    for sample in samples:
        trees[bool(sample.wears_mask)].setdefault(str(sample.identity), []).append(sample)
    return trees
