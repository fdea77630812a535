"""How many threads this process may really use: affinity and cgroup limits in, a number out."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from faceum.errors import ModelError


def usable_threads(
    threads: int | None = None,
    *,
    cgroup_root: str = "/sys/fs/cgroup",
    own_cgroups: str = "/proc/self/cgroup",
) -> int:
    """`threads` where it is given, else the processors that affinity and the cgroup's quota leave us.

    A container that is promised half a processor gets one thread. cgroup_root: where the cgroups are mounted.
    own_cgroups: the file that tells the process's own. ModelError for a number below 1.
    """
    if threads is not None:
        if threads < 1:
            raise ModelError(f"threads is {threads}, but a run needs at least 1; leave it out to use all.")
        return threads
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_processors(Path(cgroup_root), Path(own_cgroups))
    return max(1, min(processors, math.ceil(quota))) if quota is not None else max(1, processors)


def _cgroup_processors(root: Path, own: Path) -> float | None:
    """How many processors' time the cgroups grant; None without a limit.

    Of version 2 the process's own cgroup and all above it count, the tightest most; of version 1 the root's.
    """
    granted = [_granted(_read(folder / "cpu.max").split()) for folder in _own_and_above(root, own)]
    granted.append(_granted([_read(root / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period")]))
    return min((quota for quota in granted if quota is not None), default=None)


def _own_and_above(root: Path, own: Path) -> list[Path]:
    """The process's cgroup of version 2, told by a line "0::/path", and those above it up to the root."""
    lines = [line for line in _read(own).splitlines() if line.startswith("0::/")]
    # In a namespace of its own a path may climb out of what is mounted; the root is then all there is.
    parts = [part for part in lines[0].removeprefix("0::/").split("/") if part] if lines else []
    if ".." in parts:
        parts = []
    return [root.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _granted(both: Sequence[str]) -> float | None:
    """Quota and period -> processors."""
    both = [word.strip() for word in both]
    if len(both) != 2 or not all(word.isdigit() for word in both) or int(both[1]) == 0:
        return None
    return int(both[0]) / int(both[1])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
