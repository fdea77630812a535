"""Read AffectNet in its layout with CSV lists: one expression per face."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from faceum.crop import points5_from_landmarks
from faceum.data.sample import Sample, one_vote
from faceum.datasets.tables import (
    NO_VOTES,
    choose,
    find,
    parse_numbers,
    parse_whole_number,
    require_one_per_name,
    value_or_problem,
)
from faceum.datasets.text import read_columns
from faceum.errors import DataError, count_noun

SPLITS = {"train": "training.csv", "val": "validation.csv"}
LABELS = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
"""AffectNet's labels 0 to 7. Faces labelled 8 none, 9 uncertain or 10 no face are left out."""
NO_FACE = 10
"""The last of its labels."""
COLUMNS = (
    "subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "facial_landmarks",
    "expression", "valence", "arousal",
)  # fmt: skip


def read_affectnet(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Yield the faces of AffectNet's manually labelled part.

    root, or root/Manually_Annotated, contains Manually_Annotated_Images and
    Manually_Annotated_file_lists/{training,validation}.csv.
    Its 68 landmarks were predicted, so only the five points are taken.
    """
    name = choose(split, SPLITS, "AffectNet")
    inner = "Manually_Annotated_file_lists"
    path = find(root, "AffectNet's list", f"{inner}/{name}", f"Manually_Annotated/{inner}/{name}", name)
    inner = "Manually_Annotated_Images"
    images = find(root, "AffectNet's folder of images", inner, f"Manually_Annotated/{inner}")
    header: list[str] = list(COLUMNS)
    for number, (where, words) in enumerate(read_columns(path)):
        if number == 0 and words[0].strip() == COLUMNS[0]:  # some copies of the lists have no header
            header = [word.strip() for word in words]
            missing = [name for name in COLUMNS if name not in header]
            if missing:
                raise DataError(f"{where} has no column {', '.join(missing)}; is it AffectNet's own list?")
            continue
        sample = _sample(where, images, words, header)
        if sample is not None:
            yield sample


def _sample(where: str, images: Path, words: list[str], header: list[str]) -> Sample | None:
    columns, wrong_count = value_or_problem(require_one_per_name, words, tuple(header), where, default=words)
    if wrong_count:
        return Sample(
            id=f"affectnet-{Path(words[0]).stem}",
            source="affectnet",
            image=images / words[0],
            expression_votes=NO_VOTES,
            problem=wrong_count,
        )
    row = dict(zip(header, columns, strict=True))
    label, wrong_label = value_or_problem(_label, row["expression"], where, default=0)
    if label >= len(LABELS):
        return None
    # Faces that the makers' detector missed have no box; its columns then hold -1 or NULL.
    box = [row[name] for name in COLUMNS[1:5]]
    found = all(value.isdecimal() for value in box)
    corner_size = parse_numbers(box, where).reshape(2, 2) if found else None
    points, wrong_points = value_or_problem(_points, row["facial_landmarks"], where, default=None)
    return Sample(
        id=f"affectnet-{Path(row[COLUMNS[0]]).stem}",
        source="affectnet",
        image=images / row[COLUMNS[0]],
        box=None if corner_size is None else corner_size.cumsum(axis=0).ravel(),
        points5=None if points is None else points5_from_landmarks(points),
        expression_votes=NO_VOTES if wrong_label else one_vote(LABELS[label]),
        problem=wrong_label or wrong_points,
    )


def _label(word: str, where: str) -> int:
    label = parse_whole_number(word, where)
    if not 0 <= label <= NO_FACE:
        raise DataError(f"{where} has expression {label}; AffectNet's are 0 to {NO_FACE}.")
    return label


def _points(words: str, where: str) -> np.ndarray | None:
    """Return the 68 landmarks (68, 2); None if a word such as NULL says that there are none."""
    landmarks = words.split(";")
    if len(landmarks) not in (1, 136):
        raise DataError(
            f"{where} has {count_noun(len(landmarks), 'number')} for its landmarks; "
            "expected 136 for 68 of x and y."
        )
    return parse_numbers(landmarks, where).reshape(68, 2) if len(landmarks) == 136 else None
