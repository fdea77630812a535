"""The plan of a batch: every image in its shard, written once, in files that are read shard by shard.

A row of the plan is an image, a tar shard or a row group of a Parquet file; a row group of the plan is a
shard. Memory does not grow with the number of images.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from faceum.errors import DataError, OutputError
from faceum.files import whole_file, write_text
from faceum.jobs.columns import import_pyarrow
from faceum.jobs.folder import PER_FOLDER, PLAN, BatchFolder
from faceum.jobs.sources import Container

SUMMARY = "plan.json"
"""The file in a plan's folder that says how much it lists, and of what."""


@dataclass(frozen=True, kw_only=True)
class PlanSize:
    """How much a plan lists.

    source: of what it is the plan. shards: their number. images: as far as their number is known.
    images_per_shard: what a shard of single images holds.
    """

    source: str
    shards: int
    images: int
    images_per_shard: int


def write_plan(folder: Path, source: str, listed: Iterable[Any], images_per_shard: int) -> PlanSize:
    """Write the plan of what `list_source` yields; of several processes that do so at once, one wins.

    The plan is a folder that gets its name when it is complete. Raises DataError if there is no image or a
    plan of something else is there, and OutputError if the plan cannot be written.
    """
    temporary = folder / f".{PLAN}-{secrets.token_hex(4)}"
    try:
        with PlanWriter(temporary, images_per_shard) as writer:
            for one in listed:
                if isinstance(one, Container):
                    writer.add_container(one)
                else:
                    writer.add_images(one)
        if not writer.shards:
            raise DataError("The source holds no image, tar shard or row of Parquet; check its name.")
        size = PlanSize(
            source=source, shards=writer.shards, images=writer.images, images_per_shard=images_per_shard
        )
        write_text(temporary / SUMMARY, json.dumps(asdict(size)) + "\n")
        return _put_in_place(temporary, folder / PLAN, size)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def read_shard(folder: BatchFolder, shard: int) -> list[Container]:
    """Return the rows of a shard: single images are containers of which only the location is known.

    Raises DataError if the plan cannot be read.
    """
    import pyarrow
    import pyarrow.parquet as pq

    path = folder.plan_file(shard)
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            table = file.read_row_group(shard % PER_FOLDER)
    except (OSError, IndexError, pyarrow.ArrowException) as error:
        raise DataError(f"{path} cannot be read as a plan ({error}); restore it.") from None
    columns = (table[name].to_pylist() for name in ("location", "part", "images"))
    return [Container(*row) for row in zip(*columns, strict=True)]


class PlanWriter:
    """Writes the files of a plan, shard by shard."""

    def __init__(self, folder: Path, images_per_shard: int) -> None:
        """folder: where the files go. images_per_shard: of single images, and the least of Parquet rows.

        Its fields `shards` and `images` count what has been written.
        """
        pa = import_pyarrow()
        self._folder, self._images_per_shard = folder, images_per_shard
        self._schema = pa.schema([("location", pa.binary()), ("part", pa.int32()), ("images", pa.int64())])
        self._images: list[bytes] = []
        self._containers: list[Container] = []
        self._open = ExitStack()
        self._writer: Any = None
        self.shards = self.images = 0

    def __enter__(self) -> PlanWriter:
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            if error[0] is None:
                self._write_images(everything=True)
                self._write_containers()
        finally:
            self._open.__exit__(*error)

    def add_images(self, locations: list[bytes]) -> None:
        """Add single images."""
        self._write_containers()
        self._images += locations
        self._write_images(everything=False)

    def add_container(self, container: Container) -> None:
        """Add a tar shard, which becomes a shard by itself, or a row group; small ones share a shard."""
        self._write_images(everything=True)
        self._containers.append(container)
        rows = sum(one.images or 0 for one in self._containers)
        if container.images is None or rows >= self._images_per_shard:
            self._write_containers()

    def _write_images(self, *, everything: bool) -> None:
        pa, size = import_pyarrow(), self._images_per_shard
        end = len(self._images) if everything else len(self._images) // size * size
        for first in range(0, end, size):
            some = self._images[first : min(first + size, end)]
            empty = pa.nulls(len(some), pa.int32()), pa.nulls(len(some), pa.int64())
            self._write(pa.Table.from_arrays([pa.array(some, pa.binary()), *empty], schema=self._schema))
            self.images += len(some)
        del self._images[:end]

    def _write_containers(self) -> None:
        if not self._containers:
            return
        rows, self._containers = self._containers, []
        self.images += sum(one.images or 0 for one in rows)
        names = self._schema.names
        values = [[getattr(one, name) for one in rows] for name in names]
        self._write(import_pyarrow().Table.from_pydict(dict(zip(names, values, strict=True)), self._schema))

    def _write(self, table: Any) -> None:
        if self.shards % PER_FOLDER == 0:
            self._next_file()
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self.shards += 1

    def _next_file(self) -> None:
        import pyarrow.parquet as pq

        self._open.close()
        path = self._folder / f"{self.shards // PER_FOLDER:05d}.parquet"
        temporary = self._open.enter_context(whole_file(path))
        self._writer = self._open.enter_context(
            pq.ParquetWriter(
                temporary, self._schema, compression="zstd", use_dictionary=False,
                column_encoding={"location": "DELTA_BYTE_ARRAY"}, write_page_checksum=True,
            )
        )  # fmt: skip


def _put_in_place(temporary: Path, plan: Path, size: PlanSize) -> PlanSize:
    """Give the plan its name; another process's plan of the same source is kept if it was quicker."""
    try:
        os.rename(temporary, plan)
        return size
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise OutputError(f"{plan} cannot be written: {error.strerror}.") from error
    try:
        found = PlanSize(**json.loads((plan / SUMMARY).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{plan} cannot be read as a plan ({error}); remove it.") from None
    if (found.source, found.images_per_shard) != (size.source, size.images_per_shard):
        raise DataError(f"{plan} is a plan of {found.source}; remove it, or choose another folder.")
    return found
