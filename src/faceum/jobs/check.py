"""Look at a batch's folder: how far it is, and whether every image has exactly one status."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceum.errors import DataError, count_noun
from faceum.jobs.columns import STATUSES, arrow_schema
from faceum.jobs.folder import METADATA, BatchFolder, Counts
from faceum.jobs.items import is_single
from faceum.jobs.manifest import Manifest, require_manifest
from faceum.jobs.plan import read_shard

LATELY = 3600.0
"""Seconds back over which the rate of a running batch is measured."""


@dataclass(frozen=True, kw_only=True)
class BatchStatus:
    """How far a batch is.

    manifest: what it is. done: shards with a result file. to_retry: those of them with images that the next
    run tries again. counts: of all images in result files. last_written: seconds since the last result, None
    without one. rate: images a second over the last hour, None without results in it.
    """

    manifest: Manifest
    done: int
    to_retry: int
    counts: Counts
    last_written: float | None
    rate: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        manifest = self.manifest
        return {
            "source": manifest.source,
            "model": manifest.settings["model"],
            "shards": manifest.shards,
            "shards_done": self.done,
            "shards_to_retry": self.to_retry,
            "images_planned": manifest.images or None,
            **self.counts.to_dict(),
            "seconds_since_last_result": self.last_written,
            "images_per_second": self.rate,
        }


def batch_status(path: Path) -> BatchStatus:
    """Return how far the batch in a folder is; DataError if there is none."""
    manifest, folder = require_manifest(path), BatchFolder(path)
    done = folder.done()
    counts, now = Counts(), time.time()
    lately: list[tuple[float, int]] = []
    newest = 0.0
    for shard, one in folder.counts(done):
        counts = counts + one
        written = folder.result_file(shard).stat().st_mtime
        newest = max(newest, written)
        if now - written < LATELY:
            lately.append((written - one.seconds, one.total))
    span = now - min((begun for begun, _ in lately), default=now)
    return BatchStatus(
        manifest=manifest,
        done=len(done),
        to_retry=len(folder.to_retry()),
        counts=counts,
        last_written=round(now - newest, 1) if done else None,
        rate=round(sum(images for _, images in lately) / span, 2) if span > 0 else None,
    )


def verify_batch(path: Path, progress: Callable[[], None] | None = None) -> list[str]:
    """Return a sentence for everything that is wrong with a batch's results; none if all is well.

    Checked are: a result file for every shard and no other; the checksum of every page; the columns; one
    status row for every image of the plan, with its name; as many face rows as the status rows say; and the
    recorded counts. progress: called after each shard. Raises DataError if there is no batch.
    """
    manifest, folder = require_manifest(path), BatchFolder(path)
    done = folder.done()
    wanted = set(range(manifest.shards))
    problems = [f"Shard {shard} is not done; run the batch again." for shard in sorted(wanted - done)]
    problems += [f"{folder.result_file(shard)} is not in the plan; remove it." for shard in done - wanted]

    def check(shard: int) -> list[str]:
        try:
            return [f"{folder.result_file(shard)}: {problem}" for problem in _check(folder, manifest, shard)]
        except DataError as error:
            return [str(error)]

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(check, sorted(wanted & done)):
            problems += found
            if progress is not None:
                progress()
    return problems


def _check(folder: BatchFolder, manifest: Manifest, shard: int) -> list[str]:
    """Return what is wrong with one result file."""
    import pyarrow
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(folder.result_file(shard), page_checksum_verification=True) as file:
            table = file.read(use_threads=False)
            described = json.loads(file.metadata.metadata[METADATA])
    except (OSError, pyarrow.ArrowException, KeyError, TypeError, ValueError) as error:
        return [f"cannot be read ({str(error).splitlines()[0]}); remove it and run the batch again."]
    problems = []
    if not table.schema.equals(arrow_schema(manifest.dim)):
        problems.append("its columns are not those of this version; remove it and run the batch again.")
        return problems
    heads = table.filter(pc.is_null(table["face"]))
    numbers = heads["image"].to_pylist()
    if numbers != list(range(len(numbers))):
        problems.append("expected one status row for each image, in order.")
    problems += _check_names(folder, shard, heads["source"].to_pylist())
    told = pc.sum(heads["faces"]).as_py() or 0
    if table.num_rows - heads.num_rows != told:
        problems.append(
            f"expected {count_noun(told, 'row')} of faces, got {table.num_rows - heads.num_rows}."
        )
    counted = {one["values"]: one["counts"] for one in pc.value_counts(heads["status"]).to_pylist()}
    recorded = {status: count for status, count in described["counts"]["images"].items() if count}
    if counted != recorded or not set(counted) <= set(STATUSES):
        problems.append(f"expected statuses {recorded}, got {counted}.")
    if set(table["shard"].to_pylist()) - {shard} or described["shard"] != shard:
        problems.append("holds rows of another shard.")
    return problems


def _check_names(folder: BatchFolder, shard: int, names: list[str]) -> list[str]:
    """Compare the names of the images with the plan, as far as it lists them."""
    planned = read_shard(folder, shard)
    if any(row.images is None and not is_single(row) for row in planned):
        return []  # a tar, whose members the plan does not know
    count = sum(1 if row.images is None else row.images for row in planned)
    if len(names) != count:
        return [f"expected {count_noun(count, 'image')}, got {len(names)}."]
    singles = [row.location.decode("utf-8", "backslashreplace") for row in planned if is_single(row)]
    if len(singles) == count and singles != names:
        return ["its images are not those of the plan."]
    return []
