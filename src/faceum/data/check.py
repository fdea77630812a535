"""Packed files or samples by split in, their problems out: broken, wrong, doubled or leaking.

A leak is a person of one source, or an image of any, that stands in two splits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from faceum.data.packed import packed_files, read_packed
from faceum.data.sample import Sample, check_sample
from faceum.errors import DataError

THUMBNAIL = 16
"""Images whose fingerprints of this side are equal count as the same image, encoded anew or resized."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something wrong: kind is "broken" (image), "label", "id", "person" or "image" (in two splits)."""

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
    """The problems of packed files together; a folder stands for all its files of faces.

    A file's split is the word before `.parquet` in its name: `<source>.<split>.parquet`.
    """
    files = [file for path in paths for file in packed_files(path)]
    triples = (
        (file.name.split(".")[-2], f"{file.name}, row {sample.id}", sample)
        for file in files
        for sample in read_packed(file)
    )
    return check_samples(triples)


def check_samples(samples: Iterable[tuple[str, str, Sample]]) -> Iterator[Problem]:
    """The problems of (split, place, sample), in order; every image is decoded once."""
    seen = _Seen()
    for split, place, sample in samples:
        first = seen.ids.setdefault(f"{sample.source} {sample.id}", (split, place))[1]
        if first != place or not sample.id:
            yield Problem(kind="id", place=place, sentence=f"its id {sample.id!r} is also that of {first}")
        yield from _leaked_person(sample, split, place, seen)
        try:
            check_sample(sample)
        except DataError as error:
            yield Problem(kind="label", place=place, sentence=_without_name(error, sample))
        try:
            image = sample.read()
        except DataError as error:
            yield Problem(kind="broken", place=place, sentence=_without_name(error, sample))
            continue
        yield from _misplaced(sample, image, place)
        yield from _leaked_image(image, split, place, seen)


def _without_name(error: DataError, sample: Sample) -> str:
    return str(error).removeprefix(f"{sample.name}: ")


def fingerprint(image: np.ndarray) -> bytes:
    """32 bytes that stay when an image is encoded anew or resized: where gray rises to the right.

    image: (H, W, 3) uint8 RGB. An image of one colour is told apart by its pixels' hash instead.
    """
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(gray, (THUMBNAIL + 1, THUMBNAIL), interpolation=cv2.INTER_AREA).astype(int)
    rises = np.diff(small, axis=1) > 1
    if rises.mean() < 0.1:  # too little is seen in it to call another one the same
        return hashlib.sha256(image.tobytes()).digest()
    return np.packbits(rises).tobytes()


def _leaked_person(sample: Sample, split: str, place: str, seen: _Seen) -> Iterator[Problem]:
    if sample.identity is None:
        return
    first_split, first = seen.people.setdefault((sample.source, str(sample.identity)), (split, place))
    if first_split != split:
        sentence = f"its person {sample.identity} is also in {first_split}: {first}"
        yield Problem(kind="person", place=place, sentence=sentence)


def _leaked_image(image: np.ndarray, split: str, place: str, seen: _Seen) -> Iterator[Problem]:
    first_split, first = seen.images.setdefault(fingerprint(image), (split, place))
    if first_split != split:
        sentence = f"it shows the same image as {first} in {first_split}"
        yield Problem(kind="image", place=place, sentence=sentence)


def _misplaced(sample: Sample, image: np.ndarray, place: str) -> Iterator[Problem]:
    """Boxes and landmarks that do not meet their image."""
    height, width = image.shape[:2]
    if sample.box is not None and np.shape(sample.box) == (4,):
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
