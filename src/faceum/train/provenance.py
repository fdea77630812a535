"""Layer 5. What a run came from, in run.json: the resolved recipe, git revision, environment and data."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from faceum.config import to_plain
from faceum.data.sources import Data
from faceum.distributed import world
from faceum.errors import DataError
from faceum.files import write_text
from faceum.train.settings import RunConfig

PACKAGES = ("moe-faceum", "torch", "numpy", "opencv-python-headless", "pyarrow", "safetensors")


def write_run(folder: Path, config: RunConfig, data: Data, *, step: int) -> dict[str, Any]:
    """Write run.json and skipped.txt; returns the record.

    step: where this start begins. A run that goes on keeps the records of earlier starts, and DataError says
    so where its data are no longer what they were.
    """
    path = folder / "run.json"
    record = {
        "recipe": to_plain(config),
        "data": data.fingerprint,
        "skipped": len(data.skipped),
        "git": git_revision(Path(__file__).parent),
        "environment": environment(),
        "step": step,
        "earlier": [],
    }
    if step and path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        unlike = sorted(
            name for name in before["data"].keys() | data.fingerprint.keys()
            if before["data"].get(name) != data.fingerprint.get(name)
        )  # fmt: skip
        if unlike:
            raise DataError(
                f"The data of {', '.join(unlike)} are not those that {folder} was begun with; bring them "
                "back, or begin a new run with out=..."
            )
        record["earlier"] = [*before.pop("earlier"), before]
    write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / "skipped.txt", "".join(f"{sentence}\n" for sentence in data.skipped))
    return record


def git_revision(folder: Path) -> str | None:
    """The commit that the code in a folder is of, with "+changes" where it was edited; None outside git."""
    words = []
    for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]):
        try:
            done = subprocess.run(
                ["git", *command], cwd=folder, capture_output=True, text=True, check=False, timeout=20
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode:
            return None
        words.append(done.stdout.strip())
    return words[0] + ("+changes" if words[1] else "")


def environment() -> dict[str, Any]:
    """Versions, processors and devices."""
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "ranks": world(),
        "gpus": [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())],
        "packages": versions,
    }
