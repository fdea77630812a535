"""Write a shard's result file, and read an earlier one whose failed images are tried again."""

from __future__ import annotations

import json
import os
import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from faceum.errors import DataError
from faceum.files import whole_file
from faceum.jobs.columns import BROKEN, RETRIED
from faceum.jobs.folder import METADATA, Counts
from faceum.jobs.manifest import software_versions


class EarlierRows:
    """The rows of an earlier result file, without those of images that are tried again."""

    def __init__(self, table: Any, statuses: dict[int, str], retried: tuple[str, ...]) -> None:
        """table: all rows. statuses: of the images by their number. retried: those to be tried again."""
        import pyarrow as pa

        self._known = {number for number, status in statuses.items() if status not in retried}
        kept = [number in self._known for number in table["image"].to_pylist()]
        self._table = table.filter(pa.array(kept, pa.bool_()))
        images = Counter(status for number, status in statuses.items() if number in self._known)
        faces = self._table.num_rows - sum(images.values())
        self.kept_counts = Counts(images=images, faces=faces)

    @classmethod
    def read(cls, path: Path, *, retry_broken: bool) -> EarlierRows:
        """Read a result file; DataError if it cannot be read."""
        import pyarrow
        import pyarrow.parquet as pq

        try:
            table = pq.read_table(path, page_checksum_verification=True, partitioning=None)
        except (OSError, pyarrow.ArrowException) as error:
            raise DataError(
                f"{path} cannot be read as a result file ({error}); remove it and run the batch again."
            ) from None
        columns = (table[name].to_pylist() for name in ("image", "status"))
        statuses = {number: status for number, status in zip(*columns, strict=True) if status is not None}
        return cls(table, statuses, (*RETRIED, BROKEN) if retry_broken else RETRIED)

    def lacks(self, number: int) -> bool:
        """Return whether an image is to be analyzed."""
        return number not in self._known

    def merge(self, table: Any) -> Any:
        """Return the kept and the new rows together, in the order of images and faces."""
        import numpy as np
        import pyarrow as pa

        both = pa.concat_tables([self._table, table])
        faces = both["face"].fill_null(-1).to_numpy()
        return both.take(pa.array(np.lexsort((faces, both["image"].to_numpy()))))


class ResultWriter:
    """Writes a result file, whole or not at all."""

    def __init__(self, path: Path) -> None:
        """path: of the file; nothing is written before the block is entered."""
        self._path = path
        self._files = ExitStack()
        self._writer: Any = None

    def __enter__(self) -> ResultWriter:
        self._temporary = self._files.enter_context(whole_file(self._path))
        return self

    def __exit__(self, *error: Any) -> None:
        self._files.__exit__(*error)

    def write(self, table: Any) -> None:
        """Write rows as a row group."""
        import pyarrow.parquet as pq

        if self._writer is None:
            self._writer = self._files.enter_context(
                pq.ParquetWriter(self._temporary, table.schema, compression="zstd", write_page_checksum=True)
            )
        if table.num_rows:
            self._writer.write_table(table)

    def describe(self, counts: Counts, shard: int) -> None:
        """Record in the file what it holds, and who wrote it."""
        described = {
            "shard": shard,
            "counts": counts.to_dict(),
            "software": software_versions(),
            "host": f"{socket.gethostname()}:{os.getpid()}",
        }
        self._writer.add_key_value_metadata({METADATA.decode(): json.dumps(described)})
