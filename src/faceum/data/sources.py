"""A recipe's sources in; every source's faces, checked and numbered, with a fingerprint, out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from faceum.data.corpus import LabelledFace, labelled_face, read_taught
from faceum.data.mixture import SourceConfig
from faceum.data.sample import Piece, Sample, checked
from faceum.errors import DataError
from faceum.threads import usable_threads

LOG = logging.getLogger("faceum")
Answer = TypeVar("Answer")

ReadDataset = Callable[[str, str | Path, str], Iterator[Sample]]
"""A function that reads a data set by its name, its folder and the split."""

MOST_BROKEN = 100
"""So many images in a row that cannot be read mean that their disk is gone."""


class LazyFaces(Sequence[LabelledFace]):
    """Samples as faces: an image is read and decoded each time it is asked for.

    Where that fails, the next face that can be read stands in, the first after the last: always the same one,
    so that batches do not depend on what was drawn before. The log has one warning an image and process.
    DataError where none of MOST_BROKEN in a row can be read.
    """

    def __init__(self, samples: Sequence[Sample], *, refuse: bool = False) -> None:
        """refuse: raise the DataError of an image that cannot be read instead."""
        self.samples, self.refuse = samples, refuse
        self._places = range(len(samples))
        self._told: set[int] = set()

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> LabelledFace: ...
    @overload
    def __getitem__(self, index: slice) -> LazyFaces: ...
    def __getitem__(self, index: int | slice) -> LabelledFace | LazyFaces:
        if isinstance(index, slice):
            part = LazyFaces(self.samples, refuse=self.refuse)
            part._places, part._told = self._places[index], self._told
            return part
        first, count = self._places[index], len(self.samples)
        tried = min(count, MOST_BROKEN)
        for step in range(tried):
            place = (first + step) % count
            try:
                return labelled_face(self.samples[place])
            except DataError as error:
                if self.refuse:
                    raise
                self._tell(place, error)
        raise DataError(
            f"None of {tried} images can be read, from {self.samples[first].name} on; bring them back."
        )

    def _tell(self, place: int, error: DataError) -> None:
        if place not in self._told:
            self._told.add(place)
            LOG.warning("%s The next image that can be read stands in for it.", error)


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a run learns from.

    faces: source -> faces. people: how many persons the recognition loss tells apart.
    skipped: a sentence for each sample that cannot be right. fingerprint: source -> number of faces, number
    of each label, and a SHA-256 over ids, images and labels other than masks.
    """

    faces: dict[str, Sequence[LabelledFace]] = field(default_factory=dict)
    people: int = 0
    skipped: list[str] = field(default_factory=list)
    fingerprint: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_sources(
    sources: Mapping[str, SourceConfig],
    data: str | Path,
    read: ReadDataset,
    *,
    split: str | None = None,
    most: int | None = None,
    refuse: bool = False,
    people: bool = False,
    apart_from: str | None = None,
) -> Data:
    """Read every share's source.

    data: the corpus folder, for sources without a path. read: reads a source that names a reader.
    split: instead of the sources' own. most: at most so
    many faces of each. refuse: the first label or image that cannot be right ends the reading; otherwise
    it is skipped and told. Of a lazy share's images only the presence is seen here, see LazyFaces for the
    rest. people: number the persons over all sources that train recognition; who the others are is dropped.
    apart_from: leave out faces whose image, pixel by pixel, stands in this split of their source, too.
    """
    numbers: dict[tuple[str, int | str], int] | None = {} if people else None
    faces: dict[str, Sequence[LabelledFace]] = {}
    skipped: list[str] = []
    prints = {}
    for source, share in sources.items():
        account = _Account()
        given: Iterable[Sample] = _samples(source, share, data, split or share.split, read)
        if apart_from is not None:
            held = {
                pixels
                for _, pixels in _side_by_side(_pixels, _samples(source, share, data, apart_from, read))
            }
            given = (sample for sample, pixels in _side_by_side(_pixels, given) if pixels not in held)
        given = islice(given, most)
        known = numbers if "recognition" in share.tasks else None
        right = checked(given, refuse=refuse, skipped=skipped)
        if share.lazy:
            right = _present(right, refuse=refuse, skipped=skipped)
        samples = account.told(_numbered(right, source, known))
        faces[source] = (
            LazyFaces(list(samples), refuse=refuse)
            if share.lazy
            else list(_decoded(samples, refuse=refuse, skipped=skipped))
        )
        prints[source] = account.to_dict()
    return Data(faces=faces, people=len(numbers or ()), skipped=skipped, fingerprint=prints)


