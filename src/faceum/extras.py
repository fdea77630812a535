"""The packages that only some installs have: which extra brings each, and how to install it."""

from __future__ import annotations

import importlib.util

EXTRAS = {
    "onnxruntime": "cpu",
    "torch": "torch",
    "tensorboard": "train",
    "pyarrow": "batch",
    "matplotlib": "eval",
    "onnx": "export",
    "onnxscript": "export",
    "pillow_heif": "formats",
    "pandas": "pandas",
    "psycopg": "postgres",
    "pgvector": "postgres",
    "fsspec": "batch",
    "ray": "ray",
    "av": "video",
    "scipy": "cluster",
    "threadpoolctl": "cluster",
    "fastapi": "serve",
    "uvicorn": "serve",
    "python_multipart": "serve",
    "prometheus_client": "serve",
}
"""Import name -> the smallest extra in pyproject.toml that contains it."""


def install_command(module: str, extra: str | None = None) -> str:
    """Return the command that installs an optional module, such as "pip install 'moe-faceum[eval]'"."""
    return f"pip install 'moe-faceum[{extra or EXTRAS[module]}]'"


def missing(purpose: str, module: str, extra: str | None = None) -> str:
    """Return the sentence for an absent module.

    purpose: what cannot be done, such as "Packing data". extra: the one that serves this purpose, where it is
        not the smallest that contains the module.
    """
    return f"{purpose} needs {module}, which is not installed: {install_command(module, extra)}."


INSTALL_TORCH = install_command("torch")
"""The command that installs torch, for training, conversion and the torch runtime."""


def is_installed(module: str) -> bool:
    """Return whether a module can be found; it is not imported."""
    return importlib.util.find_spec(module) is not None


def torch_is_installed() -> bool:
    """Return whether torch can be found; it is not imported."""
    return is_installed("torch")
