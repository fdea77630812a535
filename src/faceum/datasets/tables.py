"""What the readers of public data sets share: finding files, reading tables, splitting, votes.

Every sentence about a missing file says what was looked for and where.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from faceum.errors import DataError
from faceum.image_header import is_image_name
from faceum.tasks import ATTRIBUTES, EXPRESSIONS

T = TypeVar("T")


def find(root: str | Path, what: str, *candidates: str) -> Path:
    """The first of the candidates, paths relative to `root`, that exists; DataError that lists them all."""
    path = find_any(root, *candidates)
    if path is None:
        raise DataError(
            f"{what} was not found: looked for {' or '.join(candidates)} in {root}; "
            "give the folder that holds it."
        )
    return path


def find_any(root: str | Path, *candidates: str) -> Path | None:
    """The first of the candidates that exists under `root`, or None; DataError where `root` is no folder."""
    if not Path(root).is_dir():
        raise DataError(f"There is no folder {root}; give the folder of the data set.")
    return next((Path(root) / name for name in candidates if (Path(root) / name).exists()), None)


def choose(split: str, splits: Mapping[str, T], source: str) -> T:
    """What stands for a split; DataError listing the splits that the set has."""
    if split not in splits:
        raise DataError(f"{source} has no split '{split}'; choose one of {', '.join(splits)}.")
    return splits[split]


def hashed_split(key: str) -> str:
    """train (80 %), val (10 %) or test (10 %) by a hash of the key, for sets that come without a split."""
    tenth = int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) % 10
    return {0: "val", 1: "test"}.get(tenth, "train")


def in_split(key: str, split: str, source: str) -> bool:
    """Whether the key's hashed split is the wanted one; every key is in "all"."""
    choose(split, dict.fromkeys(("train", "val", "test", "all")), source)
    return split in ("all", hashed_split(key))


def images_in(folder: Path) -> list[Path]:
    """The images in a folder and its subfolders, sorted; hidden ones left out."""
    return sorted(path for path in folder.rglob("*") if is_image_name(path) and not path.name.startswith("."))


def folders_in(folder: Path) -> list[Path]:
    """The folders directly in a folder, sorted; hidden ones left out."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def read_lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Every line that has words: "FILE, line N", and the words; commas separate like spaces."""
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file, 1):
            words = line.replace(",", " ").split()
            if words:
                yield f"{path}, line {number}", words


def counted(words: list[str], names: tuple[str, ...], where: object) -> list[str]:
    """The words, as many as the names say; DataError naming `where` and what is wanted for another number."""
    if len(words) != len(names):
        raise DataError(f"{where} has {len(words)} words; {len(names)} are wanted: {', '.join(names)}.")
    return words


def read_or_tell(read: Callable[..., T], *given: object, otherwise: T) -> tuple[T, str | None]:
    """What read(*given) gives, and None; where it raises DataError, `otherwise` and the sentence.

    For labels of one face, whose reader goes on with the next: the sentence is its `Sample.problem`.
    """
    try:
        return read(*given), None
    except DataError as error:
        return otherwise, str(error).rstrip(".")


def read_columns(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Every row of a CSV file that is not empty: "FILE, line N", and its columns; DataError for no CSV."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.reader(file, skipinitialspace=True)
        try:
            for columns in rows:
                if columns:
                    yield f"{path}, line {rows.line_num}", columns
        except csv.Error as error:
            raise DataError(f"{path}, line {rows.line_num}, cannot be read as CSV: {error}.") from error


def read_csv(path: Path, needed: Iterable[str]) -> Iterator[tuple[str, dict[str, str], str | None]]:
    """The rows of a CSV file with a header: "FILE, line N", column -> word, and what is wrong or None.

    A row that ends before a needed column has "" there, and a sentence without a full stop that says so,
    for `Sample.problem`. DataError where the header lacks a needed column.
    """
    needed = sorted(needed)
    rows = read_columns(path)
    _, header = next(rows, ("", []))
    missing = [name for name in needed if name not in header]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; is it the set's own table?")
    for where, columns in rows:
        row = dict(zip(header, columns, strict=False))
        missing = [name for name in needed if name not in row]
        problem = None
        if missing:
            problem = (
                f"{where} ends before its column {', '.join(missing)}: "
                f"{len(columns)} columns came, {len(header)} are wanted"
            )
        yield where, row | dict.fromkeys(missing, ""), problem


def numbers(words: Iterable[str], where: object) -> np.ndarray:
    """Words as float64 numbers; DataError naming `where` for a word that is none."""
    words = list(words)
    try:
        return np.array([float(word) for word in words])
    except ValueError as error:
        raise DataError(f"{where}: {' '.join(words)[:60]!r} should be numbers.") from error


def number(word: str, where: object) -> float:
    """One word as a number; DataError naming `where` where it is none."""
    return float(numbers([word], where)[0])


def whole_number(word: str, where: object) -> int:
    """One word as a whole number, "3.0" too; DataError naming `where` where it is none."""
    if word.isdecimal():  # what nearly all are, of which there may be millions
        return int(word)
    value = number(word, where)
    if not value.is_integer():
        raise DataError(f"{where}: {word!r} should be a whole number.")
    return int(value)


def signs(words: list[str], where: object) -> np.ndarray:
    """CelebA's attributes of a face (40,) bool, from words 1 and -1 (or 0); DataError naming `where`."""
    if len(words) != len(ATTRIBUTES):
        raise DataError(f"{where} has {len(words)} attributes; {len(ATTRIBUTES)} are wanted.")
    if not {*words} <= {"1", "-1", "0"}:
        raise DataError(f"{where} has attributes other than 1 and -1: {' '.join(words)[:60]!r}.")
    return np.array([word == "1" for word in words])


NO_SIGNS = np.zeros(len(ATTRIBUTES), bool)
NO_VOTES = np.zeros(len(EXPRESSIONS), np.float32)
"""Stand for labels that `Sample.problem` says are wrong, so that nobody takes the face for one without."""
NO_SIGNS.setflags(write=False)
NO_VOTES.setflags(write=False)


def read_parsing(path: Path) -> np.ndarray:
    """An image of class ids (h, w) uint8; DataError where it is missing or has more than one channel."""
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) if path.is_file() else None
    if mask is None:
        raise DataError(f"{path} is missing or cannot be read as an image.")
    if mask.ndim != 2:
        raise DataError(f"{path} is no mask: one channel of class ids is wanted, it has {mask.shape[2]}.")
    return np.asarray(mask)
