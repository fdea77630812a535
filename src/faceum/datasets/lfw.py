"""Read LFW's lists of pairs and its folder of people."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from faceum.data.pairs import Pairs, PairSet
from faceum.data.sample import Sample
from faceum.datasets.tables import choose, find, parse_whole_number
from faceum.datasets.text import read_text_lines
from faceum.errors import DataError

LISTS = {"test": "pairs.txt", "val": "pairsDevTest.txt", "train": "pairsDevTrain.txt"}
"""Split -> LFW's list of pairs."""


def read_lfw(root: str | Path, split: str = "test") -> PairSet:
    """Read LFW by its lists of pairs.

    test is pairs.txt (10 folds); train and val are the development lists (1 fold). root contains the list
    and the folder of people: lfw, lfw_funneled, lfw-deepfunneled or lfw_aligned. Raises DataError for a
    broken line, since folds and pairs are counted.
    """
    path = find(root, "LFW's list of pairs", choose(split, LISTS, "LFW"))
    names = ("lfw", "lfw_funneled", "lfw-deepfunneled", "lfw_aligned")
    people = find(root, "LFW's folder of people", *names)
    header, *lines = list(_read_words(path)) or [(f"{path}, line 1,", [])]
    folds, size = _read_counts(*header)
    if len(lines) != 2 * folds * size:
        raise DataError(f"{path} should have {folds} x {2 * size} pairs; it has {len(lines)}.")
    faces: dict[str, Sample] = {}
    rows = []
    for index, (where, words) in enumerate(lines):
        if len(words) not in (3, 4):
            raise DataError(
                f"{where}: a pair is 'name 1 2' or 'name 1 other 2', got {' '.join(words)[:60]!r}."
            )
        same = len(words) == 3
        ends = ((words[0], words[1]), (words[0] if same else words[2], words[-1]))
        a, b = (_lfw_face(people, person, parse_whole_number(count, where), faces) for person, count in ends)
        rows.append((index // (2 * size), a, b, same))
    return PairSet(samples=list(faces.values()), pairs=Pairs.from_rows(rows))


def _read_words(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the words of each line; in a line with tabs, names may contain spaces."""
    for where, line in read_text_lines(path):
        separator = "\t" if "\t" in line else None
        words = (word.strip() for word in line.replace(",", " ").split(separator))
        yield where, [word for word in words if word]


def _read_counts(where: str, words: list[str]) -> tuple[int, int]:
    """Return the number of folds, and of equal pairs in each, by the first line of the list."""
    counts = [parse_whole_number(word, where) for word in words]
    if len(counts) not in (1, 2) or min(counts) < 1:
        raise DataError(
            f"{where} should say the number of folds, if there are any, and of pairs in each, "
            f"such as '10 300' or '500', got {' '.join(words)[:60]!r}."
        )
    return (1, *counts)[-2], counts[-1]


def _lfw_face(people: Path, person: str, count: int, faces: dict[str, Sample]) -> str:
    name = f"{person}_{count:04d}"
    if name not in faces:
        faces[name] = Sample(
            id=f"lfw-{name}", source="lfw", image=people / person / f"{name}.jpg", identity=person
        )
    return faces[name].id
