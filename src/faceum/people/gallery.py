"""A gallery of enrolled people: enroll, search with verdicts, rename, merge, export, and remove for good."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from faceum.errors import GalleryError, ModelError
from faceum.people.records import Binding, Candidate, Finding, Person, Sample, Search
from faceum.people.sources import face_jpeg, image_key, people_folders
from faceum.people.store import Store, mismatch
from faceum.people.transfer import read_samples, write_samples

if TYPE_CHECKING:
    from faceum.analyzer import FaceAnalyzer
    from faceum.image import Source
    from faceum.results import Face, Result
    from faceum.weights.thresholds import Thresholds

VARIABLE = "FACEUM_GALLERY"
"""The environment variable that names the gallery to use where none is given."""

FMR = 1e-2
"""The share of strangers that a search may take for somebody, for the gallery as a whole."""

GROUP = 32
"""Images whose samples are committed together."""


@dataclass(frozen=True, kw_only=True)
class Enrolled:
    """What became of one image.

    person: for whom. source: its path where it has one. added: whether it became a new sample; False with no
    problem where the person has that image already. problem: a sentence where it cannot be used, else None.
    """

    person: str
    source: str | None
    added: bool = False
    problem: str | None = None


class Gallery:
    """People and their faces, in an SQLite file or a PostgreSQL database.

    The records are bound to the network that made the first of them: vectors of two networks cannot be
    compared. Threads may share a gallery, and processes may open the same one.
    """

    def __init__(
        self,
        url: str | Path | None = None,
        *,
        analyzer: FaceAnalyzer | Callable[[], FaceAnalyzer] | None = None,
        keep_crops: bool = False,
    ) -> None:
        """Open the gallery, which is made where it is missing.

        url: a file, or postgresql://user@host/database (needs the extra `postgres`); by default what
            FACEUM_GALLERY names, else a file in the user's data folder.
        analyzer: finds and embeds the faces, or a function that loads it when it is first needed; the default
            model by default.
        keep_crops: store a JPEG of each enrolled face with its vector.
        Raises GalleryError where the gallery cannot be opened.
        """
        self.store = open_store(default_url() if url is None else url)
        self._load = analyzer if callable(analyzer) else None
        self._analyzer = None if callable(analyzer) else analyzer
        self._keep_crops = keep_crops

    def __enter__(self) -> Gallery:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Gallery({self.store.url!r})"

    @property
    def analyzer(self) -> FaceAnalyzer:
        """What finds and embeds the faces."""
        if self._analyzer is None:
            from faceum.analyzer import FaceAnalyzer

            self._analyzer = FaceAnalyzer(tasks=["recognition"]) if self._load is None else self._load()
        return self._analyzer

    def thresholds(self) -> Thresholds | None:
        """Return the analyzer's thresholds; None where its network has none."""
        try:
            return self.analyzer.thresholds()
        except ModelError:
            return None

    def enroll(
        self,
        name: str,
        images: Source | Iterable[Source],
        *,
        largest: bool = False,
        min_quality: float = 0.0,
    ) -> list[Enrolled]:
        """Add images of one person, and say what became of each; they are safe when this returns.

        images: one image or several, as `FaceAnalyzer.analyze` takes them, each with one face. largest: of
        several faces take the largest; otherwise such an image is refused, because the others might be meant.
        min_quality: faces of a lower quality are refused; see `faceum.results.Face`.
        Raises GalleryError if a quality is asked for and the network has none.
        """
        one = isinstance(images, (str, os.PathLike, bytes, bytearray, memoryview, np.ndarray)) or hasattr(
            images, "getexif"
        )
        sources = [cast("Source", images)] if one else cast("Iterable[Source]", images)
        entries = ((name, source) for source in sources)
        return list(self.enroll_many(entries, largest=largest, min_quality=min_quality))

    def enroll_many(
        self, entries: Iterable[tuple[str, Source]], *, largest: bool = False, min_quality: float = 0.0
    ) -> Iterator[Enrolled]:
        """Add images of many people, each with its person's name; see `enroll`.

        What is yielded is already safe: samples are committed in groups of `GROUP`.
        """
        waiting: deque[tuple[str, Source]] = deque()
        if min_quality > 0:
            self._require_quality(min_quality)

        def sources() -> Iterator[Source]:
            for name, source in entries:
                waiting.append((_check_name(name), source))
                yield source

        results = self.analyzer.analyze_many(sources(), keep_images=self._keep_crops)
        while group := [(*waiting.popleft(), result) for result in islice(results, GROUP)]:
            yield from self._commit(group, largest, min_quality)

    def _require_quality(self, least: float) -> None:
        measured = self.thresholds()
        if least > 1:
            raise GalleryError(f"Qualities lie in 0..1, so none reaches {least:g}; ask for less.")
        if measured is None or measured.quality is None:
            raise GalleryError(
                f"No quality was measured for {self.analyzer.model_id}; leave out min_quality, or run "
                "`faceum calibrate`."
            )

    def _commit(
        self, group: Sequence[tuple[str, Source, Result]], largest: bool, min_quality: float
    ) -> Iterator[Enrolled]:
        samples: list[Sample] = []
        problems: list[str | None] = []
        for name, source, result in group:
            problem = _problem(result, largest, min_quality)
            problems.append(problem)
            if problem is None and result.faces:
                samples.append(self._sample(name, source, result.faces[0], result))
        added = iter(self.add(samples))
        for (name, _, result), problem in zip(group, problems, strict=True):
            new = problem is None and next(added)
            yield Enrolled(person=name, source=result.source, added=new, problem=problem)

    def _sample(self, name: str, source: Source, face: Face, result: Result) -> Sample:
        crop = face_jpeg(result.image, face) if self._keep_crops and result.image is not None else None
        measured = self.thresholds()
        return Sample(
            person=name,
            key=image_key(source),
            source=result.source or "",
            vector=_unit(np.asarray(face.embedding)[None])[0],
            model=face.model or "",
            thresholds="" if measured is None else measured.id,
            quality=face.quality,
            crop=crop,
        )

    def add(self, samples: Sequence[Sample]) -> list[bool]:
        """Add finished samples in one transaction; for each, whether it is new to its person.

        Their vectors have length 1 and come from the network that the gallery is bound to; the first samples
        bind it. GalleryError where one does not fit.
        """
        if not samples:
            return []
        if self.store.binding() is None:
            first = samples[0]
            self.store.bind(Binding(model=first.model, dim=len(first.vector), thresholds=first.thresholds))
        return self.store.add(samples)

    def import_folder(
        self, folder: str | Path, *, largest: bool = False, min_quality: float = 0.0
    ) -> Iterator[Enrolled]:
        """Enroll a folder that holds a folder of images for each person, named after the person."""
        return self.enroll_many(people_folders(Path(folder)), largest=largest, min_quality=min_quality)

    def search(self, image: Source, k: int = 5, *, fmr: float = FMR, masked: bool = False) -> list[Search]:
        """Return, for each face of an image, largest first, the k nearest people and a verdict on each.

        fmr: the share of strangers that the search as a whole may take for somebody. A gallery of n samples
        is n chances of a false match, so each pair is judged at a lower rate; see `Search.pair_fmr`.
        masked: use the thresholds for faces with masks.
        Raises ImageError where the image cannot be read, GalleryError where the network is another.
        """
        faces = self.analyzer.analyze(image).faces or []
        if not faces:
            return []
        vectors = np.stack([np.asarray(face.embedding) for face in faces])
        found = self.search_vectors(vectors, k, model=faces[0].model or "", fmr=fmr, masked=masked)
        return [
            Search(**{**vars(one), "box": np.asarray(face.box)})
            for one, face in zip(found, faces, strict=True)
        ]

    def search_vectors(
        self, vectors: np.ndarray, k: int = 5, *, model: str, fmr: float = FMR, masked: bool = False
    ) -> list[Search]:
        """Do the same for embeddings (n, D) of the network `model`."""
        if k < 1:
            raise GalleryError(f"A search returns at least 1 person, got k={k}.")
        binding = self.store.binding()
        if binding is not None and binding.model != model:
            raise GalleryError(mismatch(model, binding))
        people, samples = self.store.counts()
        measured = self.thresholds()
        rate = None if measured is None else measured.for_gallery(fmr, samples, masked=masked)
        return [
            Search(
                candidates=tuple(
                    Candidate(
                        name=one.name,
                        sample=one.sample,
                        cosine=one.cosine,
                        same=rate is not None and one.cosine >= rate.cosine,
                    )
                    for one in row
                ),
                threshold=None if rate is None else rate.cosine,
                fmr=fmr,
                pair_fmr=fmr if rate is None else rate.fmr,
                measured=rate is not None and rate.measured,
                people=people,
                samples=samples,
            )
            for row in self.store.nearest(_unit(vectors), k)
        ]

    def people(self) -> list[Person]:
        """Return all people, sorted by name."""
        return self.store.people()

    def samples(self, name: str, *, crops: bool = False) -> list[Sample]:
        """Return a person's samples in the order in which they were added, with their crops if requested."""
        return self.store.samples(name, crops=crops)

    def rename(self, name: str, new: str) -> None:
        """Give a person another name."""
        self.store.rename(name, _check_name(new))

    def remove(self, name: str) -> int:
        """Remove a person with all samples, and return how many; their bytes are gone when this returns."""
        removed = self.store.remove(name)
        self.store.erase()
        return removed

    def merge(self, name: str, into: str) -> int:
        """Give all samples of one person to another, and return how many were moved."""
        moved = self.store.merge(name, into)
        self.store.erase()
        return moved

    def export(self, path: str | Path, *, crops: bool = False) -> int:
        """Write all people to an .npz file that `import_file` reads, and return the number of samples."""
        samples = [
            sample for person in self.people() for sample in self.store.samples(person.name, crops=crops)
        ]
        write_samples(Path(path), samples)
        return len(samples)

    def import_file(self, path: str | Path) -> Iterator[Enrolled]:
        """Add all samples of an exported file; what is yielded is already safe."""
        samples = iter(read_samples(Path(path)))
        while group := list(islice(samples, 10 * GROUP)):
            for sample, new in zip(group, self.add(group), strict=True):
                yield Enrolled(person=sample.person, source=sample.source or None, added=new)

    def doctor(self, *, repair: bool = False) -> list[Finding]:
        """Check the gallery; repair: also overwrite what a removal had to leave."""
        if repair:
            self.store.erase()
        findings, binding = self.store.check(), self.store.binding()
        if binding is not None:
            findings.append(self._network_finding(binding))
        return findings

    def _network_finding(self, binding: Binding) -> Finding:
        measured, model = self.thresholds(), self.analyzer.model_id
        if model != binding.model:
            detail = f"the gallery is of {binding.model}, but the network here is {model}"
        elif measured is None:
            detail = f"{model} has no thresholds, so a search cannot judge; run `faceum calibrate`"
        elif measured.id != binding.thresholds:
            detail = f"now {measured.id}; people were enrolled under {binding.thresholds or 'none'}"
        else:
            detail = measured.id
        return Finding(name="thresholds", ok=model == binding.model and measured is not None, detail=detail)

    def close(self) -> None:
        """Release the store."""
        self.store.close()


