"""Images of all requests, analyzed together: a bounded queue in front of `FaceAnalyzer.analyze_many`."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from faceum.results import Result
from faceum.serve.problems import Problem, busy
from faceum.tasks import TASKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST_TASK_SETS = 8
"""Sets of tasks for which the network is cut to size; for further sets all tasks are computed."""


class Analyzer(Protocol):
    """What the server needs of a `FaceAnalyzer`."""

    tasks: tuple[str, ...]

    def with_options(
        self,
        *,
        tasks: Iterable[str] | None,
        min_score: float | None,
        max_faces: int | None,
        min_face: float | None,
    ) -> Analyzer:
        """See `FaceAnalyzer.with_options`."""
        ...

    def analyze_many(self, sources: Iterable[Any], *, keep_images: bool) -> Iterator[Result]:
        """See `FaceAnalyzer.analyze_many`."""
        ...


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a request asks for; images with equal options are analyzed together.

    tasks: None for all. min_score, max_faces, min_face: see `FaceAnalyzer`.
    keep_image: whether results keep their image, for drawings.
    """

    tasks: tuple[str, ...] | None = None
    min_score: float | None = None
    max_faces: int | None = None
    min_face: float | None = None
    keep_image: bool = False


@dataclass(eq=False)
class _Job:
    source: bytes
    options: Options
    late_at: float
    answer: Future[Result] = field(default_factory=Future)


class Batcher:
    """Takes images from many requests and gives the analyzer all that wait, up to `batch`, in one call.

    No image waits for others to come: those that arrive while the analyzer works form the next batch.
    """

    def __init__(
        self,
        analyzer: Analyzer,
        *,
        places: int = 64,
        batch: int = 16,
        deadline: float = 20.0,
        observe: Callable[[int], None] = lambda size: None,
    ) -> None:
        """places: images that may wait. deadline: seconds that one may wait. observe: gets batch sizes."""
        self._analyzer = analyzer
        self._places, self._batch, self._deadline = places, batch, deadline
        self._observe = observe
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._task_sets: set[tuple[str, ...]] = set()
        self._thread = threading.Thread(target=self._work, name="faceum-batcher", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Number of images that wait."""
        return len(self._waiting)

    async def analyze(self, sources: Sequence[bytes], options: Options) -> list[Result]:
        """Return the results of a request's images, in order.

        Cancelling gives up the places of images that have not begun. Raises Problem if the queue is full, if
        the images wait longer than the deadline, or if the batcher is closed.
        """
        late_at = time.monotonic() + self._deadline
        jobs = [_Job(source, options, late_at) for source in sources]
        with self._changed:
            if self._closed:
                raise busy("not_ready", "The server is stopping.")
            if len(self._waiting) + len(jobs) > self._places:
                raise busy("busy", f"Images already waiting: {len(self._waiting)}; try again in a second.")
            self._waiting.extend(jobs)
            self._changed.notify()
        try:
            return list(await asyncio.gather(*(asyncio.wrap_future(job.answer) for job in jobs)))
        finally:
            self._forget(jobs)

    def close(self) -> None:
        """Finish the images that have begun, and refuse those that wait."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _forget(self, jobs: Sequence[_Job]) -> None:
        gone = [job for job in jobs if not job.answer.done() or job.answer.cancelled()]
        with self._changed:
            for job in gone:
                job.answer.cancel()
                with suppress(ValueError):  # it has begun
                    self._waiting.remove(job)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    left = list(self._waiting)
                    self._waiting.clear()
                    break
                jobs = self._take()
            if jobs:
                self._observe(len(jobs))
                self._answer(jobs)
        for job in left:
            _fail(job, busy("not_ready", "The server is stopping."))

    def _take(self) -> list[_Job]:
        """Take the first image and those with equal options, up to a batch; drop those that are late."""
        now = time.monotonic()
        for job in [job for job in self._waiting if job.late_at <= now]:
            self._waiting.remove(job)
            _fail(job, busy("deadline", f"The image waited longer than {self._deadline:g} seconds."))
        if not self._waiting:
            return []
        options = self._waiting[0].options
        jobs = [job for job in self._waiting if job.options == options][: self._batch]
        for job in jobs:
            self._waiting.remove(job)
        return [job for job in jobs if job.answer.set_running_or_notify_cancel()]

    def _answer(self, jobs: Sequence[_Job]) -> None:
        options = jobs[0].options
        try:
            analyzer = self._analyzer.with_options(
                tasks=self._choose_tasks(options.tasks),
                min_score=options.min_score,
                max_faces=options.max_faces,
                min_face=options.min_face,
            )
            sources = [job.source for job in jobs]
            results = analyzer.analyze_many(sources, keep_images=options.keep_image)
            for job, result in zip(jobs, results, strict=True):
                job.answer.set_result(_keep_tasks(result, options.tasks))
        # The thread serves every request: a failure is this batch's, and is raised where its requests wait.
        except Exception as error:  # noqa: BLE001
            for job in jobs:
                _fail(job, error)

    def _choose_tasks(self, tasks: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if tasks is None or tasks in self._task_sets:
            return tasks
        if len(self._task_sets) >= MOST_TASK_SETS:
            return None
        self._task_sets.add(tasks)
        return tasks


def _keep_tasks(result: Result, tasks: tuple[str, ...] | None) -> Result:
    """Return the result without the answers of other tasks."""
    if tasks is None or not result.faces:
        return result
    others = {task.result_field: None for task in TASKS.values() if task.name not in tasks}
    faces = [replace(face, **others) for face in result.faces]  # type: ignore[arg-type]
    return replace(result, faces=faces)


def _fail(job: _Job, error: Exception | Problem) -> None:
    with suppress(InvalidStateError):  # it has its answer, or was cancelled
        job.answer.set_exception(error)
