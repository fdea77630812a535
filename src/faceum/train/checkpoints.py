"""Save and load the training states of a run; only the last K files are kept."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from faceum import old_names
from faceum.errors import FaceumError
from faceum.files import whole_file

BROKEN = (
    RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, TypeError, AssertionError,
    pickle.UnpicklingError, struct.error,
)  # fmt: skip
"""What torch.load raises for a truncated or foreign file; its errors share no class."""

REQUIRED = {"step", "network", "objective", "average", "average_updates", "optimizer", "scaler"}
"""Keys that every state has."""


class Checkpoints:
    """The training states of one run: `step-<number>.pt` files in a folder."""

    def __init__(self, folder: str | Path, *, keep: int = 2) -> None:
        self.folder, self.keep = Path(folder), keep

    def steps(self) -> dict[int, Path]:
        """Return step -> file, oldest first, without unfinished files."""
        files = {
            int(path.stem[5:]): path for path in self.folder.glob("step-*.pt") if path.stem[5:].isdigit()
        }
        return dict(sorted(files.items()))

    def save(self, state: dict[str, Any]) -> Path:
        """Write the state of a step as a whole or not at all, then remove all but the last K."""
        path = self.folder / f"step-{state['step']:08d}.pt"
        with whole_file(path, ending=".part") as partial:
            torch.save(state, partial)
        for old in list(self.steps().values())[: -self.keep]:
            old.unlink()
        return path

    def load(self, say: Callable[[str], None] = lambda sentence: None) -> dict[str, Any] | None:
        """Return the newest state that can be read, or None if there is no file.

        say: called with a sentence for each file that cannot be read. Raises FaceumError if no file can.
        """
        files = list(self.steps().values())
        for path in reversed(files):
            try:
                return _read_state(path)
            except BROKEN as error:
                say(f"{path} cannot be read ({type(error).__name__}); falling back to the previous one.")
        if files:
            raise FaceumError(f"No checkpoint in {self.folder} can be read; remove them to start over.")
        return None


def _read_state(path: Path) -> dict[str, Any]:
    """Return a training state with today's names; raises one of BROKEN if the file does not hold one."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise TypeError(f"expected a dict, got {type(state).__name__}")
    if lacking := sorted(REQUIRED - state.keys()):
        raise KeyError(f"no {', '.join(lacking)}")
    return old_names.rename_training_state(state)
