"""The images of a shard, one after the other: from paths, object stores, tar shards and Parquet files."""

from __future__ import annotations

import itertools
import os
import tarfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from faceum.errors import FaceumError
from faceum.image.header import is_image_name
from faceum.jobs.columns import import_pyarrow
from faceum.jobs.sources import TAR_SUFFIXES, Container, holds_images, image_column
from faceum.stores import (
    FINAL,
    READ_ERRORS,
    describe_failure,
    is_url,
    open_file,
    read_bytes,
    translate_errors,
    waits,
)

READERS = 8
"""Objects of a store that are read at once."""

AHEAD = 32
"""Objects that are read before their turn."""

ROWS = 64
"""Images of a Parquet file that are held at once."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One image of a shard.

    number: its place in the shard. name: its path or URL; within a tar `x.tar#member`, within Parquet
    `x.parquet#row`. data: a path, or the bytes of the image; None if they could not be read. error: why.
    """

    number: int
    name: str
    data: Path | bytes | None = None
    error: str | None = None


@dataclass
class ShardReader:
    """Reads the images of a shard.

    column: of Parquet files, None to look for one. wanted: whether the image of a number is needed; others
    are counted, but not read where that can be avoided. sleep: how to wait before another attempt.
    """

    column: str | None = None
    wanted: Callable[[int], bool] = lambda number: True
    sleep: Callable[[float], None] = time.sleep
    _numbers: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def read(self, rows: Iterable[Container]) -> Iterator[Item]:
        """Yield the wanted images of a shard's rows in order; failed reads are items with an error."""
        for single, group in itertools.groupby(rows, is_single):
            if single:
                yield from self._singles(group)
                continue
            for row in group:
                yield from self._resumed(row)

    def _singles(self, rows: Iterable[Container]) -> Iterator[Item]:
        """Yield single images: local ones as paths, those in stores as bytes that were read ahead."""
        waiting: deque[tuple[int, str, Future[bytes] | None]] = deque()
        with ThreadPoolExecutor(READERS, thread_name_prefix="faceum-read") as pool:
            try:
                for row in rows:
                    number, name = next(self._numbers), os.fsdecode(row.location)
                    if self.wanted(number):
                        remote = pool.submit(read_bytes, name) if is_url(name) else None
                        waiting.append((number, name, remote))
                    if len(waiting) > AHEAD:
                        yield _finish(*waiting.popleft())
                while waiting:
                    yield _finish(*waiting.popleft())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _resumed(self, row: Container) -> Iterator[Item]:
        """Yield the images of a container; a read that fails midway goes on after the last image.

        The last failure ends the container with items that carry the error.
        """
        location = os.fsdecode(row.location)
        members = _tar_members if row.part is None else self._parquet_rows
        passed = 0
        more = waits() if is_url(location) else iter(())
        while True:
            try:
                with translate_errors():
                    for name, data in itertools.islice(members(location, row), passed, None):
                        passed += 1
                        number = next(self._numbers)
                        if self.wanted(number):
                            yield Item(number=number, name=f"{location}#{name}", data=data or b"")
                return
            except (*FINAL, FaceumError) as error:
                failure: Exception = error
            except OSError as error:
                failure = error
                wait = next(more, None)
                if wait is not None:
                    self.sleep(wait)
                    continue
            yield from self._lost(row, location, passed, describe_failure(location, failure))
            return

    def _lost(self, row: Container, location: str, passed: int, error: str) -> Iterator[Item]:
        """Yield an item for each image that a container should still hold, or one where that is not known.

        Every image keeps its number, whichever read fails.
        """
        for place in range(passed, passed + 1 if row.images is None else row.images):
            number = next(self._numbers)
            name = location if row.images is None else f"{location}#row {place} of part {row.part}"
            if self.wanted(number):
                yield Item(number=number, name=name, error=error)

    def _parquet_rows(self, location: str, row: Container) -> Iterator[tuple[str, bytes | None]]:
        import_pyarrow()
        import pyarrow.parquet as pq

        with open_file(location) as opened, pq.ParquetFile(opened) as file:
            column = image_column(file.schema_arrow, self.column, location)
            if not holds_images(file.schema_arrow, column):
                raise ValueError(f"column {column!r} no longer holds images")
            group = row.part or 0
            number = sum(file.metadata.row_group(before).num_rows for before in range(group))
            for batch in file.iter_batches(ROWS, row_groups=[group], columns=[column]):
                for cell in batch.column(0).to_pylist():
                    yield str(number), cell["bytes"] if isinstance(cell, dict) else cell
                    number += 1


def is_single(row: Container) -> bool:
    """Return whether a row of the plan is one image, and not a file of many."""
    return row.part is None and not row.location.endswith(tuple(map(str.encode, TAR_SUFFIXES)))


def _tar_members(location: str, row: Container) -> Iterator[tuple[str, bytes | None]]:
    """Yield the images in a tar shard, from its beginning to its end."""
    with open_file(location) as opened, tarfile.open(fileobj=opened, mode="r|*") as tar:
        for member in tar:
            hidden = os.path.basename(member.name).startswith(".")
            if member.isfile() and is_image_name(member.name) and not hidden:
                content = tar.extractfile(member)
                yield member.name, content.read() if content is not None else None


def _finish(number: int, name: str, remote: Future[bytes] | None) -> Item:
    """Return the item of a single image, when its bytes have come."""
    if remote is None:
        return Item(number=number, name=name, data=Path(name))
    try:
        return Item(number=number, name=name, data=remote.result())
    except READ_ERRORS as error:
        return Item(number=number, name=name, error=describe_failure(name, error))
