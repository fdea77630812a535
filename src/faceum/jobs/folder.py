"""The folder of a batch: where its plan and results lie, what is done, and what is to be retried."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faceum.errors import DataError, OutputError
from faceum.files import whole_file
from faceum.jobs.columns import RETRIED, STATUSES, import_pyarrow

PER_FOLDER = 1000
"""Shards in one file of the plan, and in one folder of results."""

METADATA = b"faceum.batch"
"""The key of the counts in a result file's metadata."""

RESULTS, RETRY, PLAN = "results", "retry", "plan"


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What became of the images of a shard, or of many.

    images: by status, see `faceum.jobs.columns`. faces: in all of them. seconds: that the work took.
    """

    images: Counter[str] = field(default_factory=Counter)
    faces: int = 0
    seconds: float = 0.0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            images=self.images + other.images,
            faces=self.faces + other.faces,
            seconds=self.seconds + other.seconds,
        )

    @property
    def total(self) -> int:
        """The number of images."""
        return sum(self.images.values())

    @property
    def failed(self) -> int:
        """The images that are not "ok"."""
        return self.total - self.images["ok"]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        images = {status: self.images[status] for status in STATUSES}
        return {"images": images, "faces": self.faces, "seconds": round(self.seconds, 3)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Counts:
        """Build counts from `to_dict`'s values."""
        return cls(images=Counter(values["images"]), faces=values["faces"], seconds=values["seconds"])


@dataclass(frozen=True)
class BatchFolder:
    """The paths of a batch, and which of its shards are done.

    A shard is done when its result file is there. An empty file under `retry` says that some of its images
    are to be tried again; it is written before the result and removed after a better one.
    """

    path: Path

    def plan_file(self, shard: int) -> Path:
        """Return the file of the plan that lists a shard; its row group is `shard % PER_FOLDER`."""
        return self.path / PLAN / f"{shard // PER_FOLDER:05d}.parquet"

    def result_file(self, shard: int) -> Path:
        """Return where a shard's results are."""
        return self.path / RESULTS / f"{shard // PER_FOLDER:05d}" / f"{shard:08d}.parquet"

    def retry_file(self, shard: int) -> Path:
        """Return the marker of a shard with images to be tried again."""
        return self.path / RETRY / f"{shard:08d}"

    def done(self) -> set[int]:
        """Return the shards that have a result file."""
        folders = sorted((self.path / RESULTS).glob("[0-9]*"))
        return {number for folder in folders for number in _numbers(folder, ".parquet")}

    def to_retry(self) -> set[int]:
        """Return the shards with images to be tried again."""
        return set(_numbers(self.path / RETRY, ""))

    def mark(self, shard: int, counts: Counts, *, before: bool) -> None:
        """Keep the marker in step with a result file. before: the file is about to be written."""
        marker = self.retry_file(shard)
        needed = any(counts.images[status] for status in RETRIED)
        if needed and before and not marker.exists():
            with whole_file(marker) as temporary:
                temporary.write_bytes(b"")
        elif not needed and not before:
            try:
                marker.unlink(missing_ok=True)
            except OSError as error:
                raise OutputError(f"{marker} cannot be removed: {error.strerror}.") from error

    def counts(self, shards: set[int]) -> Iterator[tuple[int, Counts]]:
        """Yield each shard with the counts in its result file; DataError if a file cannot be read."""
        with ThreadPoolExecutor(8) as pool:
            yield from pool.map(lambda shard: (shard, read_counts(self.result_file(shard))), sorted(shards))


def read_counts(path: Path) -> Counts:
    """Return the counts that a result file records; DataError if it cannot be read."""
    import_pyarrow()
    import pyarrow
    import pyarrow.parquet as pq

    try:
        return Counts.from_dict(json.loads(pq.read_metadata(path).metadata[METADATA])["counts"])
    except (OSError, KeyError, TypeError, ValueError, pyarrow.ArrowInvalid) as error:
        raise DataError(
            f"{path} cannot be read as a result file ({error}); remove it and run the batch again."
        ) from None


def _numbers(folder: Path, ending: str) -> Iterator[int]:
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            stem = entry.name.removesuffix(ending)
            if entry.name.endswith(ending) and stem.isdecimal():
                yield int(stem)
