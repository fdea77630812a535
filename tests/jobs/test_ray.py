"""The Ray engine on a local cluster: the local engine's results, also when a node or a process is lost."""

from __future__ import annotations

import os
import pkgutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from faceum.errors import FaceumError
from faceum.image import write_image
from faceum.jobs.batch import Tally, shards_to_do
from faceum.jobs.check import verify_batch
from faceum.jobs.folder import Counts
from faceum.jobs.local import run_local
from faceum.jobs.ray_engine import connect, run_ray
from faceum.jobs.ray_network import start_networks
from faceum.jobs.read import read_results
from faceum.jobs.worker import Assignment, Job, ShardWorker

pytest.importorskip("ray", reason="needs the extra ray, which make does not install")

pytestmark = pytest.mark.slow

NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}

NETWORKS = """
import ray

class Counting:
    '''A runner that counts the crops which it is given.'''

    def __init__(self, inner, path=None):
        self.inner, self.path, self.crops = inner, path, 0
        self.card, self.runtime, self.device, self.model_id = (
            inner.card, inner.runtime, inner.device, inner.model_id
        )

    def run(self, crops, tokens, tasks):
        self.crops += len(crops)
        if self.path is not None:
            with open(self.path, "a") as file:
                file.write(f"{len(crops)}\\n")
        return self.inner.run(crops, tokens, tasks)

def start_counting(actor, path=None):
    actor._runner = Counting(actor._runner, path)
    context = ray.get_runtime_context()
    gpus = context.get_assigned_resources().get("GPU", 0)
    return {"node": context.get_node_id(), "gpus": gpus, "names": context.get_accelerator_ids()["GPU"]}

def counted(actor):
    return actor._runner.crops
"""

