"""Read a batch's results as one data set."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from faceum.errors import FaceumError, unknown_name
from faceum.jobs.columns import arrow_schema, import_pyarrow
from faceum.jobs.folder import RESULTS, BatchFolder
from faceum.jobs.manifest import require_manifest

if TYPE_CHECKING:
    import pyarrow.dataset

ROWS = ("faces", "images", "all")


def read_results(folder: str | os.PathLike[str], rows: str = "faces") -> pyarrow.dataset.Dataset:
    """Return the results of `faceum batch` as a pyarrow Dataset, which reads only what it is asked for.

    rows: "faces" for the rows of faces, "images" for the status row of each image, "all" for both. The
    columns are described in docs/batch.md. A batch that still runs gives the shards that are done.
    Raises DataError if the folder holds no batch, FaceumError for other rows or without pyarrow.
    """
    import_pyarrow()
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    if rows not in ROWS:
        raise FaceumError(unknown_name(rows, "kind of rows", ROWS))
    path = Path(folder)
    manifest, batch = require_manifest(path), BatchFolder(path)
    files = [str(batch.result_file(shard)) for shard in sorted(batch.done())]
    data = ds.dataset(files or str(_empty(path)), schema=arrow_schema(manifest.dim), format="parquet")
    if rows == "all":
        return data
    is_image = pc.field("face").is_null()
    return data.filter(is_image if rows == "images" else ~is_image)


def _empty(path: Path) -> Path:
    """Return the folder of results, made if no shard is done yet."""
    results = path / RESULTS
    results.mkdir(exist_ok=True)
    return results
