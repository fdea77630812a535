"""How fast, how safe and how small `faceum batch` is.

    python benchmarks/batch.py rate               # two workers against analyze_many in one process
    python benchmarks/batch.py ray                # two workers of the Ray engine against two of the local one
    python benchmarks/batch.py kills --kills 20   # kill -9 of workers and parents, then compare the results
    python benchmarks/batch.py memory             # what a worker holds over 50,000 small images
    python benchmarks/batch.py plan               # 100,000,000 paths: memory of the plan, time to resume

Images are drawn from the example portrait, and the network is the shipped one; `rate` and `ray` take the
images of many_images.py. `memory` uses small cropped faces and one task. `plan` reads paths from standard
input, and simulates results for half of the shards by empty files.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
from in_turn import ROOT, stamp
from many_images import resident, written

from faceum.analyzer import FaceAnalyzer
from faceum.jobs.batch import BatchConfig, Tally, prepare_batch, shards_to_do
from faceum.jobs.check import batch_status, verify_batch
from faceum.jobs.folder import BatchFolder
from faceum.jobs.local import run_local
from faceum.jobs.plan import read_shard
from faceum.jobs.read import read_results
from faceum.jobs.worker import Assignment, Job, ShardWorker, analyzer_options

COMMAND = (sys.executable, "-m", "faceum", "batch")
CHILD = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
PATHS = """
import sys
for first in range(0, int(sys.argv[1]), 1000):
    head = f"/lake/camera-{first // 1000 % 997:03d}/2026/{first // 86400:05d}/{first // 1000:09d}"
    sys.stdout.write("".join([f"{head}{number:03d}.jpg\\n" for number in range(1000)]))
"""
"""Prints so many paths of 46 characters."""


def job_of(source: Path, out: Path, images_per_shard: int, **options: object) -> Job:
    """Plan a batch on the CPU with one thread a worker."""
    arguments = analyzer_options("compact", device="cpu", threads=1, tasks=options.pop("tasks", None))
    config = BatchConfig(options=arguments, images_per_shard=images_per_shard, **options)
    return prepare_batch(str(source), out, config)


def small_images(folder: Path, count: int, broken: float) -> None:
    """Write small images of the portrait's head, a share of them broken."""
    portrait = cv2.imread(str(ROOT / "examples" / "astronaut.png"))
    head = cv2.resize(portrait[20:260, 100:340], (128, 128), interpolation=cv2.INTER_AREA)
    folder.mkdir()
    dice = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:06d}.jpg"
        if dice.random() < broken:
            path.write_bytes(b"\xff\xd8 broken")
        else:
            noise = dice.integers(-20, 20, (16, 16, 3)).repeat(8, axis=0).repeat(8, axis=1)
            cv2.imwrite(str(path), np.clip(head.astype(int) + noise, 0, 255).astype(np.uint8))