def default_url() -> str:
    """Return the address in FACEUM_GALLERY, or else of a file in the user's data folder."""
    if named := os.environ.get(VARIABLE):
        return named
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return str(Path(data) / "faceum" / "people.sqlite")


def is_missing(url: str | Path) -> bool:
    """Return whether an address names a file that is not there; a database is only known by connecting."""
    kind, separator, rest = str(url).partition("://")
    if separator and kind != "sqlite":
        return False
    return not Path(rest.removeprefix("/") if separator else str(url)).expanduser().exists()


def open_store(url: str | Path) -> Store:
    """Open a store by its address: a path, sqlite:///path, or postgresql://...

    Raises GalleryError for another kind of address and where the store cannot be opened.
    """
    text = str(url)
    kind, separator, rest = text.partition("://")
    if separator and kind in ("postgresql", "postgres"):
        from faceum.people.postgres_store import PostgresStore

        return PostgresStore(text)
    if separator and kind != "sqlite":
        raise GalleryError(
            f"A gallery is a file or postgresql://user@host/database, got {kind}://...; give one of these."
        )
    from faceum.people.sqlite_store import SQLiteStore

    return SQLiteStore(Path(rest.removeprefix("/") if separator else text).expanduser())


def _problem(result: Result, largest: bool, min_quality: float = 0.0) -> str | None:
    """Return why an image cannot be enrolled, None if it can."""
    name = result.source or "The image"
    if result.error is not None:
        return result.error
    if not result.faces:
        return f"{name}: no face was found; give an image in which the face is larger or clearer."
    if len(result.faces) > 1 and not largest:
        return (
            f"{name} shows {len(result.faces)} faces; cut out the one to enroll, or allow the largest "
            "(--largest, largest=True)."
        )
    quality = result.faces[0].quality
    if quality is not None and quality < min_quality:
        return f"{name}: the face's quality is {quality:.2f}, below {min_quality:g}; give a clearer image."
    return None


def _check_name(name: Any) -> str:
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise GalleryError(f"A person needs a name of printable characters, got {name!r}.")
    return name.strip()


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Return vectors (n, D) of length 1 in float16; GalleryError if one is zero or not finite."""
    vectors = np.asarray(vectors, np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise GalleryError(
            "An embedding is zero or not finite, so it cannot be compared; leave out its face."
        )
    return (vectors / lengths).astype(np.float16)
