"""Save and load the training states of a run; only the last K are kept.

A state is a folder `step-<number>`: safetensors files that torch.distributed.checkpoint writes, one for each
rank, with that rank's part of the tensors, and `state.json` with the numbers and the size of each file. It
can be loaded by any number of ranks, each of which reads only what it holds. Older versions wrote one file,
`step-<number>.pt`, which is read, too.
"""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
import torch.distributed.checkpoint as dcp
from safetensors import SafetensorError
from torch import Tensor

from faceum import old_names
from faceum.errors import FaceumError
from faceum.files import raise_output_errors, write_text
from faceum.train.distributed import any_rank, rank, wait_for_all, world

T = TypeVar("T")

BROKEN = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError, AssertionError,
    pickle.UnpicklingError, struct.error, SafetensorError,
)  # fmt: skip
"""What reading a truncated or foreign state raises; the errors share no class."""

REQUIRED = {"step", "network", "objective", "average", "average_updates", "optimizer", "scaler"}
"""Keys that every state in one file has."""

STATE = "state.json"
"""The file of a state's folder that is written last."""

CPU = torch.device("cpu")


class HasState(Protocol):
    """What is saved and loaded: see `faceum.train.trainer.Trainer`."""

    def tensors(self) -> dict[str, Tensor]:
        """Return the live tensors by name; loading writes into them."""

    def numbers(self) -> dict[str, Any]:
        """Return the rest of the state, ready for JSON."""

    def load_numbers(self, numbers: Mapping[str, Any]) -> None:
        """Take over what `numbers` returned."""

    def load_single_file(self, state: Mapping[str, Any]) -> None:
        """Load a whole state of an older version."""


class Checkpoints:
    """The training states of one run: `step-<number>` folders, and old `step-<number>.pt` files."""

    def __init__(self, folder: str | Path, *, keep: int = 2) -> None:
        self.folder, self.keep = Path(folder), keep

    def steps(self) -> dict[int, Path]:
        """Return step -> folder or file, oldest first, without unfinished ones."""
        found = {
            int(path.stem[5:]): path
            for path in self.folder.glob("step-*")
            if path.stem[5:].isdigit() and path.suffix in ("", ".pt")
        }
        return dict(sorted(found.items()))

    def save(self, step: int, holder: HasState, **more: Any) -> Path:
        """Write the state of a step as a whole or not at all, then remove all but the last K.

        All ranks must call it. more: further numbers. Raises OutputError on every rank if one cannot write.
        """
        path = self.folder / f"step-{step:08d}"
        unfinished = self.folder / f".step-{step:08d}.part"
        with raise_output_errors(path, within=False):
            try:
                if rank() == 0:
                    shutil.rmtree(unfinished, ignore_errors=True)
                    unfinished.mkdir(parents=True)
                wait_for_all(CPU)
                _write_shards(unfinished, holder.tensors())
                if rank() == 0:
                    sizes = {file.name: file.stat().st_size for file in sorted(unfinished.iterdir())}
                    state = {"step": step, "ranks": world(), **holder.numbers(), **more, "files": sizes}
                    write_text(unfinished / STATE, json.dumps(state, indent=1) + "\n")
                    shutil.rmtree(path, ignore_errors=True)
                    unfinished.rename(path)
            finally:
                if rank() == 0:
                    shutil.rmtree(unfinished, ignore_errors=True)
        if rank() == 0:
            for old in list(self.steps().values())[: -self.keep]:
                _remove(old)
        wait_for_all(CPU)
        return path

    def load(
        self, holder: HasState, say: Callable[[str], None] = lambda sentence: None
    ) -> dict[str, Any] | None:
        """Load the newest state that can be read; return its numbers, or None if there is no state.

        All ranks must call it. say: called with a sentence for each state that cannot be read. Raises
        FaceumError if none can.
        """
        found = list(self.steps().values())
        for path in reversed(found):
            try:
                numbers = _on_all_ranks(partial(_read_numbers, path))
                _on_all_ranks(partial(_load_into, holder, path, numbers))
            except _UnreadableError as error:
                say(f"{path} cannot be read ({error}); falling back to the previous one.")
            else:
                return numbers
        if found:
            raise FaceumError(f"No checkpoint in {self.folder} can be read; remove them to start over.")
        return None


class _UnreadableError(Exception):
    """A state cannot be read by some rank."""


def _on_all_ranks(call: Callable[[], T]) -> T:
    """Return `call()`; raises _UnreadableError on every rank if it fails on one of them."""
    problem, answer = "", None
    try:
        answer = call()
    except FaceumError:
        raise
    except BROKEN as error:
        problem = type(error).__name__
    if any_rank(bool(problem)):
        raise _UnreadableError(problem or "by another process")
    return cast(T, answer)


def _load_into(holder: HasState, path: Path, numbers: dict[str, Any]) -> None:
    if not path.is_dir():
        holder.load_single_file(numbers)
        return
    with _first_error(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = dcp.HuggingFaceStorageReader(str(path))
        dcp.load(holder.tensors(), storage_reader=reader, no_dist=world() == 1)
    holder.load_numbers(numbers)


def _write_shards(folder: Path, tensors: dict[str, Tensor]) -> None:
    """Write each rank's part of the tensors; what all ranks hold is written once, by turns."""
    with _first_error(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of a single process
        writer = dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
        ready = {name: value.contiguous() for name, value in tensors.items()}
        dcp.save(ready, storage_writer=writer, no_dist=world() == 1)


@contextmanager
def _first_error() -> Iterator[None]:
    """Raise the error of the first rank that had one, in place of CheckpointException, on every rank."""
    try:
        yield
    except dcp.CheckpointException as error:
        raise next(iter(error.failures.values()))[0] from error


def _read_numbers(path: Path) -> dict[str, Any]:
    """Return the numbers of a state's folder, or all of an old file; raises one of BROKEN if damaged."""
    if not path.is_dir():
        return _read_single_file(path)
    numbers = json.loads((path / STATE).read_text(encoding="utf-8"))
    for name, size in numbers["files"].items():
        if (path / name).stat().st_size != size:
            raise ValueError(f"{name} does not have {size} bytes")
    return dict(numbers)


def _read_single_file(path: Path) -> dict[str, Any]:
    """Return a training state with today's names; raises one of BROKEN if the file does not hold one."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise TypeError(f"expected a dict, got {type(state).__name__}")
    if lacking := sorted(REQUIRED - state.keys()):
        raise KeyError(f"no {', '.join(lacking)}")
    return old_names.rename_training_state(state)


def _remove(path: Path) -> None:
    """Remove a state, so that no half of it is ever taken for one."""
    if path.is_dir():
        hidden = path.with_name(f".{path.name}.part")
        path.rename(hidden)
        shutil.rmtree(hidden, ignore_errors=True)
    else:
        path.unlink()
