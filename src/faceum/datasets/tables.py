"""Find the files of public data sets, choose their splits, and turn their words into labels.

Every message about a missing file says what was looked for and where.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from faceum.errors import DataError, count_noun
from faceum.image.header import is_image_name
from faceum.tasks import ATTRIBUTES, EXPRESSIONS

T = TypeVar("T")


def find(root: str | Path, what: str, *candidates: str) -> Path:
    """Return the first of the candidates, relative to `root`, that exists, or raise DataError with all."""
    path = find_any(root, *candidates)
    if path is None:
        raise DataError(
            f"{what} was not found: looked for {' or '.join(candidates)} in {root}; "
            "give the folder that holds it."
        )
    return path


def find_any(root: str | Path, *candidates: str) -> Path | None:
    """Return the first of the candidates that exists in `root`, or None; DataError if it is no folder."""
    if not Path(root).is_dir():
        raise DataError(f"There is no folder {root}; give the folder of the data set.")
    return next((Path(root) / name for name in candidates if (Path(root) / name).exists()), None)


def choose(split: str, splits: Mapping[str, T], source: str) -> T:
    """Return the entry of a split; raises DataError listing the splits of the set if it has no such split."""
    if split not in splits:
        raise DataError(f"{source} has no split '{split}'; choose one of {', '.join(splits)}.")
    return splits[split]


def choose_split_by_hash(key: str) -> str:
    """Return train (80 %), val (10 %) or test (10 %) by a hash of the key, for sets without splits."""
    tenth = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) % 10
    return {0: "val", 1: "test"}.get(tenth, "train")


def is_in_split(key: str, split: str, source: str) -> bool:
    """Return whether the hashed split of the key is `split`; every key is in "all"."""
    choose(split, dict.fromkeys(("train", "val", "test", "all")), source)
    return split in ("all", choose_split_by_hash(key))


def list_images(folder: Path) -> list[Path]:
    """Return the images in a folder and its subfolders, sorted, without hidden ones."""
    return sorted(path for path in folder.rglob("*") if is_image_name(path) and not path.name.startswith("."))


def list_folders(folder: Path) -> list[Path]:
    """Return the folders directly in a folder, sorted, without hidden ones."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def require_one_per_name(words: list[str], names: tuple[str, ...], where: object) -> list[str]:
    """Return the words if there is one per name; raises DataError naming `where` and the names otherwise."""
    if len(words) != len(names):
        raise DataError(
            f"{where} has {count_noun(len(words), 'word')}; expected {len(names)}: {', '.join(names)}."
        )
    return words


def value_or_problem(read: Callable[..., T], *arguments: object, default: T) -> tuple[T, str | None]:
    """Return (read(*arguments), None), or (default, message) if it raises DataError.

    For the labels of one face, whose reader goes on to the next face: the message is its `Sample.problem`.
    """
    try:
        return read(*arguments), None
    except DataError as error:
        return default, str(error).rstrip(".")


def parse_numbers(words: Iterable[str], where: object) -> np.ndarray:
    """Return words as float64 numbers; raises DataError naming `where` if a word is not a number."""
    words = list(words)
    try:
        return np.array([float(word) for word in words])
    except ValueError as error:
        raise DataError(f"{where}: {_shorten(' '.join(words))!r} should be numbers.") from error


def parse_number(word: str, where: object) -> float:
    """Return one word as a number; raises DataError naming `where` if it is not a number."""
    return float(parse_numbers([word], where)[0])


def parse_whole_number(word: str, where: object) -> int:
    """Return one word as a whole number below 2**63, "3.0" too; raises DataError naming `where` otherwise."""
    if word.isdecimal() and len(word) <= 18:  # the usual case, of which there may be millions
        return int(word)
    value = parse_number(word, where)
    if not value.is_integer() or abs(value) >= 1 << 63:
        raise DataError(f"{where}: {_shorten(word)!r} should be a whole number.")
    return int(value)


def parse_signs(words: list[str], where: object) -> np.ndarray:
    """Return CelebA's attributes (40,) bool from words 1 and -1 (or 0); raises DataError naming `where`."""
    if len(words) != len(ATTRIBUTES):
        raise DataError(f"{where} has {count_noun(len(words), 'attribute')}; expected {len(ATTRIBUTES)}.")
    if not {*words} <= {"1", "-1", "0"}:
        raise DataError(f"{where} has attributes other than 1 and -1: {_shorten(' '.join(words))!r}.")
    return np.array([word == "1" for word in words])


NO_SIGNS = np.zeros(len(ATTRIBUTES), bool)
NO_VOTES = np.zeros(len(EXPRESSIONS), np.float32)
"""Placeholders for labels that `Sample.problem` says are wrong: the face has the label, but not its value."""
NO_SIGNS.setflags(write=False)
NO_VOTES.setflags(write=False)


def read_parsing(path: Path) -> np.ndarray:
    """Read class ids (h, w) uint8 from an image; DataError if it is missing or has several channels."""
    try:
        classes = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    except cv2.error:
        classes = None  # OpenCV raises for some damaged files and returns None for others
    if classes is None:
        raise DataError(f"{path} is missing or cannot be read as an image.")
    if classes.ndim != 2:
        raise DataError(f"{path} is not a class map: expected one channel, got {classes.shape[2]}.")
    return np.asarray(classes)


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
