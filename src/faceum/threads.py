"""Layer 0. How many threads this process may really use: affinity and cgroup limits in, a number out."""

from __future__ import annotations

import math
import os
from pathlib import Path

from faceum.errors import ModelError


def usable_threads(threads: int | None = None, *, cgroup_root: str = "/sys/fs/cgroup") -> int:
    """`threads` where it is given, else the processors that affinity and the cgroup's quota leave us.

    A container that is promised half a processor gets one thread. ModelError for a number below 1.
    """
    if threads is not None:
        if threads < 1:
            raise ModelError(f"threads is {threads}, but a run needs at least 1; leave it out to use all.")
        return threads
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_processors(Path(cgroup_root))
    return max(1, min(processors, math.ceil(quota))) if quota is not None else max(1, processors)


def _cgroup_processors(root: Path) -> float | None:
    """How many processors' time the cgroup (version 2, then 1) grants; None without a limit."""
    both = _read(root / "cpu.max").split()
    if len(both) != 2:
        both = [_read(root / "cpu" / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    if not all(word.isdigit() for word in both) or int(both[1]) == 0:
        return None
    return int(both[0]) / int(both[1])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
