"""The local engine: worker processes on this machine, whose deaths the parent notices and makes up for."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from faceum.errors import FaceumError
from faceum.jobs.folder import Counts
from faceum.jobs.worker import Assignment, Job, ShardWorker

MOST_DEATHS = 10
"""Deaths of workers over one shard after which it is left for a later run."""

CAREFUL_FROM, BLAMED_FROM = 2, 2
"""Deaths over a shard from which on its images go one by one, and deaths over an image that give it up."""

SECONDS_TO_STOP = 5.0
"""How long a worker may take to end before it is killed."""


class Monitor(Protocol):
    """Receives what happens in a run."""

    def advance(self, images: int) -> None:
        """So many more images have been analyzed."""

    def finish(self, shard: int, counts: Counts) -> None:
        """Note that a shard's result file is written."""

    def lose(self, shard: int | None, reason: str) -> None:
        """Note that a worker died, over a shard or without one."""


@dataclass
class _Deaths:
    """How often workers died: over each shard, and over each of a shard's images."""

    shards: Counter[int] = field(default_factory=Counter)
    images: Counter[tuple[int, int]] = field(default_factory=Counter)
    in_a_row: int = 0

    def assignment(self, shard: int) -> Assignment:
        blamed = (
            image for (of, image), deaths in self.images.items() if of == shard and deaths >= BLAMED_FROM
        )
        careful = self.shards[shard] >= CAREFUL_FROM
        return Assignment(shard=shard, careful=careful, blamed=frozenset(blamed))


class _Worker:
    """A worker process as its parent sees it."""

    def __init__(self, job: Job) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(job, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.shard: int | None = None
        self.image: int | None = None

    def give(self, assignment: Assignment) -> None:
        self.shard, self.image = assignment.shard, None
        with contextlib.suppress(OSError):  # it has died, which its sentinel tells
            self.pipe.send(assignment)

    def received(self) -> Iterator[tuple[str, Any]]:
        """Yield the messages that have come."""
        with contextlib.suppress(EOFError, OSError):
            while self.pipe.poll():
                yield self.pipe.recv()

    def stop(self) -> None:
        self.process.terminate()
        self.process.join(SECONDS_TO_STOP)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()

    @property
    def end(self) -> str:
        """How the process ended."""
        code = self.process.exitcode or 0
        if code >= 0:
            return f"exit code {code}"
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-code).name}"
        return f"signal {-code}"


def run_local(job: Job, shards: Iterable[int], workers: int, monitor: Monitor) -> list[int]:
    """Analyze shards by worker processes; return those that were given up, because they kill every worker.

    A worker that dies is replaced and its shard is begun again; from the second death on image by image, so
    that an image which ends its process is found and becomes a row with the status "crashed". Raises
    FaceumError, with every worker stopped, if one cannot go on: disk full, source gone, model missing.
    """
    queue, deaths = deque(shards), _Deaths()
    given_up: list[int] = []
    crew: list[_Worker] = []
    try:
        while queue or any(worker.shard is not None for worker in crew):
            while len(crew) < workers and len(crew) < len(queue) + _busy(crew):
                crew.append(_Worker(job))
            for worker in crew:
                if worker.shard is None and queue:
                    worker.give(deaths.assignment(queue.popleft()))
            ready = set(wait([one for worker in crew for one in (worker.pipe, worker.process.sentinel)]))
            for worker in [one for one in crew if ready & {one.pipe, one.process.sentinel}]:
                _hear(worker, deaths, monitor)
                if not worker.process.is_alive():
                    _hear(worker, deaths, monitor)  # what it said before its end
                    crew.remove(worker)
                    lost = _bury(worker, deaths, monitor)
                    if lost is not None:
                        (given_up if deaths.shards[lost] >= MOST_DEATHS else queue).append(lost)
    finally:
        for worker in crew:
            worker.stop()
    return given_up


def _busy(crew: Iterable[_Worker]) -> int:
    return sum(worker.shard is not None for worker in crew)


def _hear(worker: _Worker, deaths: _Deaths, monitor: Monitor) -> None:
    """Take in a worker's messages; raises FaceumError if one says that it cannot go on."""
    for kind, value in worker.received():
        if kind == "advance":
            monitor.advance(value)
        elif kind == "begin":
            worker.image = value
        elif kind == "finish" and worker.shard is not None:
            monitor.finish(worker.shard, value)
            worker.shard = worker.image = None
            deaths.in_a_row = 0
        elif kind == "stop":
            raise FaceumError(value)


def _bury(worker: _Worker, deaths: _Deaths, monitor: Monitor) -> int | None:
    """Count a death; return the shard that is to be begun again, if there is one."""
    worker.process.join()
    worker.pipe.close()
    monitor.lose(worker.shard, worker.end)
    deaths.in_a_row += 1
    if deaths.in_a_row > 3 * MOST_DEATHS:
        raise FaceumError(
            f"{deaths.in_a_row} workers ended one after the other, the last by {worker.end}; check the "
            "memory, or use fewer workers."
        )
    if worker.shard is not None:
        deaths.shards[worker.shard] += 1
        if worker.image is not None:
            deaths.images[worker.shard, worker.image] += 1
    return worker.shard


class _Speaker:
    """Sends a worker's report to its parent."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def advance(self, images: int) -> None:
        self._pipe.send(("advance", images))

    def begin(self, image: int) -> None:
        self._pipe.send(("begin", image))


def _serve(job: Job, pipe: Connection) -> None:
    """Analyze what the parent sends until it ends or says so; the main function of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, who stops its workers
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # leaves no half-written file
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    worker, speaker = ShardWorker(job), _Speaker(pipe)
    try:
        while True:
            assignment = pipe.recv()
            pipe.send(("finish", worker.run(assignment, speaker)))
    except (EOFError, BrokenPipeError):
        return  # the parent has gone
    except FaceumError as error:
        pipe.send(("stop", str(error)))
    except OSError as error:
        pipe.send(("stop", f"{error.filename or 'A file'} cannot be used: {error.strerror or error}."))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
