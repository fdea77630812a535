"""The folder of UTKFace -> samples with age and gender, read from the files' names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from faceum.data.sample import Sample
from faceum.datasets.tables import find, images_in, in_split
from faceum.errors import DataError

NAME = re.compile(r"(?P<age>\d+)_(?P<gender>\d*)_")
"""[age]_[gender]_[race]_[date].jpg; a few names lack the gender or the race."""


def read_utkface(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Faces of UTKFace: root, or a folder in it, holds images named [age]_[gender]_[race]_[date].jpg.

    The set has no split of its own: images go to train, val and test 80:10:10 by a hash of their name.
    """
    find(root, "UTKFace", ".")
    found = False
    for path in images_in(Path(root)):
        name = NAME.match(path.name)
        if name is None:
            continue
        found = True
        if in_split(path.name, split, "UTKFace"):
            yield Sample(
                id=f"utkface-{path.name.partition('.')[0]}",
                source="utkface",
                image=path,
                age=float(name["age"]),
                gender=int(name["gender"]) if name["gender"] in ("0", "1") else None,
            )
    if not found:
        raise DataError(f"UTKFace was not found: looked for [age]_[gender]_[race]_[date].jpg in {root}.")
