"""Read FER2013 and FERPlus, as CSV or as folders: one expression, or votes, per face."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from faceum.data.sample import Sample, one_vote
from faceum.datasets.tables import (
    NO_VOTES,
    choose,
    find,
    find_any,
    list_folders,
    list_images,
    parse_numbers,
    parse_whole_number,
    value_or_problem,
)
from faceum.datasets.text import read_csv
from faceum.errors import DataError
from faceum.tasks import EXPRESSIONS

SIDE = 48
USAGES = {"train": "Training", "val": "PublicTest", "test": "PrivateTest"}
"""Our splits -> the word in the column Usage of both tables."""
OTHERS = ("unknown", "NF")
"""FERPlus' columns of votes for no expression and for no face."""
FERPLUS_FOLDERS = {"train": "FER2013Train", "val": "FER2013Valid", "test": "FER2013Test"}
LABELS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
"""FER2013's labels 0 to 6; it has no contempt."""
FOLDER_WORDS = {
    "angry": "anger", "disgusted": "disgust", "fearful": "fear", "happy": "happiness", "sad": "sadness",
    "surprised": "surprise",
} | {name: name for name in EXPRESSIONS}  # fmt: skip
"""Names of class folders -> our words."""


def read_fer2013(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Yield the faces of FER2013 with one label each.

    root contains fer2013.csv (or icml_face_data.csv), or folders train, test (and val) with a folder per
    class: angry, disgust, fear, happy, sad, surprise, neutral.
    """
    usage = choose(split, USAGES, "FER2013")
    table = find_any(root, *_TABLES)
    if table is None:
        yield from _from_folders(find(root, "FER2013", *_TABLES, split), split)
        return
    for index, (where, row, short) in enumerate(read_csv(table, ("emotion", "pixels", "Usage"))):
        ours, wrong_usage = value_or_problem(_is_used, row["Usage"], usage, where, default=True)
        if ours:
            votes, wrong_label = value_or_problem(_votes, row["emotion"], where, default=NO_VOTES)
            image, wrong_image = value_or_problem(_png, row["pixels"], where, default=b"")
            yield Sample(
                id=f"fer2013-{index:05d}",
                source="fer2013",
                image=image,
                expression_votes=votes,
                problem=short or wrong_usage or wrong_label or wrong_image,
            )


def read_ferplus(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Yield the faces of FER2013 with the votes of FERPlus.

    root contains fer2013new.csv and the images: fer2013.csv with the same rows, or FER2013Train,
    FER2013Valid and FER2013Test. Votes for "unknown" and "not a face" are dropped; an image with only such
    votes, or without a name in FERPlus, is left out. An image without any vote has a problem, unless the
    table lacks the columns of those two.
    """
    usage = choose(split, USAGES, "FERPlus")
    folder_name = choose(split, FERPLUS_FOLDERS, "FERPlus")
    labels = find(root, "FERPlus' table of votes", "fer2013new.csv")
    folder = find_any(root, folder_name, f"images/{folder_name}", f"data/{folder_name}")
    table = None if folder else find(root, "FERPlus' images", *_TABLES, folder_name)
    rows = read_csv(labels, ("Usage", "Image name", *EXPRESSIONS))
    faces = ((at, row["pixels"]) for at, row, _ in read_csv(table, ("pixels",))) if table else None
    for where, row, short in rows:
        face = ("", "") if faces is None else next(faces, None)
        if face is None:
            raise DataError(f"{table} ends before {where}; both tables must have the same rows.")
        votes, wrong_label = value_or_problem(_many_votes, row, where, default=NO_VOTES)
        name = row["Image name"].strip()
        ours, wrong_usage = value_or_problem(_is_used, row["Usage"], usage, where, default=True)
        wrong = short or wrong_usage
        if ours and (wrong or (name and (votes.any() or wrong_label))):
            at, pixels = face
            png, wrong_image = (b"", None) if folder else value_or_problem(_png, pixels, at, default=b"")
            yield Sample(
                id=f"ferplus-{Path(name).stem}",
                source="ferplus",
                image=folder / name if folder else png,
                expression_votes=votes.astype(np.float32),
                problem=wrong or wrong_label or wrong_image,
            )


_TABLES = ("fer2013.csv", "icml_face_data.csv", "fer2013/fer2013.csv")


def _from_folders(root: Path, split: str) -> Iterator[Sample]:
    for folder in list_folders(root):
        expression = FOLDER_WORDS.get(folder.name.lower())
        if expression is None:
            raise DataError(
                f"{folder} is not named after an expression; expected one of {', '.join(FOLDER_WORDS)}."
            )
        for path in list_images(folder):
            yield Sample(
                id=f"fer2013-{split}-{folder.name}-{path.stem}",
                source="fer2013",
                image=path,
                expression_votes=one_vote(expression),
            )


def _is_used(word: str, usage: str, where: str) -> bool:
    """Return whether a row's column Usage is that of our split."""
    known = {name.lower() for name in USAGES.values()}
    if word.strip().lower() not in known:
        raise DataError(f"{where} has the usage {word[:40]!r}; expected {', '.join(USAGES.values())}.")
    return word.strip().lower() == usage.lower()


def _votes(word: str, where: str) -> np.ndarray:
    label = parse_whole_number(word, where)
    if not 0 <= label < len(LABELS):
        raise DataError(f"{where} has emotion {label}; expected 0 to {len(LABELS) - 1}.")
    return one_vote(LABELS[label])


def _many_votes(row: dict[str, str], where: str) -> np.ndarray:
    """Return the votes of FERPlus for our expressions; zeros if all went to the others, or may have."""
    votes = parse_numbers([row[name] for name in EXPRESSIONS], where)
    if not votes.any() and all(name in row for name in OTHERS):
        if not parse_numbers([row[name] for name in OTHERS], where).any():
            raise DataError(f"{where} has no votes, not even for {' or '.join(OTHERS)}.")
    return votes


def _png(pixels: str, where: str) -> bytes:
    values = parse_numbers(pixels.split(), where)
    if len(values) != SIDE * SIDE or values.min() < 0 or values.max() > 255:
        raise DataError(
            f"{where}: {SIDE * SIDE} gray values from 0 to 255 were expected, got {len(values)} values."
        )
    return bytes(cv2.imencode(".png", values.reshape(SIDE, SIDE).astype(np.uint8))[1])
