"""Plan, run and resume a batch: the one road from a source to a folder of results."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from faceum.analyzer import FaceAnalyzer
from faceum.errors import DataError, count_noun
from faceum.jobs.folder import BatchFolder, Counts
from faceum.jobs.local import Monitor
from faceum.jobs.manifest import (
    IMAGES_PER_SHARD,
    Manifest,
    answer_settings,
    check_same,
    embedding_dim,
    read_manifest,
    software_versions,
)
from faceum.jobs.plan import write_plan
from faceum.jobs.sources import STDIN, list_source
from faceum.jobs.worker import Job
from faceum.stores import is_url
from faceum.threads import usable_threads


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """How a batch is planned and its answers are made.

    options: arguments of `FaceAnalyzer`; see `faceum.jobs.worker.analyzer_options`. cropped: each image is
    one face. parsing: keep parsing maps. column: of Parquet sources, looked for if None. images_per_shard:
    None for `IMAGES_PER_SHARD`, or what the plan has.
    """

    options: dict[str, Any] = field(default_factory=dict)
    cropped: bool = False
    parsing: bool = False
    column: str | None = None
    images_per_shard: int | None = None


@dataclass
class Tally(Monitor):
    """Adds up what a run does. lost: workers that died."""

    counts: Counts = field(default_factory=Counts)
    shards: int = 0
    images: int = 0
    lost: int = 0

    def advance(self, images: int) -> None:
        """Count images."""
        self.images += images

    def finish(self, shard: int, counts: Counts) -> None:
        """Count a shard."""
        self.shards += 1
        self.counts = self.counts + counts

    def lose(self, shard: int | None, reason: str) -> None:
        """Count a worker that died."""
        self.lost += 1


def prepare_batch(source: str, folder: Path, config: BatchConfig) -> Job:
    """Return the job of a batch: planned if its folder is new, compared with the manifest if it is not.

    Raises DataError if the folder holds another batch, or the source nothing.
    """
    analyzer = FaceAnalyzer(**config.options)
    settings = answer_settings(analyzer, config.options, cropped=config.cropped, parsing=config.parsing)
    settings["column"] = config.column
    name = absolute_source(source)
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} cannot be used as the output folder: it is a file; give another name.")
    manifest = read_manifest(folder)
    if manifest is None:
        size = config.images_per_shard or IMAGES_PER_SHARD
        planned = write_plan(folder, name, list_source(name, config.column, leave_out=folder), size)
        manifest = Manifest(
            source=name,
            shards=planned.shards,
            images=planned.images,
            images_per_shard=planned.images_per_shard,
            dim=embedding_dim(analyzer),
            settings=settings,
            software=software_versions(),
        )
        manifest.write(folder)
    check_same(manifest, name, settings, folder)
    if config.images_per_shard not in (None, manifest.images_per_shard):
        raise DataError(
            f"{folder} was begun with {count_noun(manifest.images_per_shard, 'image')} per shard, not "
            f"{config.images_per_shard}; use the same number, or another folder."
        )
    return Job(folder=folder.absolute(), manifest=manifest, options=config.options, column=config.column)


def shards_to_do(job: Job, part: tuple[int, int] = (1, 1)) -> list[int]:
    """Return the shards that are not done or hold images to be tried again.

    part: (i, n) for the i-th of n parts, i in 1..n, without a word between those who do them.
    """
    folder = BatchFolder(job.folder)
    done = folder.done()
    again = done if job.retry_broken else folder.to_retry()
    first, step = part[0] - 1, part[1]
    return [shard for shard in range(first, job.manifest.shards, step) if shard not in done or shard in again]


def parse_part(text: str | None) -> tuple[int, int]:
    """Return (i, n) of a text such as "3/8"; (1, 1) for None. Raises DataError for anything else."""
    if text is None:
        return 1, 1
    first, slash, last = text.partition("/")
    if not slash or not first.isdecimal() or not last.isdecimal() or not 1 <= int(first) <= int(last):
        raise DataError(f"--shard is {text!r}, expected I/N with I in 1..N, such as 3/8.")
    return int(first), int(last)


def absolute_source(source: str) -> str:
    """Return how the manifest names a source: paths are absolute, in whichever folder the command runs."""
    return source if source == STDIN or is_url(source) else os.path.abspath(source)


def divide_threads(options: dict[str, Any], workers: int | None, threads: int | None) -> tuple[int, int]:
    """Return the number of workers and the threads of each, so that together they fill this machine.

    workers: None for one on a GPU, else one for every thread that may be used. threads: of each worker.
    """
    usable = usable_threads()
    if workers is None:
        on_gpu = options.get("device") in ("cuda", "coreml")
        workers = 1 if on_gpu else max(1, usable // (threads or 1))
    return workers, threads or max(1, usable // workers)


def with_threads(job: Job, threads: int) -> Job:
    """Return the job with a number of threads for each worker."""
    return replace(job, options={**job.options, "threads": threads})


def failed_share(counts: Sequence[Counts]) -> float:
    """Return the share of images that are not "ok"."""
    total = sum(one.total for one in counts)
    return sum(one.failed for one in counts) / total if total else 0.0
