"""Read the sources of a training run: their faces, checked and numbered, and a fingerprint of each source."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from faceum.data.face import LabelledFace, read_face
from faceum.data.mixture import SourceConfig
from faceum.data.parquet import read_corpus
from faceum.data.sample import ImagePart, Sample, keep_valid
from faceum.errors import DataError
from faceum.tasks import TASKS
from faceum.threads import usable_threads

LOG = logging.getLogger("faceum")
Answer = TypeVar("Answer")

ReadDataset = Callable[[str, str | Path, str], Iterator[Sample]]
"""A function that reads a data set by its name, its folder and the split."""

MOST_BROKEN = 100
"""If so many images in a row cannot be read, their disk is taken to be gone."""


class LazyFaces(Sequence[LabelledFace]):
    """Faces whose image is read and decoded each time they are indexed.

    If that fails, the next face that can be read replaces it (after the last comes the first). It is always
    the same one, so that batches do not depend on what was drawn before. Each process logs one warning per
    image. Raises DataError if none of MOST_BROKEN images in a row can be read.
    """

    def __init__(self, samples: Sequence[Sample], *, refuse: bool = False) -> None:
        """refuse: raise DataError for an image that cannot be read instead of replacing it."""
        self.samples, self.refuse = samples, refuse
        self._places = range(len(samples))
        self._warned: set[int] = set()

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> LabelledFace: ...
    @overload
    def __getitem__(self, index: slice) -> LazyFaces: ...
    def __getitem__(self, index: int | slice) -> LabelledFace | LazyFaces:
        if isinstance(index, slice):
            part = LazyFaces(self.samples, refuse=self.refuse)
            part._places, part._warned = self._places[index], self._warned
            return part
        first, count = self._places[index], len(self.samples)
        tried = min(count, MOST_BROKEN)
        for step in range(tried):
            place = (first + step) % count
            try:
                return read_face(self.samples[place])
            except DataError as error:
                if self.refuse:
                    raise
                self._warn(place, error)
        raise DataError(
            f"No image can be read from {self.samples[first].name} on ({tried} tried); restore them."
        )

    def _warn(self, place: int, error: DataError) -> None:
        if place not in self._warned:
            self._warned.add(place)
            LOG.warning("%s The next image that can be read replaces it.", error)


@dataclass(frozen=True, kw_only=True)
class Data:
    """The data of a run.

    faces: source -> faces. people: number of persons that the recognition loss tells apart.
    skipped: one message per sample that cannot be right. fingerprint: source -> number of faces, number of
    each label, and a SHA-256 over ids, images and labels other than parsings.
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
    """Read the faces of every source.

    data: the corpus folder, for sources without a path. read: reads a source that names a reader.
    split: read this split instead of the sources' own. most: at most so many faces of each source.
    refuse: raise the DataError of the first label or image that cannot be right; otherwise the sample is
        skipped and reported. Of the images of a lazy source only the presence is checked here; see LazyFaces.
    people: number the persons over all sources that train recognition; other identities are dropped.
    apart_from: leave out faces whose image, pixel by pixel, is also in this split of their source, if it has
        such a split.
    """
    numbers: dict[tuple[str, int | str], int] | None = {} if people else None
    faces: dict[str, Sequence[LabelledFace]] = {}
    skipped: list[str] = []
    prints = {}
    for source, config in sources.items():
        fingerprint = _Fingerprint()
        samples: Iterable[Sample] = _samples(source, config, data, split or config.split, read)
        if apart_from is not None:
            others: Iterable[Sample] = ()
            if has_split(source, config, data, apart_from):
                others = _samples(source, config, data, apart_from, read)
            samples = _keep_apart(samples, {pixels for _, pixels in _in_threads(_pixels, others)})
        valid = keep_valid(islice(samples, most), refuse=refuse, skipped=skipped)
        if config.lazy:
            valid = _keep_present(valid, refuse=refuse, skipped=skipped)
        known = numbers if "recognition" in config.tasks else None
        kept = fingerprint.follow(_number_people(valid, source, known))
        faces[source] = (
            LazyFaces(list(kept), refuse=refuse)
            if config.lazy
            else list(_decode(kept, refuse=refuse, skipped=skipped))
        )
        prints[source] = fingerprint.to_dict()
    return Data(faces=faces, people=len(numbers or ()), skipped=skipped, fingerprint=prints)


def has_split(source: str, config: SourceConfig, data: str | Path, split: str) -> bool:
    """Return whether a source has a split; a corpus source may lack its file, readers have every split."""
    return config.reader is not None or (Path(config.path or data) / f"{source}.{split}.parquet").exists()


