"""Read RAF-DB's basic expressions: one expression per face, and gender."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from faceum.data.sample import Sample, one_vote
from faceum.datasets.tables import (
    NO_VOTES,
    choose,
    find,
    find_any,
    parse_numbers,
    parse_whole_number,
    require_one_per_name,
    value_or_problem,
)
from faceum.datasets.text import read_lines, read_named_lines
from faceum.errors import DataError, count_noun

SPLITS = ("train", "test", "all")
LABELS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""RAF-DB's labels 1 to 7; it has no contempt."""


def read_rafdb(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Yield the faces of RAF-DB's single-label part.

    root, or root/basic, contains EmoLabel/list_patition_label.txt (spelled so) and Image/original, or else
    Image/aligned; with the originals, Annotation/boundingbox and Annotation/manual are read if present.
    """
    choose(split, dict.fromkeys(SPLITS), "RAF-DB")
    names = ("EmoLabel/list_patition_label.txt", "EmoLabel/list_partition_label.txt")
    path = find(root, "RAF-DB's list of labels", *names, *(f"basic/{name}" for name in names))
    base = path.parent.parent
    unknown: tuple[np.ndarray | None, int | None] = (None, None)
    original = find_any(base, "Image/original")
    images = original or find(base, "RAF-DB's folder of images", "Image/original", "Image/aligned")
    for where, name, words in read_named_lines(path, header=False):
        stem = Path(name).stem if name else f"line-{where.rpartition(' ')[2]}"
        part = next((known for known in ("train", "test") if stem.startswith(known)), None)
        if split != "all" and part not in (split, None):
            continue
        wrong_name = None if part else f"{where} names no image of train or test"
        manual = base / "Annotation/manual" / f"{stem}_manu_attri.txt"
        boxes = base / "Annotation/boundingbox" / f"{stem}_boundingbox.txt"
        votes, wrong_label = value_or_problem(_votes, words, where, default=NO_VOTES)
        (points5, gender), wrong_points = value_or_problem(_manual, manual, default=unknown)
        box, wrong_box = value_or_problem(_box, boxes, default=None) if original else (None, None)
        yield Sample(
            id=f"rafdb-{stem}",
            source="rafdb",
            image=images / ((name or stem) if original else f"{stem}_aligned.jpg"),
            box=box,
            points5=points5 if original else None,  # they are those of the original image
            gender=gender,
            expression_votes=votes,
            problem=wrong_name or wrong_label or wrong_points or wrong_box,
        )


def _votes(words: list[str], where: str) -> np.ndarray:
    (word,) = require_one_per_name(words, ("the label",), where)
    label = parse_whole_number(word, where)
    if not 1 <= label <= len(LABELS):
        raise DataError(f"{where} has label {label}; RAF-DB's are 1 to {len(LABELS)}.")
    return one_vote(LABELS[label - 1])


def _manual(path: Path) -> tuple[np.ndarray | None, int | None]:
    """Return five points and gender from an annotator's file: five lines x y, then gender, race, age band."""
    if not path.exists():
        return None, None
    words = [word for _, line in read_lines(path) for word in line]
    if len(words) != 13:
        raise DataError(
            f"{path} holds {count_noun(len(words), 'number')}; expected 13 for five points, "
            "gender, race and age."
        )
    gender = parse_whole_number(words[10], path)
    return parse_numbers(words[:10], path).reshape(5, 2), gender if gender in (0, 1) else None  # 2 is unsure


def _box(path: Path) -> np.ndarray | None:
    if not path.exists():
        return None
    return parse_numbers([word for _, line in read_lines(path) for word in line], path)
