"""Read UTKFace: age and gender, from the file names."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

from faceum.data.sample import Sample
from faceum.datasets.tables import find, is_in_split, list_images
from faceum.errors import DataError

NAME = re.compile(r"(?P<age>\d+)_(?P<gender>\d*)_")
"""[age]_[gender]_[race]_[date].jpg; a few names lack the gender or the race."""


def read_utkface(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Yield the faces of UTKFace: images named [age]_[gender]_[race]_[date].jpg in root or its folders.

    The set has no split of its own: images go to train, val and test 80:10:10 by a hash of their name.
    """
    find(root, "UTKFace", ".")
    paths = list_images(Path(root))
    if not any(NAME.match(path.name) for path in paths):
        raise DataError(f"UTKFace was not found: looked for [age]_[gender]_[race]_[date].jpg in {root}.")
    for path in paths:
        name = NAME.match(path.name)
        if is_in_split(path.name, split, "UTKFace"):
            yield Sample(
                id=f"utkface-{path.name.partition('.')[0]}",
                source="utkface",
                image=path,
                age=float(name["age"]) if name else math.nan,
                gender=int(name["gender"]) if name and name["gender"] in ("0", "1") else None,
                problem=None if name else "its name is not [age]_[gender]_[race]_[date].jpg",
            )
