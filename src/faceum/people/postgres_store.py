"""A gallery in a PostgreSQL database with pgvector, for many machines; needs the extra `postgres`."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from faceum.errors import GalleryError, count_noun
from faceum.extras import missing
from faceum.people.records import Binding, Finding, Neighbour
from faceum.people.store import Query, Rows, Store

SCHEMA = """
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE IF NOT EXISTS settings (key text PRIMARY KEY, value text NOT NULL);
CREATE TABLE IF NOT EXISTS people (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE, added text NOT NULL
);
"""

SAMPLES = """
CREATE TABLE samples (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, person bigint NOT NULL REFERENCES people (id),
    key text NOT NULL, source text NOT NULL, model text NOT NULL, thresholds text NOT NULL,
    quality double precision, added text NOT NULL, vector halfvec({dim}) NOT NULL, crop bytea,
    UNIQUE (person, key)
)
"""

INDEX_FROM = 20_000
"""Samples from which on an HNSW index answers; below it, comparing with every vector is quick and exact."""

BUILD = {"m": 24, "ef_construction": 128}
"""Neighbours of a vector in the HNSW graph, and how many are weighed while it is built."""

SEARCHED = 400
"""Vectors that a search in the graph weighs (hnsw.ef_search): more finds more, and takes longer."""

LOCK = 0x46414345
"""Key of the advisory lock under which tables and index are made."""


class PostgresStore(Store):
    """See `Store`."""

    def __init__(self, url: str, *, index_from: int = INDEX_FROM) -> None:
        """Connect and make the tables where they are missing; GalleryError where that fails.

        index_from: number of samples from which on an HNSW index is used.
        """
        try:
            import psycopg
            from pgvector.psycopg import register_vector
        except ImportError as error:
            raise GalleryError(missing("A gallery in PostgreSQL", error.name or "psycopg")) from None
        self._errors = psycopg.Error
        self._index_from = index_from
        self._indexed = False
        self._lock = threading.RLock()
        self.url = _without_password(url)
        try:
            self._connection = psycopg.connect(url, autocommit=True)
        except psycopg.Error as error:
            raise GalleryError(f"The gallery {self.url} cannot be reached: {_one_line(error)}.") from None
        with self.transaction(write=True):
            self._connection.execute(SCHEMA)
        register_vector(self._connection)

    @contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[Query]:
        """See `Store.transaction`; transactions that write follow each other."""
        with self._lock:
            try:
                with self._connection.transaction():
                    if write:
                        self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
                    yield self._query
            except self._errors as error:
                raise GalleryError(f"The gallery {self.url} cannot be used: {_one_line(error)}.") from error

    def _query(self, sql: str, values: Sequence[Any] = ()) -> Rows:
        cursor = self._connection.execute(sql.replace("?", "%s"), values)
        return cursor.fetchall() if cursor.description is not None else []

    def nearest(self, vectors: np.ndarray, k: int) -> list[list[Neighbour]]:
        """See `Store.nearest`; exact below `index_from` samples, by the HNSW index from there on."""
        if self.binding() is None:
            return [[] for _ in vectors]
        with self.transaction() as query:
            query(f"SET LOCAL hnsw.ef_search = {max(SEARCHED, 2 * k)}")
            return [self._nearest(query, np.asarray(vector, np.float16), k) for vector in vectors]

    def _nearest(self, query: Query, vector: np.ndarray, k: int) -> list[Neighbour]:
        """Return the k nearest people, asking for as many samples as it takes to see k people."""
        value, taken = self._encode(vector), 2 * k
        while True:
            rows = query(
                "SELECT people.name, near.id, 1 - near.distance FROM "
                "(SELECT id, person, vector <=> ? AS distance FROM samples ORDER BY distance LIMIT ?) near "
                "JOIN people ON people.id = near.person ORDER BY near.distance",
                (value, taken),
            )
            best: dict[str, Neighbour] = {}
            for name, sample, cosine in rows:
                nearest = Neighbour(name=name, sample=int(sample), cosine=min(1.0, float(cosine)))
                best.setdefault(name, nearest)
            if len(best) >= k or len(rows) < taken:
                return list(best.values())[:k]
            taken *= 4

    def erase(self) -> None:
        """Rewrite the table of samples, so that the database's own files hold nothing of what was removed.

        The server's write-ahead log and its backups are the server's matter.
        """
        with self._lock:
            try:
                self._connection.execute("VACUUM FULL samples")
                self._connection.execute("VACUUM FULL people")
            except self._errors as error:
                raise GalleryError(
                    f"The gallery {self.url} cannot be rewritten: {_one_line(error)}."
                ) from None

    def check_storage(self) -> list[Finding]:
        """See `Store.check_storage`."""
        with self.transaction() as query:
            server = query("SHOW server_version")[0][0]
            (vector,) = query("SELECT extversion FROM pg_extension WHERE extname = 'vector'")[0]
            indexed = bool(query("SELECT 1 FROM pg_indexes WHERE indexname = 'samples_nearest'"))
        search = "HNSW index" if indexed else f"exact below {count_noun(self._index_from, 'sample')}"
        return [
            Finding(name="server", ok=True, detail=f"PostgreSQL {server}, pgvector {vector}"),
            Finding(name="search", ok=True, detail=search),
        ]

    def close(self) -> None:
        """See `Store.close`."""
        with self._lock:
            self._connection.close()

    def _prepare(self, query: Query, binding: Binding) -> None:
        query(SAMPLES.format(dim=binding.dim))

    def _after_adding(self) -> None:
        if self._indexed or self.counts()[1] < self._index_from:
            return
        with self.transaction(write=True) as query:
            settings = ", ".join(f"{name} = {value}" for name, value in BUILD.items())
            query(
                "CREATE INDEX IF NOT EXISTS samples_nearest ON samples "
                f"USING hnsw (vector halfvec_cosine_ops) WITH ({settings})"
            )
        self._indexed = True

    def _mark_removal(self, query: Query) -> None:
        """Do nothing: every search asks the server."""

    def _encode(self, vector: np.ndarray) -> Any:
        from pgvector import HalfVector

        return HalfVector(vector)

    def _decode(self, value: Any) -> np.ndarray:
        return value.to_numpy().astype(np.float16)


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", "@", 1)).geturl()


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".")
