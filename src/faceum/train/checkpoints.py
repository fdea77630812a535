"""A trainer's state in, files of a run's folder out, and back: the last K, whole or not at all."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from faceum.errors import FaceumError
from faceum.files import whole_file

BROKEN = (RuntimeError, EOFError, OSError, pickle.UnpicklingError, KeyError)
"""What torch.load raises for a file that was cut short or is none of its own."""


class Checkpoints:
    """The states of one run, `step-<number>.pt` in a folder."""

    def __init__(self, folder: str | Path, *, keep: int = 2) -> None:
        self.folder, self.keep = Path(folder), keep

    def steps(self) -> dict[int, Path]:
        """Step -> file, oldest first; unfinished files have another name and are not seen."""
        files = {
            int(path.stem[5:]): path for path in self.folder.glob("step-*.pt") if path.stem[5:].isdigit()
        }
        return dict(sorted(files.items()))

    def save(self, state: dict[str, Any]) -> Path:
        """Write the state of a step, then remove all but the last K."""
        path = self.folder / f"step-{state['step']:08d}.pt"
        with whole_file(path, ending=".part") as beside:
            torch.save(state, beside)
        for old in list(self.steps().values())[: -self.keep]:
            old.unlink()
        return path

    def load(self, say: Callable[[str], None] = lambda sentence: None) -> dict[str, Any] | None:
        """The newest state that can be read, or None where none was written.

        say: is told of files that cannot be read. FaceumError where there are files and all are broken.
        """
        files = list(self.steps().values())
        for path in reversed(files):
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except BROKEN as error:
                say(f"{path} cannot be read ({type(error).__name__}); the one before it is taken.")
        if files:
            raise FaceumError(f"No checkpoint in {self.folder} can be read; remove them to begin anew.")
        return None
