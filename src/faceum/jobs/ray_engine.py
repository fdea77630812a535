"""The Ray engine: the same workers as actors of Ray Data, on a cluster that may lose workers and nodes."""

from __future__ import annotations

import json
import logging
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from faceum.errors import FaceumError
from faceum.extras import missing
from faceum.jobs.folder import BatchFolder, Counts, read_counts
from faceum.jobs.local import Monitor, run_local
from faceum.jobs.ray_network import Networks
from faceum.jobs.worker import Assignment, Job, ShardWorker
from faceum.stores import translate_errors
from faceum.threads import usable_threads

IN_FLIGHT = 2
"""Shards that an actor holds at once: the one under way and the next."""

MOST_BLOCKS = 10_000
"""Blocks into which the list of shards is cut; with more shards, some blocks hold several."""

STORE_BYTES = 200 << 20
"""Object store of a Ray that is started here: only numbers of shards and counts pass through it."""

SECONDS_TO_CONNECT = 10.0
"""How long the address of a cluster may take to answer."""


@dataclass(frozen=True, kw_only=True)
class RayCluster:
    """A connection to Ray. cpus, gpus: of all nodes together."""

    ray: Any
    cpus: int
    gpus: int


@contextmanager
def connect(address: str | None) -> Iterator[RayCluster]:
    """Connect to a Ray cluster, or start Ray on this machine if there is none; disconnect at the end.

    address: as of `ray.init`; None for the one that RAY_ADDRESS names. Raises FaceumError if Ray is not
    installed or the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.data
    except ImportError:
        raise FaceumError(missing("The Ray engine", "ray")) from None
    started: dict[str, Any] = {}
    if address is None and not os.environ.get("RAY_ADDRESS"):
        address = "local"
    if address == "local":
        started = {
            "num_cpus": usable_threads(),
            "object_store_memory": STORE_BYTES,
            "include_dashboard": False,
        }
    ours = not ray.is_initialized()
    try:
        if ours:
            _check_port(address)
            with translate_errors():  # some of Ray's are plain exceptions
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **started)
        resources = ray.cluster_resources()
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise FaceumError(
            f"Ray cannot be reached at {address} ({reason}); check --address and that the cluster runs."
        ) from None
    try:
        cpus, gpus = (int(resources.get(kind, 0)) for kind in ("CPU", "GPU"))
        yield RayCluster(ray=ray, cpus=cpus, gpus=gpus)
    finally:
        if ours:
            ray.shutdown()


def _check_port(address: str | None) -> None:
    """Raise OSError if nothing listens at an address; Ray itself would try for minutes."""
    match = re.fullmatch(r"([^/]+):(\d+)", address or os.environ.get("RAY_ADDRESS", ""))
    if match is not None:
        with socket.create_connection((match[1], int(match[2])), timeout=SECONDS_TO_CONNECT):
            pass


def run_ray(
    cluster: RayCluster,
    job: Job,
    shards: Sequence[int],
    workers: int,
    monitor: Monitor,
    networks: Networks | None = None,
) -> list[int]:
    """Analyze shards by actors of Ray Data; return those that were given up, because they kill every worker.

    An actor holds as many processors as the job has threads. At most `workers` of them run, and fewer while
    the cluster has less room. Ray starts lost actors again, on another node if theirs is gone, and gives them
    their shards once more; see `ShardActor`. networks: run the network for all of them, see `start_networks`.
    Raises FaceumError if a worker cannot go on.
    """
    data = cluster.ray.data
    data.DataContext.get_current().enable_progress_bars = False
    strategy = data.ActorPoolStrategy(
        min_size=1, max_size=workers, initial_size=workers, max_tasks_in_flight_per_actor=IN_FLIGHT
    )
    rows = data.from_items(
        [{"shard": shard} for shard in shards], override_num_blocks=min(len(shards), MOST_BLOCKS)
    ).map(
        ShardActor,
        fn_constructor_args=(job, networks),
        compute=strategy,
        num_cpus=job.options.get("threads", 1),
    )
    given_up = []
    for row in rows.iter_rows():
        for reason in json.loads(row["lost"]):
            monitor.lose(row["shard"], reason)
        if row["stop"]:
            raise FaceumError(row["stop"])
        if not row["counts"]:
            given_up.append(row["shard"])
            continue
        counts = Counts.from_dict(json.loads(row["counts"]))
        monitor.advance(counts.total)
        monitor.finish(row["shard"], counts)
    return given_up


class ShardActor:
    """Analyzes shards in an actor of Ray Data.

    An actor that Ray had to start again no longer works in its own process, because an image may have ended
    it: it has each shard done by a process of the local engine, which finds such an image.
    """

    def __init__(self, job: Job, networks: Networks | None = None) -> None:
        """job: see `Job`. networks: see `run_ray`."""
        self._job = job
        self._worker = ShardWorker(job, None if networks is None else networks.replace)
        self._restarted = _was_restarted()
        self._losses = ["the loss of its process or node"] if self._restarted else []

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the row of a shard with its counts as JSON, or with the sentence that stops the run.

        lost: how workers ended meanwhile, as JSON.
        """
        shard = int(row["shard"])
        counts, stop = None, ""
        try:
            if self._restarted:
                counts = self._run_in_child(shard)
            else:
                counts = self._worker.run(Assignment(shard=shard))
        except FaceumError as error:
            stop = str(error)
        except OSError as error:
            stop = f"{error.filename or 'A file'} cannot be used: {error.strerror or error}."
        losses, self._losses = self._losses, []
        return {
            "shard": shard,
            "counts": "" if counts is None else json.dumps(counts.to_dict()),
            "lost": json.dumps(losses),
            "stop": stop,
        }

    def _run_in_child(self, shard: int) -> Counts | None:
        """Return the counts of a shard that a process of the local engine does, None if it is given up."""
        folder = BatchFolder(self._job.folder)
        path = folder.result_file(shard)
        whole = path.exists() and not self._job.retry_broken and shard not in folder.to_retry()
        if not whole and run_local(self._job, [shard], 1, _Losses(self._losses)):
            return None
        return read_counts(path)


@dataclass(frozen=True)
class _Losses:
    """A monitor that keeps only how workers ended."""

    reasons: list[str]

    def advance(self, images: int) -> None:
        """Ignore progress."""

    def finish(self, shard: int, counts: Counts) -> None:
        """Ignore a finished shard."""

    def lose(self, shard: int | None, reason: str) -> None:
        """Keep the reason."""
        self.reasons.append(reason)


def _was_restarted() -> bool:
    import ray

    return bool(ray.get_runtime_context().was_current_actor_reconstructed)