DETECTORS = """
import os, pathlib, signal, sys, time
from faceum.detect.base import load_detector

class Trap:
    '''A detector that finds nothing; a red image kills its process, as a fault in native code would.'''

    def detect(self, image, **_):
        if image[0, 0].tolist() == [255, 0, 0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return []

class Meeting:
    '''The usual detector, which begins when as many nodes of Ray have come to a folder as it waits for.'''

    def __init__(self, folder, nodes):
        self.folder, self.nodes, self.usual = pathlib.Path(folder), nodes, None

    def detect(self, image, **more):
        ray = sys.modules.get("ray")
        if ray is not None and ray.is_initialized():
            (self.folder / ray.get_runtime_context().get_node_id()).touch()
        while len(list(self.folder.iterdir())) < self.nodes:
            time.sleep(0.05)
        if self.usual is None:
            self.usual = load_detector(threads=1)
        return self.usual.detect(image, **more)
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A cluster of one node with one processor, to which nodes can be added; its workers find `modules`."""
    from ray.cluster_utils import Cluster

    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "detectors.py").write_text(DETECTORS)
    (tmp_path / "modules" / "networks.py").write_text(NETWORKS)
    source = str(Path(__file__).parents[2] / "src")
    places = [source, str(tmp_path / "modules"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(places))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    made = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    yield made
    made.shutdown()


class NodeRemover(Tally):
    """Removes a node from the cluster as soon as a shard is finished."""

    def __init__(self, cluster: Any, node: Any) -> None:
        super().__init__()
        self._cluster, self._node = cluster, node

    def finish(self, shard: int, counts: Counts) -> None:
        """Count a shard, and remove the node after the first one."""
        super().finish(shard, counts)
        if self.shards == 1:
            self._cluster.remove_node(self._node, allow_graceful=False)


def rows_of(job: Job) -> list[dict[str, Any]]:
    """All rows of a batch."""
    return read_results(job.folder, "all").to_table().to_pylist()


def test_a_node_lost_in_mid_run_changes_nothing(
    cluster: Any, make_job: Callable[..., Job], folder: Path, tmp_path: Path
) -> None:
    import detectors

    (tmp_path / "met").mkdir()
    jobs = []
    for out, nodes in (("local", 0), ("ray", 2)):
        job = make_job(folder, out=out, images_per_shard=1, tasks=["age"])
        meeting = detectors.Meeting(tmp_path / "met", nodes)
        jobs.append(replace(job, options={**job.options, "detector": meeting}))
    run_local(jobs[0], shards_to_do(jobs[0]), 1, Tally())
    node = cluster.add_node(**NODE)
    tally = NodeRemover(cluster, node)
    with connect(cluster.address) as connected:
        assert connected.cpus == 2
        assert run_ray(connected, jobs[1], shards_to_do(jobs[1]), 2, tally) == []
        assert sum(one["Alive"] for one in connected.ray.nodes()) == 1
    assert tally.lost == 1, "the node's actor had shards in hand, and another took them over"
    assert tally.shards == 12 and tally.counts.images == {"ok": 11, "broken": 1}
    assert not verify_batch(jobs[1].folder)
    assert rows_of(jobs[0]) == rows_of(jobs[1])
    assert shards_to_do(jobs[1]) == []


@pytest.fixture
def gpu_node(cluster: Any) -> Any:
    """A node of the cluster with a GPU that only Ray believes in, and no processor for workers."""
    return cluster.add_node(num_cpus=0, num_gpus=1, object_store_memory=100 << 20)


@pytest.fixture
def gpu_jobs(make_job: Callable[..., Job], folder: Path) -> tuple[Job, Job, int]:
    """A finished job, the same job to be done, and the crops that the network saw in the first."""
    import networks

    done, job = (make_job(folder, out=out, images_per_shard=2) for out in ("local", "ray"))
    made: list[Any] = []

    def count(runner: Any) -> Any:
        made.append(networks.Counting(runner))
        return made[0]

    worker = ShardWorker(done, count)
    for shard in shards_to_do(done):
        worker.run(Assignment(shard=shard))
    assert made[0].crops >= 8
    return done, job, made[0].crops


def test_the_network_runs_on_gpus_and_all_else_on_processors(
    cluster: Any, gpu_node: Any, gpu_jobs: tuple[Job, Job, int]
) -> None:
    import networks

    done, job, crops = gpu_jobs
    with connect(cluster.address) as connected:
        assert (connected.cpus, connected.gpus) == (1, 1)
        found = start_networks(connected.ray, connected.gpus, {**job.options, "device": "auto"})
        assert found is not None and found.device == "cpu", "there is no real GPU"
        (actor,) = found.actors
        place = connected.ray.get(actor.__ray_call__.remote(networks.start_counting))
        assert place == {"node": gpu_node.node_id, "gpus": 1.0, "names": ["0"]}
        first = shards_to_do(job)[:2]
        assert run_ray(connected, job, first, 1, Tally(), found) == []
        assert shards_to_do(job) == [2, 3, 4, 5]
        assert run_ray(connected, job, shards_to_do(job), 1, Tally(), found) == []
        assert connected.ray.get(actor.__ray_call__.remote(networks.counted)) == crops
    assert not verify_batch(job.folder) and not shards_to_do(job)
    assert rows_of(job) == rows_of(done)


def test_a_lost_gpu_leaves_the_network_to_the_processors(
    cluster: Any, gpu_node: Any, gpu_jobs: tuple[Job, Job, int], tmp_path: Path
) -> None:
    import networks

    done, job, crops = gpu_jobs
    calls, tally = tmp_path / "calls", Tally()
    with connect(cluster.address) as connected:
        found = start_networks(connected.ray, 1, {**job.options, "device": "auto"})
        assert found is not None
        connected.ray.get(found.actors[0].__ray_call__.remote(networks.start_counting, str(calls)))
        assert run_ray(connected, job, shards_to_do(job)[:2], 1, tally, found) == []
        cluster.remove_node(gpu_node, allow_graceful=False)
        late_at = time.monotonic() + 60
        while sum(one["Alive"] for one in connected.ray.nodes()) > 1:
            assert time.monotonic() < late_at, "Ray does not notice the loss"
            time.sleep(0.2)
        assert run_ray(connected, job, shards_to_do(job), 1, tally, found) == []
    seen = sum(map(int, calls.read_text().split()))
    assert 0 < seen < crops, "the GPU's actor did some, and not all"
    assert tally.shards == 6 and tally.lost == 0 and not verify_batch(job.folder)
    assert rows_of(job) == rows_of(done)


def test_a_network_that_cannot_start_on_a_gpu_is_one_sentence(
    cluster: Any, gpu_node: Any, make_job: Callable[..., Job], folder: Path
) -> None:
    job = make_job(folder, tasks=["age"])
    with connect(cluster.address) as connected:
        assert start_networks(connected.ray, 0, job.options) is None
        with pytest.raises(FaceumError, match="cannot start on a GPU of the Ray cluster .*--device cpu"):
            start_networks(connected.ray, 1, {**job.options, "device": "cuda"})


def test_an_image_that_kills_its_actor_becomes_a_row(
    cluster: Any, make_job: Callable[..., Job], tmp_path: Path
) -> None:
    import detectors

    for number in range(6):
        red = (255, 0, 0) if number == 2 else (9, 9, 9)
        write_image(tmp_path / "images" / f"{number}.png", np.full((64, 64, 3), red, np.uint8))
    job = make_job(tmp_path / "images", images_per_shard=3, tasks=["age"])
    job = replace(job, options={**job.options, "detector": detectors.Trap()})
    tally = Tally()
    with connect(cluster.address) as connected:
        assert run_ray(connected, job, shards_to_do(job), 1, tally) == []
    assert not verify_batch(job.folder)
    statuses = [row["status"] for row in rows_of(job) if row["face"] is None]
    assert statuses == ["ok", "ok", "crashed", "ok", "ok", "ok"]
    assert tally.lost >= 5  # the actor at least once, then twice together and twice alone in its processes
    assert tally.counts.total == 6


def test_an_actor_that_cannot_go_on_stops_the_run_and_the_next_resumes(
    cluster: Any, make_job: Callable[..., Job], folder: Path
) -> None:
    job = make_job(folder, tasks=["age"])
    missing = replace(job, options={**job.options, "model": "missing.onnx"})
    tally = Tally()
    with connect(cluster.address) as connected:
        with pytest.raises(FaceumError, match=r"missing\.onnx"):
            run_ray(connected, missing, shards_to_do(missing), 1, Tally())
        assert run_ray(connected, job, shards_to_do(job)[:1], 1, tally) == []
        assert len(shards_to_do(job)) == 2
        run_ray(connected, job, shards_to_do(job), 1, tally)
    assert tally.shards == 3 and not verify_batch(job.folder)


def test_a_cluster_that_is_not_there_is_one_sentence() -> None:
    with pytest.raises(FaceumError, match=r"Ray cannot be reached at 127\.0\.0\.1:1 .*--address"):
        with connect("127.0.0.1:1"):
            raise AssertionError("there is no cluster")


@pytest.mark.parametrize("error", ["ray.exceptions.AuthenticationError", "builtins.Exception"])
def test_what_ray_raises_at_its_start_is_one_sentence(error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    def refuse(**_: object) -> None:
        raise pkgutil.resolve_name(error)("There is no token.")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(FaceumError, match=r"Ray cannot be reached at local \(There is no token.*--address"):
        with connect("local"):
            raise AssertionError("there is no cluster")
