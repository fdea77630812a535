"""Loads registered weights or a weights file as a torch module."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from faceum.errors import ModelError
from faceum.extras import INSTALL_TORCH, torch_is_installed
from faceum.weights.registry import resolve_model

if TYPE_CHECKING:
    from faceum.model.network import FaceUM


def load_model(name_or_path: str | Path = "compact") -> FaceUM:
    """Return the network as a torch module on the CPU, in evaluation mode.

    name_or_path: a registered name (`faceum models` lists them) or the path of a .safetensors file.
    Raises ModelError for an unknown name, a broken file, and if torch is not installed.
    """
    if not torch_is_installed():
        raise ModelError(f"load_model gives a torch module, and torch is not installed: {INSTALL_TORCH}.")
    from faceum.model.checkpoint import load_checkpoint

    model, _ = load_checkpoint(resolve_model(name_or_path, "safetensors"))
    return model.eval()
