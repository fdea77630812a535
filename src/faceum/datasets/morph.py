"""Read MORPH II: age, gender and identity."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from faceum.data.sample import Sample
from faceum.datasets.tables import find, is_in_split, parse_number, value_or_problem
from faceum.datasets.text import read_csv

GENDERS = {"M": 0, "F": 1}


def read_morph(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Yield the faces of MORPH II (Album 2).

    root contains morph_2008_nonCommercial.csv with at least the columns id_num, gender, age and photo, a path
    relative to root. The set has no split of its own: people go to train, val and test 80:10:10 by a hash of
    id_num, which is stricter than the random split of images in many papers.
    """
    name = "morph_2008_nonCommercial.csv"
    path = find(root, "MORPH II's table", name, f"MORPH_nonCommercial/{name}", "morph.csv")
    for where, row, short in read_csv(path, ("id_num", "gender", "age", "photo")):
        person = row["id_num"].strip()
        if is_in_split(person, split, "MORPH II") or (short and not person):
            photo = path.parent / row["photo"].strip().replace("\\", "/")
            age, wrong_age = value_or_problem(parse_number, row["age"], where, default=math.nan)
            yield Sample(
                id=f"morph-{photo.stem}",
                source="morph",
                image=photo,
                age=age,
                gender=GENDERS.get(row["gender"].strip().upper()),
                identity=person,
                problem=short or wrong_age,
            )