def _samples(
    source: str, share: SourceConfig, data: str | Path, split: str, read: ReadDataset
) -> Iterator[Sample]:
    if share.reader is None:
        return read_taught(share.path or data, source, split)
    return read(share.reader, share.path or data, split)


def _pixels(sample: Sample) -> bytes:
    """A hash of the image; of its file where it cannot be decoded, for the check will tell of that."""
    try:
        content = sample.read().tobytes()
    except DataError:
        content = sample.image if isinstance(sample.image, bytes) else str(sample.image).encode()
    return hashlib.sha256(content).digest()


def _numbered(
    samples: Iterator[Sample], source: str, numbers: dict[tuple[str, int | str], int] | None
) -> Iterator[Sample]:
    for sample in samples:
        person = sample.identity
        if numbers is not None and person is not None:
            person = numbers.setdefault((source, person), len(numbers))
        yield replace(sample, identity=person if numbers is not None else None)


def _present(samples: Iterator[Sample], *, refuse: bool, skipped: list[str]) -> Iterator[Sample]:
    """The samples whose images have bytes, though perhaps none that can be decoded."""
    for sample in samples:
        problem = _absence(sample.image)
        if problem is None:
            yield sample
            continue
        sentence = f"{sample.name} {problem}; bring the image back, or take it off its list."
        if refuse:
            raise DataError(sentence)
        skipped.append(sentence)


def _absence(image: Path | bytes | Piece) -> str | None:
    """How an image is not there; None where it is. A reader has seen its pieces of larger files."""
    try:
        size = image.stat().st_size if isinstance(image, Path) else image != b""
        return None if size else "is empty"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def _decoded(samples: Iterator[Sample], *, refuse: bool, skipped: list[str]) -> Iterator[LabelledFace]:
    for _, face in _side_by_side(_face_or_error, samples):
        if isinstance(face, DataError):
            if refuse:
                raise face
            skipped.append(str(face))
        else:
            yield face


def _face_or_error(sample: Sample) -> LabelledFace | DataError:
    try:
        return labelled_face(sample)
    except DataError as error:
        return error


def _side_by_side(
    call: Callable[[Sample], Answer], samples: Iterable[Sample]
) -> Iterator[tuple[Sample, Answer]]:
    """Each sample with what the call makes of it, in order; threads decode images side by side."""
    samples = iter(samples)
    with ThreadPoolExecutor(usable_threads()) as pool:
        while some := list(islice(samples, 512)):
            yield from zip(some, pool.map(call, some), strict=True)


class _Account:
    """Counts and hashes the samples that pass by: of an image in a file, the file's name and size.

    Masks are counted only: what they hold is known when they are called, and to hash it here would decode
    every mask of the run once more at its start. A mask that changes in its place is not noticed.
    """

    labels = ("age", "attributes", "expression_votes", "mask", "landmarks68", "identity", "embedding")

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.counts = dict.fromkeys(("faces", *self.labels), 0)

    def told(self, samples: Iterator[Sample]) -> Iterator[Sample]:
        for sample in samples:
            self.counts["faces"] += 1
            self.digest.update(f"{sample.id} ".encode() + self._print_of(sample.image))
            for name in self.labels:
                value = getattr(sample, name)
                self.counts[name] += value is not None
                if value is not None and name != "mask":
                    self.digest.update(np.asarray(value).tobytes())
            yield sample

    @staticmethod
    def _print_of(image: Path | bytes | Piece) -> bytes:
        """What is hashed of an image without opening its file; of a piece, the byte where it begins."""
        if isinstance(image, bytes):
            return f"{len(image)}".encode() + image
        if not isinstance(image, Path):
            return f"{image.path.name} {image.offset}".encode()
        try:
            return f"{image.name} {image.stat().st_size}".encode()
        except OSError:  # who reads it will tell of that
            return image.name.encode()

    def to_dict(self) -> dict[str, Any]:
        known = {name: count for name, count in self.counts.items() if count}
        return {**known, "sha256": self.digest.hexdigest()}
