"""Layer 3. A recipe's shares in; every source's faces, checked and numbered, with a fingerprint, out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, overload

import numpy as np

from faceum.data.corpus import LabelledFace, labelled_face, read_taught
from faceum.data.mixture import Share
from faceum.data.registry import read_dataset
from faceum.data.sample import Sample, checked
from faceum.errors import DataError


class LazyFaces(Sequence[LabelledFace]):
    """Samples as faces: a picture is read and decoded each time it is asked for."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    @overload
    def __getitem__(self, index: int) -> LabelledFace: ...
    @overload
    def __getitem__(self, index: slice) -> LazyFaces: ...
    def __getitem__(self, index: int | slice) -> LabelledFace | LazyFaces:
        if isinstance(index, slice):
            return LazyFaces(self.samples[index])
        return labelled_face(self.samples[index])


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a run learns from.

    faces: source -> faces. people: how many persons the recognition loss tells apart.
    skipped: a sentence for each sample that cannot be right. fingerprint: source -> number of faces, number
    of each label, and a SHA-256 over ids, pictures and labels other than masks.
    """

    faces: dict[str, Sequence[LabelledFace]] = field(default_factory=dict)
    people: int = 0
    skipped: list[str] = field(default_factory=list)
    fingerprint: dict[str, dict[str, Any]] = field(default_factory=dict)


def read_sources(
    shares: Mapping[str, Share],
    data: str | Path,
    *,
    split: str | None = None,
    most: int | None = None,
    refuse: bool = False,
    people: bool = False,
    apart_from: str | None = None,
) -> Data:
    """Read every share's source.

    data: the corpus folder, for shares without a path. split: instead of the shares' own. most: at most so
    many faces of each. refuse: the first label or picture that cannot be right ends the reading; otherwise
    it is skipped and told. people: number the persons over all sources that train recognition; who the others
    are is dropped.
    apart_from: leave out faces whose picture, pixel by pixel, stands in this split of their source, too.
    """
    numbers: dict[tuple[str, int | str], int] | None = {} if people else None
    faces: dict[str, Sequence[LabelledFace]] = {}
    skipped: list[str] = []
    prints = {}
    for source, share in shares.items():
        account = _Account()
        given: Iterable[Sample] = _samples(source, share, data, split or share.split)
        if apart_from is not None:
            held = {_pixels(sample) for sample in _samples(source, share, data, apart_from)}
            given = (sample for sample in given if _pixels(sample) not in held)
        given = islice(given, most)
        known = numbers if "recognition" in share.tasks else None
        samples = account.told(_numbered(checked(given, refuse=refuse, skipped=skipped), source, known))
        faces[source] = (
            LazyFaces(list(samples))
            if share.lazy
            else list(_decoded(samples, refuse=refuse, skipped=skipped))
        )
        prints[source] = account.to_dict()
    return Data(faces=faces, people=len(numbers or ()), skipped=skipped, fingerprint=prints)


def _samples(source: str, share: Share, data: str | Path, split: str) -> Iterator[Sample]:
    if share.reader is None:
        return read_taught(share.path or data, source, split)
    return read_dataset(share.reader, share.path or data, split)


def _pixels(sample: Sample) -> bytes:
    """A hash of the picture; of its file where it cannot be decoded, for the check will tell of that."""
    try:
        content = sample.read().tobytes()
    except DataError:
        content = sample.picture if isinstance(sample.picture, bytes) else str(sample.picture).encode()
    return hashlib.sha256(content).digest()


def _numbered(
    samples: Iterator[Sample], source: str, numbers: dict[tuple[str, int | str], int] | None
) -> Iterator[Sample]:
    for sample in samples:
        person = sample.identity
        if numbers is not None and person is not None:
            person = numbers.setdefault((source, person), len(numbers))
        yield replace(sample, identity=person if numbers is not None else None)


def _decoded(samples: Iterator[Sample], *, refuse: bool, skipped: list[str]) -> Iterator[LabelledFace]:
    for sample in samples:
        try:
            yield labelled_face(sample)
        except DataError as error:
            if refuse:
                raise
            skipped.append(str(error))


class _Account:
    """Counts and hashes the samples that pass by."""

    labels = ("age", "attributes", "expression_votes", "mask", "landmarks68", "identity", "embedding")

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.counts = dict.fromkeys(("faces", *self.labels), 0)

    def told(self, samples: Iterator[Sample]) -> Iterator[Sample]:
        for sample in samples:
            self.counts["faces"] += 1
            picture = sample.picture if isinstance(sample.picture, bytes) else b""
            self.digest.update(f"{sample.id} {len(picture)}".encode() + picture)
            for name in self.labels:
                value = getattr(sample, name)
                self.counts[name] += value is not None
                if value is not None and name != "mask":
                    self.digest.update(np.asarray(value).tobytes())
            yield sample

    def to_dict(self) -> dict[str, Any]:
        known = {name: count for name, count in self.counts.items() if count}
        return {**known, "sha256": self.digest.hexdigest()}
