"""The worker of every engine: analyzes the images of one shard and writes its result file."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from faceum.analyzer import FaceAnalyzer
from faceum.errors import DataError, count_noun
from faceum.image import MAX_PIXELS
from faceum.jobs.columns import BROKEN, CRASHED, OK, UNREAD, RowBuilder
from faceum.jobs.folder import BatchFolder, Counts
from faceum.jobs.items import Item, ShardReader
from faceum.jobs.manifest import Manifest
from faceum.jobs.plan import read_shard
from faceum.jobs.result_file import EarlierRows, ResultWriter
from faceum.results import Result
from faceum.runner import Runner

GROUP = 256
"""Images whose rows are written at once."""

FEWEST_TO_JUDGE = 20
"""From so many images on, a shard of which none could be read means that the source is gone."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker needs to know, in plain values that other processes and machines can be sent.

    folder: the batch's folder. manifest: its manifest. options: arguments of `FaceAnalyzer`. column: of
    Parquet files. retry_broken: also try those images again that were read but not usable. accept_all: write
    a shard even if none of its images could be read.
    """

    folder: Path
    manifest: Manifest
    options: dict[str, Any] = field(default_factory=dict)
    column: str | None = None
    retry_broken: bool = False
    accept_all: bool = False


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One shard for a worker.

    careful: analyze the images one by one, and report each before it is begun. blamed: images that are not
    to be analyzed, because they ended their workers.
    """

    shard: int
    careful: bool = False
    blamed: frozenset[int] = frozenset()


class Report(Protocol):
    """Receives what a worker does while it does it."""

    def advance(self, images: int) -> None:
        """So many more images have been analyzed."""

    def begin(self, image: int) -> None:
        """Note that the image of this number is analyzed next; called in careful assignments only."""


class ShardWorker:
    """Analyzes shards, one after the other; the network is loaded for the first one."""

    def __init__(self, job: Job, replace_runner: Callable[[Runner], Runner] | None = None) -> None:
        """job: see `Job`. replace_runner: returns what runs the network in place of the job's own runner."""
        self._job, self._replace_runner = job, replace_runner
        self._folder = BatchFolder(job.folder)

    @cached_property
    def analyzer(self) -> FaceAnalyzer:
        """The analyzer; raises ModelError if it is not the model of the manifest."""
        analyzer = FaceAnalyzer(**self._job.options)
        wanted = str(self._job.manifest.settings["model"])
        if not wanted.startswith(analyzer.model_id):
            raise DataError(
                f"The batch is of model {wanted}, but {analyzer.model_id} is here; install the same weights."
            )
        if self._replace_runner is not None:
            return analyzer.with_runner(self._replace_runner(analyzer.runner))
        return analyzer

    def run(self, assignment: Assignment, report: Report | None = None) -> Counts:
        """Analyze a shard and write its result file; return the counts of what is in the file then.

        If there is a file, only its images to be retried are analyzed. Raises DataError if nothing could be
        read, and OutputError if the file cannot be written; it is then as it was.
        """
        begun = time.perf_counter()
        shard = assignment.shard
        path = self._folder.result_file(shard)
        earlier = EarlierRows.read(path, retry_broken=self._job.retry_broken) if path.exists() else None
        rows = _Rows(self._job.manifest, shard)
        with ExitStack() as files:
            writer = None
            for item, result in self._analyze(assignment, earlier, report):
                rows.add(item, result, assignment.blamed)
                if report is not None:
                    report.advance(1)
                if earlier is None and rows.builder.images == GROUP:
                    writer = writer or files.enter_context(ResultWriter(path))
                    writer.write(rows.builder.table())
            table = rows.builder.table()
            if earlier is not None:
                table, rows.counts = earlier.merge(table), rows.counts + earlier.kept_counts
            elif self._is_gone(rows.counts):
                raise DataError(
                    f"Of {count_noun(rows.counts.total, 'image')} in shard {shard} none could be read; check "
                    f"the source and run the same command again. The first error: {rows.first_error}"
                )
            writer = writer or files.enter_context(ResultWriter(path))
            writer.write(table)
            counts = Counts(
                images=rows.counts.images, faces=rows.counts.faces, seconds=time.perf_counter() - begun
            )
            writer.describe(counts, shard)
            self._folder.mark(shard, counts, before=True)
        self._folder.mark(shard, counts, before=False)
        return counts

    def _is_gone(self, counts: Counts) -> bool:
        unread = counts.images[UNREAD]
        return not self._job.accept_all and unread == counts.total >= FEWEST_TO_JUDGE

    def _analyze(
        self, assignment: Assignment, earlier: EarlierRows | None, report: Report | None
    ) -> Iterator[tuple[Item, Result | None]]:
        """Yield the images of a shard with their results, None where there is nothing to analyze."""
        reader = ShardReader(
            column=self._job.column, wanted=lambda number: earlier is None or earlier.lacks(number)
        )
        items = reader.read(read_shard(self._folder, assignment.shard))
        cropped = bool(self._job.manifest.settings["cropped"])
        if assignment.careful:
            yield from self._one_by_one(items, assignment.blamed, report, cropped)
            return
        taken: deque[Item] = deque()

        def readable() -> Iterator[Path | bytes]:
            for item in items:
                taken.append(item)
                if item.data is not None:
                    yield item.data

        for result in self.analyzer.analyze_many(readable(), cropped=cropped):
            while taken[0].data is None:
                yield taken.popleft(), None
            yield taken.popleft(), result
        while taken:
            yield taken.popleft(), None

    def _one_by_one(
        self, items: Iterator[Item], blamed: frozenset[int], report: Report | None, cropped: bool
    ) -> Iterator[tuple[Item, Result | None]]:
        for item in items:
            if item.data is None or item.number in blamed:
                yield item, None
                continue
            if report is not None:
                report.begin(item.number)
            yield item, next(self.analyzer.analyze_many([item.data], cropped=cropped))


class _Rows:
    """The rows of a shard and their counts."""

    def __init__(self, manifest: Manifest, shard: int) -> None:
        self.builder = RowBuilder(shard, manifest.dim, parsing=bool(manifest.settings["parsing"]))
        self.counts = Counts()
        self.first_error: str | None = None

    def add(self, item: Item, result: Result | None, blamed: frozenset[int]) -> None:
        status, result = _judge(item, result, blamed)
        self.builder.add(item.number, item.name, status, result)
        self.first_error = self.first_error or result.error
        self.counts = self.counts + Counts(images=Counter([status]), faces=len(result))


def _judge(item: Item, result: Result | None, blamed: frozenset[int]) -> tuple[str, Result]:
    """Return an image's status, and its result with an error that names it."""
    if result is None:
        if item.number in blamed and item.data is not None:
            return CRASHED, Result(error=f"{item.name} ended the process that analyzed it, twice.")
        return UNREAD, Result(error=item.error)
    if result.error is None:
        return OK, result
    error = result.error.replace("the image given as bytes", item.name, 1)
    if item.name not in error:
        error = f"{item.name}: {error}"
    unread = isinstance(item.data, Path) and not _can_be_read(item.data)
    return UNREAD if unread else BROKEN, Result(error=error)


def _can_be_read(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            file.read(1)
    except (OSError, ValueError):
        return False
    return True


def analyzer_options(
    model: str | Path, *, tasks: list[str] | None = None, max_pixels: int | None = None, **more: Any
) -> dict[str, Any]:
    """Return the arguments of `FaceAnalyzer` that a job carries; those that are None are left out."""
    options = {"model": model, "tasks": tasks, "max_pixels": max_pixels or MAX_PIXELS, **more}
    return {name: value for name, value in options.items() if value is not None}
