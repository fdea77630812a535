"""The folder of CelebA -> samples with 40 attributes, identity, box and five points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from faceum.data.sample import Sample
from faceum.datasets.tables import (
    NO_SIGNS,
    choose,
    counted,
    find,
    find_any,
    numbers,
    read_lines,
    read_or_tell,
    signs,
    whole_number,
)
from faceum.errors import DataError

SPLITS = {"train": "0", "val": "1", "test": "2", "all": None}
BOX = ("x_1", "y_1", "width", "height")
POINTS = tuple(
    f"{point}_{axis}" for point in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
)


def read_celeba(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Faces of CelebA in the order of its list.

    root holds list_attr_celeba.txt and, where present, identity_CelebA.txt, list_eval_partition.txt,
    list_bbox_celeba.txt and list_landmarks_*.txt (also in Anno/ and Eval/, also as .csv), and either the
    images in the wild (img_celeba, with box) or the aligned ones (img_align_celeba); the former win.
    Points are taken as they are: whole pixels of unknown origin.
    """
    wanted = choose(split, SPLITS, "CelebA")
    attributes = find(root, "CelebA's list of attributes", *_places("list_attr_celeba"))
    wild = find_any(root, "img_celeba", "Img/img_celeba", "Img/img_celeba.7z/img_celeba")
    aligned = ("img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba")
    images = wild or find(root, "CelebA's folder of images", "img_celeba", *aligned)
    points = _table(root, "list_landmarks_celeba" if wild else "list_landmarks_align_celeba", POINTS)
    boxes = _table(root, "list_bbox_celeba", BOX) if wild else _Table()
    identities = _table(root, "identity_CelebA", ("the person's number",), whole=True)
    partition = {}
    if wanted is not None:
        parts = find(root, "CelebA's list of partitions", *_places("list_eval_partition"))
        rows = (counted(words, ("the image", "its part"), where) for where, words in read_lines(parts))
        partition = dict(rows)
    for where, (name, *words) in read_lines(attributes):
        if not name.endswith(".jpg") or (wanted is not None and partition.get(name) != wanted):
            continue
        shown, problem = read_or_tell(signs, words, where, otherwise=NO_SIGNS)
        tables = (boxes, points, identities)
        box, points5, person = (table.numbers.get(name) for table in tables)
        problems = (problem, *(table.problems.get(name) for table in tables))
        yield Sample(
            id=f"celeba-{Path(name).stem}",
            source="celeba",
            image=images / name,
            box=None if box is None else box.reshape(2, 2).cumsum(axis=0).ravel(),
            points5=None if points5 is None else points5.reshape(5, 2),
            attributes=shown,
            identity=None if person is None else int(person[0]),
            problem=next(filter(None, problems), None),
        )


def _places(stem: str) -> list[str]:
    return [f"{folder}{stem}{end}" for folder in ("", "Anno/", "Eval/") for end in (".txt", ".csv")]


@dataclass
class _Table:
    """Image name -> its numbers (n,), one a column; and what is wrong with those of other images."""

    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def _table(root: str | Path, stem: str, columns: tuple[str, ...], *, whole: bool = False) -> _Table:
    """One of CelebA's tables; empty where the file is missing. whole: its numbers are whole ones."""
    table = _Table()
    path = find_any(root, *_places(stem))
    if path is None:
        return table
    for where, (name, *words) in read_lines(path):
        if name.endswith(".jpg"):
            try:
                counted(words, columns, where)
                values = [whole_number(word, where) for word in words] if whole else numbers(words, where)
                table.numbers[name] = np.array(values)
            except DataError as error:
                table.problems[name] = str(error).rstrip(".")
    return table
