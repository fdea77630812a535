"""What every store of a gallery does: people, their samples, and the nearest people to a vector.

The SQL that both stores share lives here, with `?` for a parameter. Tables: people (id, name, added), samples
(id, person, key, source, model, thresholds, quality, crop, added, vector), settings (key, value).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from typing import Any, Protocol

import numpy as np

from faceum.errors import GalleryError, count_noun, unknown_name
from faceum.people.records import Binding, Finding, Neighbour, Person, Sample

Rows = list[tuple[Any, ...]]

COLUMNS = "samples.id, people.name, key, source, model, thresholds, quality, samples.added, vector"
"""The columns of a sample without its crop."""


class Query(Protocol):
    """Runs one SQL statement inside a transaction and returns its rows."""

    def __call__(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        """Run `sql` with a value for each `?`."""
        ...


class Store(ABC):
    """The records of one gallery. Threads may share it; several processes may open the same gallery."""

    url: str
    """Where it is, as `faceum.people.gallery.Gallery` takes it; without a password."""

    @abstractmethod
    def transaction(self, *, write: bool = False) -> AbstractContextManager[Query]:
        """Open a transaction; an exception undoes all of it. GalleryError where the store fails."""

    @abstractmethod
    def nearest(self, vectors: np.ndarray, k: int) -> list[list[Neighbour]]:
        """Return, for each vector (n, D) of length 1, the k nearest people, nearest first."""

    @abstractmethod
    def close(self) -> None:
        """Release the connection."""

    @abstractmethod
    def erase(self) -> None:
        """Overwrite what was removed, so that its bytes are gone; GalleryError where that has to wait."""

    @abstractmethod
    def check_storage(self) -> list[Finding]:
        """Return findings about the file or the database itself."""

    @abstractmethod
    def _encode(self, vector: np.ndarray) -> Any:
        """Return a vector (D,) float16 as a column's value."""

    @abstractmethod
    def _decode(self, value: Any) -> np.ndarray:
        """Undo `_encode`."""

    @abstractmethod
    def _prepare(self, query: Query, binding: Binding) -> None:
        """Make what depends on the length of the vectors."""

    @abstractmethod
    def _after_adding(self) -> None:
        """Do what follows the addition of samples, when they are committed."""

    def binding(self) -> Binding | None:
        """Return what the vectors have in common; None while there are none."""
        with self.transaction() as query:
            return _binding(query)

    def bind(self, binding: Binding) -> Binding:
        """Set the binding where there is none yet, and return the one in force."""
        with self.transaction(write=True) as query:
            present = _binding(query)
            if present is not None:
                return present
            self._prepare(query, binding)
            for key, value in (
                ("model", binding.model), ("dim", str(binding.dim)), ("thresholds", binding.thresholds)
            ):  # fmt: skip
                query("INSERT INTO settings (key, value) VALUES (?, ?)", (key, value))
        return binding

    def add(self, samples: Sequence[Sample]) -> list[bool]:
        """Add samples in one transaction; for each, whether it is new to its person.

        When this returns, the samples outlive the process. A sample whose key the person already has is left
        as it is. GalleryError where a sample does not fit the gallery's binding.
        """
        added = []
        with self.transaction(write=True) as query:
            binding = _binding(query)
            for sample in samples:
                if binding is None or (sample.model, len(sample.vector)) != (binding.model, binding.dim):
                    raise GalleryError(mismatch(sample.model, binding))
                added.append(self._add_one(query, sample))
        self._after_adding()
        return added

    def _add_one(self, query: Query, sample: Sample) -> bool:
        now = sample.added or utc_now()
        query(
            "INSERT INTO people (name, added) VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
            (sample.person, now),
        )
        rows = query(
            "INSERT INTO samples (person, key, source, model, thresholds, quality, crop, added, vector) "
            "SELECT id, ?, ?, ?, ?, ?, ?, ?, ? FROM people WHERE name = ? "
            "ON CONFLICT (person, key) DO NOTHING RETURNING id",
            (
                sample.key, sample.source, sample.model, sample.thresholds, sample.quality, sample.crop, now,
                self._encode(sample.vector), sample.person,
            ),
        )  # fmt: skip
        return bool(rows)

    def counts(self) -> tuple[int, int]:
        """Return the numbers of people and of samples."""
        with self.transaction() as query:
            people = query("SELECT count(*) FROM people")[0][0]
            samples = query("SELECT count(*) FROM samples")[0][0] if _binding(query) else 0
        return int(people), int(samples)

    def people(self) -> list[Person]:
        """Return all people, sorted by name."""
        with self.transaction() as query:
            if _binding(query) is None:
                return []
            rows = query(
                "SELECT name, count(samples.id), people.added FROM people "
                "LEFT JOIN samples ON samples.person = people.id "
                "GROUP BY people.id, name, people.added ORDER BY name"
            )
        return [Person(name=name, samples=int(count), added=added) for name, count, added in rows]

    def samples(self, name: str, *, crops: bool = False) -> list[Sample]:
        """Return a person's samples in the order of their addition; GalleryError for an unknown name."""
        with self.transaction() as query:
            person = self._person(query, name)
            extra = ", crop" if crops else ""
            rows = query(
                f"SELECT {COLUMNS}{extra} FROM samples JOIN people ON people.id = samples.person "
                "WHERE samples.person = ? ORDER BY samples.id",
                (person,),
            )
        return [self._sample(row) for row in rows]

    def rename(self, name: str, new: str) -> None:
        """Give a person another name; GalleryError where it is taken or the person is unknown."""
        with self.transaction(write=True) as query:
            person = self._person(query, name)
            if query("SELECT 1 FROM people WHERE name = ? AND id <> ?", (new, person)):
                raise GalleryError(
                    f"There is already a person {new!r}; choose another name, or merge the two."
                )
            query("UPDATE people SET name = ? WHERE id = ?", (new, person))

    def remove(self, name: str) -> int:
        """Remove a person with all samples, and return how many; call `erase` afterwards."""
        with self.transaction(write=True) as query:
            person = self._person(query, name)
            removed = query("DELETE FROM samples WHERE person = ? RETURNING id", (person,))
            query("DELETE FROM people WHERE id = ?", (person,))
            self._mark_removal(query)
        return len(removed)

    def merge(self, name: str, into: str) -> int:
        """Give all samples of one person to another, remove the first, and return how many were moved."""
        with self.transaction(write=True) as query:
            source, target = self._person(query, name), self._person(query, into)
            if source == target:
                raise GalleryError(f"{name!r} and {into!r} are the same person; name two different ones.")
            query(
                "DELETE FROM samples WHERE person = ? AND key IN (SELECT key FROM samples WHERE person = ?)",
                (source, target),
            )
            moved = query("UPDATE samples SET person = ? WHERE person = ? RETURNING id", (target, source))
            query("DELETE FROM people WHERE id = ?", (source,))
            self._mark_removal(query)
        return len(moved)

    def check(self) -> list[Finding]:
        """Return findings about the records and the storage."""
        with self.transaction() as query:
            binding = _binding(query)
            findings = [_binding_finding(binding)]
            if binding is not None:
                findings += self._check_records(query, binding)
        return findings + self.check_storage()

    def _check_records(self, query: Query, binding: Binding) -> list[Finding]:
        people = int(query("SELECT count(*) FROM people")[0][0])
        samples = int(query("SELECT count(*) FROM samples")[0][0])
        foreign = int(query("SELECT count(*) FROM samples WHERE model <> ?", (binding.model,))[0][0])
        empty = query(
            "SELECT name FROM people WHERE NOT EXISTS "
            "(SELECT 1 FROM samples WHERE samples.person = people.id) ORDER BY name"
        )
        counts = f"{count_noun(people, 'person', 'people')}, {count_noun(samples, 'sample')}"
        lost = int(query("SELECT count(*) FROM samples WHERE person NOT IN (SELECT id FROM people)")[0][0])
        return [
            Finding(name="records", ok=lost == 0, detail=f"{counts}, {lost:,} of nobody"),
            Finding(
                name="models", ok=foreign == 0, detail=f"{count_noun(foreign, 'sample')} of another network"
            ),
            Finding(
                name="people without samples",
                ok=not empty,
                detail=", ".join(name for (name,) in empty[:10]) or "none",
            ),
        ]

    @abstractmethod
    def _mark_removal(self, query: Query) -> None:
        """Note that this transaction removes or moves samples."""

    def _sample(self, row: tuple[Any, ...]) -> Sample:
        number, person, key, source, model, thresholds, quality, added, vector = row[:9]
        crop = row[9] if len(row) > 9 and row[9] is not None else None
        return Sample(
            id=int(number), person=person, key=key, source=source, model=model, thresholds=thresholds,
            quality=quality, added=added, vector=self._decode(vector),
            crop=None if crop is None else bytes(crop),
        )  # fmt: skip

    def _person(self, query: Query, name: str) -> int:
        rows = query("SELECT id FROM people WHERE name = ?", (name,))
        if not rows:
            names = [known for (known,) in query("SELECT name FROM people ORDER BY name LIMIT 20")]
            raise GalleryError(unknown_name(name, "person", names))
        return int(rows[0][0])


def utc_now() -> str:
    """Return the time now in UTC, as ISO 8601 to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def mismatch(model: str, binding: Binding | None) -> str:
    """Return the sentence for a vector of another network than the gallery's."""
    present = "no network yet" if binding is None else f"{binding.model} ({binding.dim} numbers)"
    return (
        f"The gallery holds vectors of {present}, but these are of {model}; vectors of two networks "
        "cannot be compared, so use the gallery's network, or another gallery."
    )


def _binding(query: Query) -> Binding | None:
    known: dict[str, str] = dict(
        query("SELECT key, value FROM settings WHERE key IN ('model', 'dim', 'thresholds')")
    )
    if not known:
        return None
    return Binding(model=known["model"], dim=int(known["dim"]), thresholds=known["thresholds"])


def _binding_finding(binding: Binding | None) -> Finding:
    if binding is None:
        return Finding(name="network", ok=True, detail="none yet: nobody was enrolled")
    return Finding(
        name="network",
        ok=True,
        detail=f"{binding.model}, {binding.dim} numbers, thresholds {binding.thresholds or 'none'}",
    )
