"""Find the problems of packed files: broken images, wrong labels, doubled ids, and leaks between splits.

A leak is a person of one source, or an image of any source, that is in two splits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from faceum.data.parquet import column_problems, list_packed_files, read_samples
from faceum.data.sample import Sample, check_sample
from faceum.errors import DataError

THUMBNAIL = 16
"""Images with equal fingerprints of this side count as one image that was encoded again or resized."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One problem.

    kind: "file", "column", "broken" (image), "label", "id", or, if it is in two splits, "person" or "image".
    """

    kind: str
    place: str
    sentence: str


@dataclass
class _Seen:
    """Where ids, people and images were first seen: key -> (split, place)."""

    ids: dict[str, tuple[str, str]] = field(default_factory=dict)
    people: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    images: dict[bytes, tuple[str, str]] = field(default_factory=dict)


def check_packed(paths: Iterable[str | Path]) -> Iterator[Problem]:
    """Yield the problems of packed files together; of a folder all its files of faces are checked.

    The split of a file is the word before `.parquet` in its name: `<source>.<split>.parquet`. The types of
    its columns are compared once with those that `pack` writes; a column of another type is one problem, and
    its cells are skipped. Raises DataError if a path has no files of faces.
    """
    seen = _Seen()
    for file in [file for path in paths for file in list_packed_files(path)]:
        wrong = column_problems(file)
        for problem in wrong.values():
            yield Problem(kind="column", place=file.name, sentence=problem)
        split = file.name.split(".")[-2] if file.name.count(".") else ""
        samples = ((split, f"{file.name}, row {one.id}", one) for one in read_samples(file, wrong))
        try:
            yield from check_samples(samples, seen)
        except DataError as error:  # the file is damaged from here on
            yield Problem(kind="file", place=file.name, sentence=str(error).rstrip("."))


def check_samples(samples: Iterable[tuple[str, str, Sample]], seen: _Seen | None = None) -> Iterator[Problem]:
    """Yield the problems of (split, place, sample) in order. Every image is decoded once.

    seen: what other samples were seen before these.
    """
    seen = seen or _Seen()
    for split, place, sample in samples:
        first = seen.ids.setdefault(f"{sample.source} {sample.id}", (split, place))[1]
        if first != place or not sample.id:
            yield Problem(kind="id", place=place, sentence=f"its id {sample.id!r} is also that of {first}")
        yield from _find_leaked_person(sample, split, place, seen)
        try:
            check_sample(sample)
        except DataError as error:
            yield Problem(kind="label", place=place, sentence=_without_name(error, sample))
        try:
            image = sample.read()
        except DataError as error:
            yield Problem(kind="broken", place=place, sentence=_without_name(error, sample))
            continue
        yield from _find_misplaced(sample, image, place)
        yield from _find_leaked_image(image, split, place, seen)


def _without_name(error: DataError, sample: Sample) -> str:
    return str(error).removeprefix(f"{sample.name}: ").rstrip(".")


def fingerprint(image: np.ndarray) -> bytes:
    """Return 32 bytes that survive encoding and resizing an image: where gray rises to the right.

    image: (H, W, 3) uint8 RGB. For an image of nearly one colour they are the hash of its pixels.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (THUMBNAIL + 1, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(int)
    rises = np.diff(small, axis=1) > 1
    if rises.mean() < 0.1:  # too little structure to call another image the same
        return hashlib.sha256(image.tobytes()).digest()
    return np.packbits(rises).tobytes()


def _find_leaked_person(sample: Sample, split: str, place: str, seen: _Seen) -> Iterator[Problem]:
    if sample.identity is None:
        return
    first_split, first = seen.people.setdefault((sample.source, str(sample.identity)), (split, place))
    if first_split != split:
        sentence = f"its person {sample.identity} is also in {first_split}: {first}"
        yield Problem(kind="person", place=place, sentence=sentence)


def _find_leaked_image(image: np.ndarray, split: str, place: str, seen: _Seen) -> Iterator[Problem]:
    first_split, first = seen.images.setdefault(fingerprint(image), (split, place))
    if first_split != split:
        sentence = f"it shows the same image as {first} in {first_split}"
        yield Problem(kind="image", place=place, sentence=sentence)


def _find_misplaced(sample: Sample, image: np.ndarray, place: str) -> Iterator[Problem]:
    """Yield boxes and landmarks that lie outside their image."""
    height, width = image.shape[:2]
    if sample.box is not None and np.shape(sample.box) == (4,) and np.isfinite(sample.box).all():
        x0, y0, x1, y1 = sample.box
        if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
            box = np.round(sample.box, 1).tolist()
            sentence = f"its box {box} lies outside its image of {width} x {height}"
            yield Problem(kind="label", place=place, sentence=sentence)
    if sample.landmarks68 is not None and np.shape(sample.landmarks68) == (68, 2):
        middle = np.mean(sample.landmarks68, axis=0)
        if not (0 <= middle[0] <= width and 0 <= middle[1] <= height):
            sentence = f"its landmarks lie outside its image of {width} x {height}"
            yield Problem(kind="label", place=place, sentence=sentence)