def _keep_apart(samples: Iterable[Sample], held_out: Collection[bytes]) -> Iterator[Sample]:
    return (sample for sample, pixels in _in_threads(_pixels, samples) if pixels not in held_out)


def _samples(
    source: str, config: SourceConfig, data: str | Path, split: str, read: ReadDataset
) -> Iterator[Sample]:
    if config.reader is None:
        return read_corpus(config.path or data, source, split)
    return read(config.reader, config.path or data, split)


def _pixels(sample: Sample) -> bytes:
    """Return a hash of the image, or of its file if it cannot be decoded; the check reports that."""
    try:
        content = sample.read().tobytes()
    except DataError:
        content = sample.image if isinstance(sample.image, bytes) else str(sample.image).encode()
    return hashlib.sha256(content).digest()


def _number_people(
    samples: Iterator[Sample], source: str, numbers: dict[tuple[str, int | str], int] | None
) -> Iterator[Sample]:
    for sample in samples:
        person = sample.identity
        if numbers is not None and person is not None:
            person = numbers.setdefault((source, person), len(numbers))
        yield replace(sample, identity=person if numbers is not None else None)


def _keep_present(samples: Iterator[Sample], *, refuse: bool, skipped: list[str]) -> Iterator[Sample]:
    """Yield the samples whose images have bytes, though perhaps none that can be decoded."""
    for sample in samples:
        problem = _describe_absence(sample.image)
        if problem is None:
            yield sample
            continue
        sentence = f"{sample.name} {problem}; bring the image back, or take it off its list."
        if refuse:
            raise DataError(sentence)
        skipped.append(sentence)


def _describe_absence(image: Path | bytes | ImagePart) -> str | None:
    """Return what is wrong if an image is missing, else None; readers have checked parts of larger files."""
    try:
        size = image.stat().st_size if isinstance(image, Path) else image != b""
        return None if size else "is empty"
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def _decode(samples: Iterator[Sample], *, refuse: bool, skipped: list[str]) -> Iterator[LabelledFace]:
    for _, face in _in_threads(_face_or_error, samples):
        if isinstance(face, DataError):
            if refuse:
                raise face
            skipped.append(str(face))
        else:
            yield face


def _face_or_error(sample: Sample) -> LabelledFace | DataError:
    try:
        return read_face(sample)
    except DataError as error:
        return error


def _in_threads(
    call: Callable[[Sample], Answer], samples: Iterable[Sample]
) -> Iterator[tuple[Sample, Answer]]:
    """Yield each sample with the result of the call, in order; several threads work at once."""
    samples = iter(samples)
    with ThreadPoolExecutor(usable_threads()) as pool:
        while some := list(islice(samples, 512)):
            yield from zip(some, pool.map(call, some), strict=True)


class _Fingerprint:
    """Counts and hashes samples. An image in a file is hashed by the file's name and size.

    Parsings are only counted: they are read when they are needed, and hashing them would decode all of them
    once more when the run starts. A change in one of them is not noticed.
    """

    # The order is part of the hash: persons and embeddings come last.
    labels = tuple(
        column
        for task in sorted(TASKS.values(), key=lambda task: task.kind == "embedding")
        for column in task.label_columns
    )

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.counts = dict.fromkeys(("faces", *self.labels), 0)

    def follow(self, samples: Iterator[Sample]) -> Iterator[Sample]:
        """Yield the samples and count them in."""
        for sample in samples:
            self.counts["faces"] += 1
            self.digest.update(f"{sample.id} ".encode() + self._image_print(sample.image))
            for name in self.labels:
                value = getattr(sample, name)
                self.counts[name] += value is not None
                if value is not None and name != TASKS["parsing"].label:
                    self.digest.update(np.asarray(value).tobytes())
            yield sample

    @staticmethod
    def _image_print(image: Path | bytes | ImagePart) -> bytes:
        """Return what identifies an image, ready to be hashed, without opening its file."""
        if isinstance(image, bytes):
            return f"{len(image)}".encode() + image
        if not isinstance(image, Path):
            return f"{image.path.name} {image.offset}".encode()
        try:
            return f"{image.name} {image.stat().st_size}".encode()
        except OSError:  # reading it will say so
            return image.name.encode()

    def to_dict(self) -> dict[str, Any]:
        known = {name: count for name, count in self.counts.items() if count}
        return {**known, "sha256": self.digest.hexdigest()}
