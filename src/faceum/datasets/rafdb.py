"""The folder of RAF-DB (basic expressions) -> samples with one expression each, and gender."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from faceum.data.sample import Sample, one_vote
from faceum.datasets.tables import (
    NO_VOTES,
    choose,
    counted,
    find,
    find_any,
    numbers,
    read_lines,
    read_or_tell,
    whole_number,
)
from faceum.errors import DataError

SPLITS = ("train", "test", "all")
LABELS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""RAF-DB's labels 1 to 7; it has no contempt."""


def read_rafdb(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Faces of RAF-DB's single-label part.

    root, or root/basic, holds EmoLabel/list_patition_label.txt (spelled so) and Image/original, or else
    Image/aligned; with the originals, Annotation/boundingbox and Annotation/manual are read where present.
    """
    choose(split, dict.fromkeys(SPLITS), "RAF-DB")
    names = ("EmoLabel/list_patition_label.txt", "EmoLabel/list_partition_label.txt")
    path = find(root, "RAF-DB's list of labels", *names, *(f"basic/{name}" for name in names))
    base = path.parent.parent
    nobody: tuple[np.ndarray | None, int | None] = (None, None)
    original = find_any(base, "Image/original")
    images = original or find(base, "RAF-DB's folder of images", "Image/original", "Image/aligned")
    for where, words in read_lines(path):
        name = words[0]
        stem = Path(name).stem
        if split != "all" and not stem.startswith(split):
            continue
        manual = base / "Annotation/manual" / f"{stem}_manu_attri.txt"
        boxes = base / "Annotation/boundingbox" / f"{stem}_boundingbox.txt"
        votes, wrong_label = read_or_tell(_votes, words, where, otherwise=NO_VOTES)
        (points5, gender), wrong_points = read_or_tell(_manual, manual, otherwise=nobody)
        box, wrong_box = read_or_tell(_box, boxes, otherwise=None) if original else (None, None)
        yield Sample(
            id=f"rafdb-{stem}",
            source="rafdb",
            image=images / (name if original else f"{stem}_aligned.jpg"),
            box=box,
            points5=points5 if original else None,  # they belong to the original image
            gender=gender,
            expression_votes=votes,
            problem=wrong_label or wrong_points or wrong_box,
        )


def _votes(words: list[str], where: str) -> np.ndarray:
    _, label = counted(words, ("the image", "its label"), where)
    if not (label.isdecimal() and 1 <= int(label) <= len(LABELS)):
        raise DataError(f"{where} has label {label}; RAF-DB's are 1 to {len(LABELS)}.")
    return one_vote(LABELS[int(label) - 1])


def _manual(path: Path) -> tuple[np.ndarray | None, int | None]:
    """Five points and gender from an annotator's file: five lines x y, then gender, race, age band."""
    if not path.exists():
        return None, None
    words = [word for _, line in read_lines(path) for word in line]
    if len(words) != 13:
        raise DataError(f"{path} holds {len(words)} numbers; five points, gender, race and age are 13.")
    gender = whole_number(words[10], path)
    return numbers(words[:10], path).reshape(5, 2), gender if gender in (0, 1) else None  # 2 is unsure


def _box(path: Path) -> np.ndarray | None:
    if not path.exists():
        return None
    return numbers([word for _, line in read_lines(path) for word in line], path)
