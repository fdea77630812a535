"""How many threads this process may use, and how threads behave when the interpreter ends or forks."""

from __future__ import annotations

import atexit
import math
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path

from faceum.errors import ModelError

FEWEST_REFUSED = 65
"""Numbers of threads from here on are refused, unless the machine has a quarter as many processors."""

EXIT_SECONDS = 60.0
"""How long the interpreter waits at its end for calls that are under way."""


def usable_threads(
    threads: int | None = None,
    *,
    cgroup_root: str = "/sys/fs/cgroup",
    own_cgroups: str = "/proc/self/cgroup",
) -> int:
    """Return `threads` if it is given, else the number of processors that affinity and cgroup quota allow.

    A container with half a processor gets one thread. cgroup_root: where the cgroups are mounted.
    own_cgroups: the file that lists the process's own. Raises ModelError for what is no whole number,
    below 1, or far beyond the machine's processors.
    """
    if threads is not None:
        if isinstance(threads, bool) or not isinstance(threads, Integral):
            raise ModelError(f"threads is {threads!r}, expected a whole number; leave it out to use all.")
        threads = int(threads)
        if threads < 1:
            raise ModelError(f"threads is {threads}, but a run needs at least 1; leave it out to use all.")
        most = max(FEWEST_REFUSED - 1, 4 * (os.cpu_count() or 1))
        if threads > most:
            raise ModelError(f"threads is {threads}, expected at most {most}; leave it out to use all.")
        return threads
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _cgroup_processors(Path(cgroup_root), Path(own_cgroups))
    return max(1, min(processors, math.ceil(quota))) if quota is not None else max(1, processors)


def _cgroup_processors(root: Path, own: Path) -> float | None:
    """Return how many processors the cgroups grant; None without a limit.

    In version 2 the tightest of the process's own cgroup and all above it counts; in version 1 the root.
    """
    granted = [_count_granted(_read(folder / "cpu.max").split()) for folder in _list_own_and_above(root, own)]
    granted.append(
        _count_granted([_read(root / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period")])
    )
    return min((quota for quota in granted if quota is not None), default=None)


def _list_own_and_above(root: Path, own: Path) -> list[Path]:
    """Return the process's cgroup of version 2, from the line "0::/path", and those above it."""
    lines = [line for line in _read(own).splitlines() if line.startswith("0::/")]
    # In a cgroup namespace the path may leave what is mounted; then only the root is there.
    parts = [part for part in lines[0].removeprefix("0::/").split("/") if part] if lines else []
    if ".." in parts:
        parts = []
    return [root.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _count_granted(both: Sequence[str]) -> float | None:
    """Return the processors that a quota and a period mean."""
    both = [word.strip() for word in both]
    if len(both) != 2 or not all(word.isdigit() for word in both) or int(both[1]) == 0:
        return None
    return int(both[0]) / int(both[1])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


class _Calls:
    """The calls under way in this process."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.count = 0
        self.exiting = False


_CALLS = _Calls()


@contextmanager
def finish_before_exit() -> Iterator[None]:
    """Let the interpreter's end wait for this block, and hold daemon threads that enter it after that.

    A daemon thread that returns from native code while the interpreter is finalized is unwound through it,
    which aborts the process.
    """
    calls = _CALLS
    with calls.changed:
        while calls.exiting and threading.current_thread().daemon:
            calls.changed.wait()  # for ever: the process is ending
        calls.count += 1
    try:
        yield
    finally:
        with calls.changed:
            calls.count -= 1
            calls.changed.notify_all()


def _wait_for_calls() -> None:
    with _CALLS.changed:
        _CALLS.exiting = True
        _CALLS.changed.wait_for(lambda: _CALLS.count == 0, timeout=EXIT_SECONDS)


def _forget_calls() -> None:
    """Reset the count in a forked process, which has none of its parent's other threads."""
    _CALLS.__init__()  # type: ignore[misc]


atexit.register(_wait_for_calls)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_calls)
