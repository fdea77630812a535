"""Log a run to metrics.jsonl, to TensorBoard, and to a progress bar or plain lines on stderr."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from faceum.errors import RecipeError
from faceum.extras import missing
from faceum.files import write_text

SHOWN = ("total", "recognition", "age", "attributes", "expression", "parsing", "landmarks", "score")
"""Values that the bar and the lines show."""


class RunLogger:
    """The log of one run, a context manager. Ranks other than the first are `quiet`."""

    def __init__(
        self, folder: Path, *, steps: int, start: int = 0, tensorboard: bool = False, quiet: bool = False
    ) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, highlight=False, quiet=quiet)
        self.began = time.time()
        self.log = folder / "metrics.jsonl"
        self.writer = _tensorboard(folder, start) if tensorboard and not quiet else None
        self.progress = Progress(
            TextColumn("step"),
            MofNCompleteColumn(),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
        )
        self.task = self.progress.add_task("", total=steps, completed=start)
        if not quiet:
            forget_later_rows(self.log, start)

    def __enter__(self) -> RunLogger:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()
        if self.writer is not None:
            self.writer.close()

    def say(self, sentence: str) -> None:
        """Print a sentence."""
        self.console.print(sentence, markup=False, soft_wrap=True)

    def advance(self, step: int) -> None:
        """Move the progress bar."""
        self.progress.update(self.task, completed=step)

    def write(self, step: int, values: dict[str, float], kind: str = "train") -> None:
        """Write a row: step, kind ("train" or "validation"), seconds since the start, and the values."""
        if self.quiet:
            return
        row = {"step": step, "kind": kind, "seconds": round(time.time() - self.began, 1), **values}
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(f"{kind}/{name}", value, step)
        shown = "  ".join(f"{name} {values[name]:.3g}" for name in SHOWN if name in values)
        if kind == "train" and self.console.is_terminal:
            self.progress.update(self.task, completed=step, description=shown)
        else:
            self.say(f"step {step} {kind}: {shown}")


def forget_later_rows(log: Path, step: int) -> None:
    """Remove the rows that an interrupted run logged after its last checkpoint, and unreadable ones."""
    if log.exists():
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        write_text(log, "".join(line for line in lines if line.endswith("\n") and _step_of(line) <= step))


def _step_of(line: str) -> float:
    """Return a row's step, infinity if the row cannot be read."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return float("inf")


def _tensorboard(folder: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise RecipeError(missing("tensorboard=true", "tensorboard")) from error
    return SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)
