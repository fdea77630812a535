"""A gallery file leaves no bytes behind, takes two writers at once, and survives kills."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from faceum.errors import GalleryError
from faceum.people.records import Binding, Sample
from faceum.people.sqlite_store import SQLiteStore

Vectors = Callable[..., np.ndarray]
MakeSample = Callable[..., Sample]

IMPORT = """
import sys
from pathlib import Path
import numpy as np
from faceum.people.records import Sample
from faceum.people.sqlite_store import SQLiteStore

path, worker, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
vectors = np.random.default_rng(int(worker)).standard_normal((count, 64)).astype(np.float16)
store = SQLiteStore(path)
for first in range(0, count, 25):
    rows = range(first, min(first + 25, count))
    samples = [
        Sample(person=f"{worker}-{row % 50}", key=f"{worker}-{row}", vector=vectors[row], model="test@1")
        for row in rows
    ]
    store.add(samples)
    print(*[sample.key for sample in samples], flush=True)
print("done", flush=True)
"""
"""Imports `count` samples of one worker in batches, and prints the keys that are safe."""


@pytest.fixture
def path(tmp_path: Path, binding: Binding) -> Path:
    """An empty gallery file that is bound to the test's network."""
    path = tmp_path / "people.sqlite"
    store = SQLiteStore(path)
    store.bind(binding)
    store.close()
    return path


def start_import(path: Path, worker: int, count: int) -> subprocess.Popen[str]:
    """Start a process that imports; it prints the keys of what is safe."""
    return subprocess.Popen(
        [sys.executable, "-c", IMPORT, str(path), str(worker), str(count)], stdout=subprocess.PIPE, text=True
    )


def everything(path: Path) -> bytes:
    """Return the bytes of the file and of all files that SQLite keeps next to it."""
    return b"".join(part.read_bytes() for part in sorted(path.parent.glob(path.name + "*")))


def assert_whole(path: Path, safe: set[str], count: int, workers: int = 2) -> None:
    """Every safe key is there once with its own vector, and nothing else is half there."""
    store = SQLiteStore(path)
    assert all(finding.ok for finding in store.check()), store.check()
    samples = [sample for person in store.people() for sample in store.samples(person.name)]
    store.close()
    keys = [sample.key for sample in samples]
    assert len(keys) == len(set(keys))
    assert safe <= set(keys)
    vectors = {
        str(worker): np.random.default_rng(worker).standard_normal((count, 64)).astype(np.float16)
        for worker in range(workers)
    }
    for sample in samples:
        worker, row = sample.key.split("-")
        assert np.array_equal(sample.vector, vectors[worker][int(row)])
        assert sample.person == f"{worker}-{int(row) % 50}"


def test_removed_person_leaves_no_bytes(path: Path, unit_vectors: Vectors, make_sample: MakeSample) -> None:
    store = SQLiteStore(path)
    vectors = unit_vectors(600)
    crops = [np.random.default_rng(row).bytes(700 + 40 * (row % 90)) for row in range(600)]
    order = np.random.default_rng(1).permutation(600)
    store.add(
        [
            make_sample(f"person {row % 60:02d}", f"key-{row}-end", vectors[row], crop=crops[row])
            for row in order
        ]
    )
    # Changes that make SQLite move records between pages, so that older copies could be left in them.
    for number in range(10, 40):
        store.rename(f"person {number}", f"person {number} with a name that is a good deal longer {number}")
    store.merge("person 01", "person 02")
    gone = [row for row in range(600) if row % 60 in (1, 2, 5, 41, 59)]
    content = everything(path)
    assert all(vectors[row].tobytes() in content for row in gone)
    for name in ("person 02", "person 05", "person 41", "person 59"):
        store.remove(name)
    store.erase()
    content = everything(path)
    for row in gone:
        assert vectors[row].tobytes() not in content
        assert not any(crops[row][start : start + 64] in content for start in (0, 300, 600))
        assert f"key-{row}-end".encode() not in content
    assert b"person 41" not in content
    assert vectors[3].tobytes() in content
    store.close()


def test_removal_waits_for_a_reader_and_is_made_up_for(
    path: Path, unit_vectors: Vectors, make_sample: MakeSample
) -> None:
    store = SQLiteStore(path, patience=0.3)
    (vector,) = unit_vectors(1)
    store.add([make_sample("Ada", "a", vector)])
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM samples").fetchall()
    store.remove("Ada")
    with pytest.raises(GalleryError, match="doctor --repair"):
        store.erase()
    assert [finding.name for finding in store.check() if not finding.ok] == ["removed bytes"]
    reader.close()
    store.erase()
    assert all(finding.ok for finding in store.check())
    assert vector.tobytes() not in everything(path)


def test_only_the_owner_may_read_the_file(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text)")
    with pytest.raises(GalleryError, match="another program"):
        SQLiteStore(path)


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.sqlite"
    path.write_text("no database " * 1000)
    with pytest.raises(GalleryError, match=r"text\.sqlite"):
        SQLiteStore(path)


def test_two_processes_write_at_once(path: Path) -> None:
    imports = [start_import(path, worker, 300) for worker in range(2)]
    safe = {key for one in imports for key in one.communicate(timeout=120)[0].split()} - {"done"}
    assert [one.returncode for one in imports] == [0, 0]
    assert len(safe) == 600
    assert_whole(path, safe, 300)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_killed_imports_lose_nothing_that_was_acknowledged(path: Path) -> None:
    count, safe = 2000, set[str]()
    rng = np.random.default_rng(0)
    for _ in range(3):
        imports = [start_import(path, worker, count) for worker in range(2)]
        heard = [[one.stdout.readline()] for one in imports if one.stdout is not None]
        time.sleep(float(rng.uniform(0, 0.3)))
        for one, lines in zip(imports, heard, strict=True):
            os.kill(one.pid, signal.SIGKILL)
            lines.append(one.communicate()[0])
            # A line that was cut in its middle acknowledges nothing.
            whole = "".join(lines).rpartition("\n")[0]
            safe |= set(whole.split()) - {"done"}
        assert_whole(path, safe, count)
    assert safe
