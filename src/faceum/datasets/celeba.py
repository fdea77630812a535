"""Read CelebA: 40 attributes, identity, box and five points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from faceum.data.sample import Sample
from faceum.datasets.tables import (
    NO_SIGNS,
    choose,
    find,
    find_any,
    parse_numbers,
    parse_signs,
    parse_whole_number,
    require_one_per_name,
    value_or_problem,
)
from faceum.datasets.text import read_named_lines
from faceum.errors import DataError

SPLITS = {"train": 0, "val": 1, "test": 2, "all": None}
BOX = ("x_1", "y_1", "width", "height")
POINTS = tuple(
    f"{point}_{axis}" for point in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
)


def read_celeba(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Yield the faces of CelebA in the order of its list of attributes.

    root contains list_attr_celeba.txt and, if present, identity_CelebA.txt, list_eval_partition.txt,
    list_bbox_celeba.txt and list_landmarks_*.txt (also in Anno/ and Eval/, also as .csv), and the
    images in the wild (img_celeba, with box) or the aligned ones (img_align_celeba); the former are
    preferred. Points are taken as they are: whole pixels of unknown origin.
    """
    part = choose(split, SPLITS, "CelebA")
    attributes = find(root, "CelebA's list of attributes", *_places("list_attr_celeba"))
    wild = find_any(root, "img_celeba", "Img/img_celeba", "Img/img_celeba.7z/img_celeba")
    aligned = ("img_align_celeba/img_align_celeba", "img_align_celeba", "Img/img_align_celeba")
    images = wild or find(root, "CelebA's folder of images", "img_celeba", *aligned)
    points = _read_table(root, "list_landmarks_celeba" if wild else "list_landmarks_align_celeba", POINTS)
    boxes = _read_table(root, "list_bbox_celeba", BOX) if wild else _Table()
    identities = _read_table(root, "identity_CelebA", ("the person's number",), whole=True)
    partition = _Table()
    if part is not None:
        find(root, "CelebA's list of partitions", *_places("list_eval_partition"))
        partition = _read_table(root, "list_eval_partition", ("its part",), whole=True)
    for where, name, words in read_named_lines(attributes):
        if name is None:
            yield _sample_without_name(where, images)
            continue
        known = partition.numbers.get(name)
        if part is not None and known is not None and known[0] != part:
            continue
        shown, problem = value_or_problem(parse_signs, words, where, default=NO_SIGNS)
        if part is not None and known is None:  # it is in every split, so that it is not lost
            problem = partition.problems.get(name, f"{name} is not in CelebA's list of partitions")
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


def _sample_without_name(where: str, images: Path) -> Sample:
    """Return the sample of a row that names no image."""
    number = where.rpartition(" ")[2]
    problem = f"{where} names no image"
    return Sample(
        id=f"celeba-line-{number}", source="celeba", image=images, attributes=NO_SIGNS, problem=problem
    )


def _places(stem: str) -> list[str]:
    return [f"{folder}{stem}{end}" for folder in ("", "Anno/", "Eval/") for end in (".txt", ".csv")]


@dataclass
class _Table:
    """Image name -> its numbers (n,), one per column; and what is wrong with those of other images."""

    numbers: dict[str, np.ndarray] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)


def _read_table(root: str | Path, stem: str, columns: tuple[str, ...], *, whole: bool = False) -> _Table:
    """Read one of CelebA's tables; empty if the file is missing. whole: it has whole numbers."""
    table = _Table()
    path = find_any(root, *_places(stem))
    if path is None:
        return table
    for where, name, words in read_named_lines(path):
        if name is None:
            continue  # the row's image is unknown
        try:
            require_one_per_name(words, columns, where)
            values = (
                [parse_whole_number(word, where) for word in words] if whole else parse_numbers(words, where)
            )
            table.numbers[name] = np.array(values)
        except DataError as error:
            table.problems[name] = str(error).rstrip(".")
    return table
