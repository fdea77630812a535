"""Time things in turn within one run, and report medians, spread, machine and versions.

Every round times each thing once, one after the other, so that other load on the machine affects all alike. A
ratio is the median over the rounds of the two times of one round; its spread is the middle half.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
THREADS = 2
PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "torch")


@dataclass(frozen=True, kw_only=True)
class Times:
    """Seconds of each round: on the clock, and of all processors together."""

    wall: np.ndarray
    processor: np.ndarray

    def spoken(self) -> str:
        """Return the median and middle half, in milliseconds."""
        low, middle, high = np.percentile(self.wall, (25, 50, 75)) * 1e3
        return f"{middle:.4g} ms ({low:.4g}-{high:.4g}), processors {np.median(self.processor) * 1e3:.4g} ms"


def in_turn(things: Mapping[str, Callable[[], object]], rounds: int, *, warm: int = 1) -> dict[str, Times]:
    """Call each thing once a round, in the given order; the first `warm` rounds are not counted."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in things}
    for round_ in range(warm + rounds):
        for name, thing in things.items():
            before = time.perf_counter(), processors()
            thing()
            if round_ >= warm:
                spent[name].append((time.perf_counter() - before[0], processors() - before[1]))
    return {
        name: Times(wall=np.array(pairs)[:, 0], processor=np.array(pairs)[:, 1])
        for name, pairs in spent.items()
    }


def processors() -> float:
    """Return processor seconds of this process and of its children that have ended."""
    spent = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def ratio(times: Mapping[str, Times], one: str, other: str, *, work: bool = True) -> str:
    """Return `one` over `other` by the clock, with its middle half; work: also by processor time."""
    low, middle, high = np.percentile(times[one].wall / times[other].wall, (25, 50, 75))
    clock = f"{middle:.3f} ({low:.3f}-{high:.3f})"
    if not work:
        return clock
    share = np.median(times[one].processor) / max(float(np.median(times[other].processor)), 1e-9)
    return f"{clock}, by processor time {share:.3f}"


def show(times: Mapping[str, Times]) -> None:
    """Print each thing's times."""
    for name, spent in times.items():
        print(f"  {name}: {spent.spoken()}")


def claim(sentence: str, times: Mapping[str, Times], one: str, other: str) -> None:
    """Print a claim's ratio below its times."""
    show({name: times[name] for name in (one, other)})
    print(f"  -> {sentence}: {ratio(times, one, other)}\n", flush=True)


def stamp() -> None:
    """Print commit, machine, versions and load: without them a number says nothing."""
    commit = _said("git", "rev-parse", "--short", "HEAD") or os.environ.get("COMMIT", "unknown")
    commit += "+" if _said("git", "status", "-s") else ""
    cpu = next(
        (line for line in _read("/proc/cpuinfo").splitlines() if "model name" in line), platform.machine()
    )
    versions = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            versions.append(f"no {name}")
    print(f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, commit {commit}, {cpu.split(':')[-1].strip()}, ")
    print(f"{len(os.sched_getaffinity(0))} processors, load {os.getloadavg()[0]:.1f}")
    print(f"Python {platform.python_version()}, {', '.join(versions)}; {' '.join(sys.argv)}\n", flush=True)


def options(doc: str, **defaults: object) -> argparse.Namespace:
    """Return the command line of a benchmark: an option for each default, of its type."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    return parser.parse_args()


def child(code: str, *arguments: str, path: Sequence[str] = ()) -> Callable[[], object]:
    """Return something to time: a fresh interpreter that runs `code` (a module's name begins with -m)."""
    command = [sys.executable, *(["-m", code[2:].strip()] if code.startswith("-m") else ["-c", code])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *path])}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package is compiled once
    return lambda: subprocess.run(
        [*command, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL, cwd=ROOT
    )


def _said(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