class Steady(Tally):
    """Notes when each shard is finished."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[tuple[float, int]] = []

    def advance(self, images: int) -> None:
        """Note when images were finished."""
        super().advance(images)
        self.times.append((time.perf_counter(), self.images))

    def rate(self, first: int, last: int) -> float:
        """Images a second between two counts: before the first workers start, after the last one may idle."""
        begun, before = next(time for time in self.times if time[1] >= first)
        ended, after = [time for time in self.times if time[1] <= last][-1]
        return (after - before) / (ended - begun)


def measure_rate(folder: Path, given: argparse.Namespace) -> None:
    """Print images a second of two workers over those of `analyze_many`, both without their start."""
    images = folder / "images"
    images.mkdir()
    paths = written(images, given.images)
    analyzer = FaceAnalyzer(device="cpu", threads=2)
    list(analyzer.analyze_many(paths[:8]))
    ratios = []
    for turn in range(given.rounds):
        begun = time.perf_counter()
        list(analyzer.analyze_many(paths))
        one = len(paths) / (time.perf_counter() - begun)
        shard = max(1, given.images // 10)
        job = job_of(images, folder / f"out-{turn}", shard)
        tally = Steady()
        run_local(job, shards_to_do(job), 2, tally)
        two = tally.rate(3 * shard, given.images - shard)
        ratios.append(two / one)
        print(f"  round {turn}: analyze_many {one:.2f} images/s, two workers {two:.2f} images/s", flush=True)
    print(f"  -> two workers / analyze_many: median {np.median(ratios):.3f} of {np.round(ratios, 3)}")


def measure_ray(folder: Path, given: argparse.Namespace) -> None:
    """Print images a second of two workers of the Ray engine over two of the local engine, in turns."""
    from faceum.jobs.ray_engine import connect, run_ray

    os.environ["PYTHONPATH"] = CHILD["PYTHONPATH"]
    images = folder / "images"
    images.mkdir()
    written(images, given.images)
    ratios = []
    for turn in range(given.rounds):
        rates = []
        for engine in ("local", "ray"):
            shard = max(1, given.images // 40)
            job = job_of(images, folder / f"{engine}-{turn}", shard)
            shards, tally = shards_to_do(job), Steady()
            if engine == "local":
                run_local(job, shards, 2, tally)
            else:
                with connect("local") as cluster:
                    run_ray(cluster, job, shards, 2, tally)
            assert tally.images == given.images and not tally.lost
            rates.append(tally.rate(12 * shard, given.images - 2 * shard))
        ratios.append(rates[1] / rates[0])
        print(f"  round {turn}: local {rates[0]:.2f} images/s, Ray {rates[1]:.2f} images/s", flush=True)
    print(f"  -> Ray / local: median {np.median(ratios):.3f} of {np.round(ratios, 3)}")


def measure_kills(folder: Path, given: argparse.Namespace) -> None:
    """Kill workers and parents at random moments, resume, and compare with an undisturbed run."""
    small_images(folder / "images", given.images, 0.02)
    whole, cut = folder / "whole", folder / "cut"
    command = [*COMMAND, str(folder / "images"), "--device", "cpu", "--images-per-shard", "100"]
    command += ["--workers", "2", "--threads", "1", "--max-failures", "0.5", "--tasks", "recognition,age"]
    begun = time.perf_counter()
    subprocess.run([*command, "--out", str(whole)], env=CHILD, check=True, capture_output=True)
    undisturbed = time.perf_counter() - begun
    print(f"  undisturbed: {undisturbed:.0f} s", flush=True)
    dice, killed = random.Random(given.seed), {"parent": 0, "worker": 0}
    while sum(killed.values()) < given.kills:
        with subprocess.Popen([*command, "--out", str(cut)], env=CHILD, stderr=subprocess.DEVNULL) as parent:
            while parent.poll() is None and sum(killed.values()) < given.kills:
                time.sleep(dice.uniform(0, 2 * undisturbed / given.kills))
                workers = children(parent.pid)
                if dice.random() < 0.5 or not workers:
                    killed["parent"] += kill(parent.pid)
                    break
                killed["worker"] += kill(dice.choice(workers))
        if len(BatchFolder(cut).done()) == len(BatchFolder(whole).done()):
            print(f"  done after {sum(killed.values())} kills", flush=True)
            break
    last = subprocess.run(
        [*command, "--out", str(cut)], env=CHILD, capture_output=True, text=True, check=False
    )
    problems = verify_batch(cut)
    tables = [read_results(path, "all").to_table() for path in (whole, cut)]
    print(f"  killed {killed}; last run: exit code {last.returncode}; {batch_status(cut).counts.to_dict()}")
    print(
        f"  -> problems found by verify: {problems or 'none'}; equal results: {tables[0].equals(tables[1])}"
    )


def children(pid: int) -> list[int]:
    """The worker processes of a parent."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        found = [int(one) for task in tasks for one in (task / "children").read_text().split()]
        return [one for one in found if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
    except OSError:
        return []


def kill(pid: int) -> int:
    """Kill -9 a process; 1 if it was there."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


def measure_memory(folder: Path, given: argparse.Namespace) -> None:
    """Print what one worker holds on its way through many small images."""
    small_images(folder / "images", 500, 0.02)
    names = sorted(str(path) for path in (folder / "images").iterdir())
    (folder / "list.txt").write_text("\n".join(names * (given.images // 500)))
    job = job_of(folder / "list.txt", folder / "out", 1000, cropped=True, tasks=["age"])
    worker, held = ShardWorker(job), []
    for shard in shards_to_do(job):
        worker.run(Assignment(shard=shard))
        held.append(resident())
    _, second, last = np.array_split(held, 3)
    print(f"  after each fifth of the shards: {np.round(held[len(held) // 5 - 1 :: len(held) // 5], 1)} MB")
    print(
        f"  -> the last third holds {last.mean() - second.mean():+.2f} MB more than the second; single "
        f"values stray by {second.std():.2f} and {last.std():.2f} MB; most {max(held):.0f} MB"
    )


def measure_plan(folder: Path, given: argparse.Namespace) -> None:
    """Plan paths from standard input, and time how long a run of the planned folder needs to begin."""
    out = folder / "out"
    begun = time.perf_counter()
    with subprocess.Popen([sys.executable, "-c", PATHS, str(given.paths)], stdout=subprocess.PIPE) as paths:
        command = [*COMMAND, "-", "--out", str(out), "--plan-only", "--device", "cpu"]
        with subprocess.Popen(command, env=CHILD, stdin=paths.stdout) as planner:
            _, status, usage = os.wait4(planner.pid, 0)
            planner.returncode = os.waitstatus_to_exitcode(status)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    manifest = json.loads((out / "manifest.json").read_text())
    seconds = time.perf_counter() - begun
    print(f"  {manifest['images']:,} paths in {manifest['shards']:,} shards: {seconds:.0f} s")
    print(f"  {size / 1e9:.2f} GB on disk")
    print(f"  -> peak memory of the planner {usage.ru_maxrss / 1e6:.2f} GB", flush=True)
    batch = BatchFolder(out)
    for shard in range(0, manifest["shards"], 2):
        path = batch.result_file(shard)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    begun = time.perf_counter()
    job = prepare_batch("-", out, BatchConfig(options=analyzer_options("compact", device="cpu")))
    shards = shards_to_do(job)
    rows = read_shard(batch, shards[-1])
    print(
        f"  -> resumed with {len(shards):,} shards to do and the last one's {len(rows)} rows read after "
        f"{time.perf_counter() - begun:.1f} s"
    )


MEASUREMENTS = {
    "rate": measure_rate,
    "ray": measure_ray,
    "kills": measure_kills,
    "memory": measure_memory,
    "plan": measure_plan,
}
IMAGES = {"rate": 120, "ray": 120, "kills": 5000, "memory": 50_000, "plan": 0}


def main() -> None:
    """Run one measurement and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=MEASUREMENTS)
    for name, value in {"images": 0, "rounds": 3, "kills": 20, "seed": 15, "paths": 100_000_000}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    given = parser.parse_args()
    given.images = given.images or IMAGES[given.what]
    stamp()
    with tempfile.TemporaryDirectory() as folder:
        MEASUREMENTS[given.what](Path(folder), given)


if __name__ == "__main__":
    main()
