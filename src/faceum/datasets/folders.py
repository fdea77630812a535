"""A folder a person (any set of that form), and RMFD's two such trees -> samples with identity."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from faceum.data.sample import Sample
from faceum.datasets.tables import choose, find, find_any, folders_in, images_in, in_split
from faceum.errors import DataError

RMFD_TREES = {False: "AFDB_face_dataset", True: "AFDB_masked_face_dataset"}
"""Wears a mask -> the folder of people."""


def read_folders(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Faces of a set that has a folder a person: root/<person>/<image>.

    Where root has a folder named as the split (train, val, test), people are looked for in there; otherwise
    they go to train, val and test 80:10:10 by a hash of their name.
    """
    source = Path(root).name
    inner = find_any(root, split)
    people = folders_in(inner or Path(root))
    if not any(images_in(person) for person in people[:10]):
        raise DataError(f"No people were found: looked for <person>/<image> in {inner or root}.")
    for person in people:
        if inner or in_split(person.name, split, source):
            yield from _person(person, source)


def read_rmfd(root: str | Path, split: str = "all") -> Iterator[Sample]:
    """Faces of RMFD's part for recognition (RMFRD): the same people without and with real face masks.

    root, or root/self-built-masked-face-recognition-dataset, holds AFDB_face_dataset and
    AFDB_masked_face_dataset, each with a folder a person. The set has no split: "train", "val" and "test" are
    people 80:10:10 by a hash of their name, the same in both trees.
    """
    choose(split, dict.fromkeys(("train", "val", "test", "all")), "RMFD")
    for masked, tree in RMFD_TREES.items():
        outer = f"self-built-masked-face-recognition-dataset/{tree}"
        for person in folders_in(find(root, f"RMFD's {tree}", tree, outer)):
            if in_split(person.name, split, "RMFD"):
                yield from _person(person, "rmfd", masked=masked)


def _person(folder: Path, source: str, masked: bool | None = None) -> Iterator[Sample]:
    kind = {None: "", False: "bare-", True: "masked-"}[masked]
    for path in images_in(folder):
        name = path.relative_to(folder).with_suffix("").as_posix().replace("/", "-")
        yield Sample(
            id=f"{source}-{kind}{folder.name}-{name}",
            source=source,
            image=path,
            identity=folder.name,
            masked=masked,
        )
