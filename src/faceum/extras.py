"""What the base install can live without: whether it is there, and how to get it."""

from __future__ import annotations

import importlib.util

INSTALL_TORCH = "pip install 'moe-faceum[torch]'"
"""What brings the torch runtime, conversion and training."""


def torch_is_installed() -> bool:
    """Whether torch can be imported; it is not imported for that."""
    return importlib.util.find_spec("torch") is not None
