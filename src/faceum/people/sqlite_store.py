"""A gallery in one SQLite file: write-ahead log, overwritten deletions, exact search in memory."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from faceum.errors import GalleryError
from faceum.people.index import VectorIndex
from faceum.people.records import Binding, Finding, Neighbour
from faceum.people.store import Query, Rows, Store

SCHEMA = """
CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS people (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, added TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS samples (
    id INTEGER PRIMARY KEY AUTOINCREMENT, person INTEGER NOT NULL REFERENCES people (id),
    key TEXT NOT NULL, source TEXT NOT NULL, model TEXT NOT NULL, thresholds TEXT NOT NULL,
    quality REAL, added TEXT NOT NULL, vector BLOB NOT NULL, crop BLOB, UNIQUE (person, key)
);
"""

PATIENCE = 60.0
"""Seconds to wait for another process that writes."""

APPLICATION_ID = 0x46414345
"""The file's own number in SQLite's header ("FACE"), so that another program's database is not taken."""


class SQLiteStore(Store):
    """See `Store`. The vectors are read into memory at the first search and followed from then on."""

    def __init__(self, path: Path, *, patience: float = PATIENCE) -> None:
        """Open the file, which is made where it is missing; GalleryError where it is no gallery."""
        self.path = path
        self.url = str(path)
        self._patience = patience
        self._lock = threading.RLock()
        self._index: VectorIndex | None = None
        self._revision = ""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                path, timeout=patience, isolation_level=None, check_same_thread=False
            )
        except (OSError, sqlite3.Error) as error:
            raise GalleryError(f"The gallery {path} cannot be opened ({error}); check the path.") from None
        with self._translate_errors():
            self._open()

    def _open(self) -> None:
        run = self._connection.execute
        run("PRAGMA secure_delete = ON")
        run("PRAGMA foreign_keys = ON")
        run("PRAGMA synchronous = FULL")
        number = run("PRAGMA application_id").fetchone()[0]
        if number != APPLICATION_ID:
            if number or run("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise GalleryError(
                    f"{self.path} is the database of another program; give another file for the gallery."
                )
            run("PRAGMA journal_mode = WAL")
            with self.transaction(write=True):
                for statement in SCHEMA.split(";"):
                    run(statement)
                run(f"PRAGMA application_id = {APPLICATION_ID}")
        self.path.chmod(0o600)

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[Query]:
        """See `Store.transaction`."""
        with self._lock, self._translate_errors():
            self._connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield self._query
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def _query(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        with closing(self._connection.execute(sql, values)) as cursor:
            return cursor.fetchall()

    def nearest(self, vectors: np.ndarray, k: int) -> list[list[Neighbour]]:
        """See `Store.nearest`; exact."""
        with self._lock:
            index = self._refresh()
            if index is None or not len(index):
                return [[] for _ in vectors]
            hits = index.nearest(vectors, k)
            numbers = {hit.person for row in hits for hit in row}
            with self.transaction() as query:
                names = {n: query("SELECT name FROM people WHERE id = ?", (n,)) for n in numbers}
        return [
            [
                Neighbour(name=names[h.person][0][0], sample=h.sample, cosine=h.cosine)
                for h in row
                if names[h.person]
            ]
            for row in hits
        ]

    def _refresh(self) -> VectorIndex | None:
        """Return the vectors that the file holds; read only new ones, unless something was removed."""
        with self.transaction() as query:
            known: dict[str, str] = dict(
                query("SELECT key, value FROM settings WHERE key IN ('dim', 'revision')")
            )
            if "dim" not in known:
                return None
            revision = known.get("revision", "")
            if self._index is None or revision != self._revision:
                self._index, self._revision = VectorIndex(int(known["dim"])), revision
            cursor = self._connection.execute(
                "SELECT id, person, vector FROM samples WHERE id > ? ORDER BY id", (self._index.last_sample,)
            )
            while rows := cursor.fetchmany(20_000):
                samples, people, blobs = zip(*rows, strict=True)
                self._index.add(samples, people, self._decode(b"".join(blobs)).reshape(len(rows), -1))
        return self._index

    def erase(self) -> None:
        """Rewrite the file without what was removed, and empty the log.

        SQLite overwrites deleted records, but may leave older copies of a record in a page that it has
        reordered; only a rewritten file is sure to hold none.
        """
        end = time.monotonic() + self._patience
        with self._lock:
            while not self._may_erase():
                if time.monotonic() >= end:
                    raise GalleryError(
                        f"The removal is done, but another process is using {self.path}, so the removed "
                        "bytes are still in the file; run `faceum people doctor --repair` when it has ended."
                    )
                time.sleep(0.05)

    def _may_erase(self) -> bool:
        try:
            self._connection.execute("VACUUM")
            if self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
                return False
            self._connection.execute("DELETE FROM settings WHERE key = 'erase'")
        except sqlite3.OperationalError as error:
            if "locked" in str(error) or "busy" in str(error):
                return False
            raise GalleryError(f"The gallery {self.path} cannot be rewritten: {error}.") from None
        return True

    def check_storage(self) -> list[Finding]:
        """See `Store.check_storage`."""
        with self.transaction() as query:
            answer = query("PRAGMA integrity_check(1)")[0][0]
            waiting = bool(query("SELECT 1 FROM settings WHERE key = 'erase'"))
            broken = query(
                "SELECT count(*) FROM samples WHERE length(vector) <> "
                "2 * (SELECT CAST(value AS INTEGER) FROM settings WHERE key = 'dim')"
            )[0][0]
        size = self.path.stat().st_size / 1e6
        return [
            Finding(name="file", ok=answer == "ok", detail=f"{self.path}, {size:.1f} MB, integrity {answer}"),
            Finding(name="vectors", ok=not broken, detail=f"{broken} of a wrong length"),
            Finding(
                name="removed bytes",
                ok=not waiting,
                detail="still in the file; run with --repair" if waiting else "none left",
            ),
        ]

    def close(self) -> None:
        """See `Store.close`."""
        with self._lock:
            self._connection.close()

    def _mark_removal(self, query: Query) -> None:
        # 'revision' makes readers read the vectors again; 'erase' says that the file holds removed bytes.
        query(
            "INSERT INTO settings (key, value) VALUES ('revision', 1) "
            "ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1"
        )
        query("INSERT INTO settings (key, value) VALUES ('erase', '1') ON CONFLICT (key) DO NOTHING")

    def _prepare(self, query: Query, binding: Binding) -> None:
        """Do nothing: a blob may have any length."""

    def _after_adding(self) -> None:
        """Do nothing: the next search reads the new samples."""

    def _encode(self, vector: np.ndarray) -> bytes:
        return np.asarray(vector, "<f2").tobytes()

    def _decode(self, value: bytes) -> np.ndarray:
        return np.frombuffer(value, "<f2")

    @contextmanager
    def _translate_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise GalleryError(f"The gallery {self.path} cannot be used: {error}.") from error
