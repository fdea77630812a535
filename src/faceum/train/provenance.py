"""The record of a run, run.json: the resolved recipe, git revision, environment and data."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from faceum import old_names
from faceum.config import to_plain
from faceum.data.sources import Data
from faceum.errors import DataError, RecipeError
from faceum.files import write_text
from faceum.train.config import MAY_CHANGE, RunConfig
from faceum.train.distributed import world

RESTORE = "restore it, or begin a new run with out=..."
"""What to do about a folder whose record cannot be used."""

PACKAGES = ("moe-faceum", "torch", "numpy", "opencv-python-headless", "pyarrow", "safetensors")


def write_run(folder: Path, config: RunConfig, data: Data, *, step: int) -> dict[str, Any]:
    """Write run.json and skipped.txt; return the record.

    step: the step at which the run starts or resumes. A resumed run keeps the records of earlier starts.
    Raises DataError if its data changed.
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
        before = read_run(path)
        unlike = sorted(
            name for name in before["data"].keys() | data.fingerprint.keys()
            if before["data"].get(name) != data.fingerprint.get(name)
        )  # fmt: skip
        if unlike:
            raise DataError(
                f"The data of {', '.join(unlike)} changed since {folder} was begun; restore them, or begin a "
                "new run with out=..."
            )
        record["earlier"] = [*before.pop("earlier"), before]
    write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    write_text(folder / "skipped.txt", "".join(f"{sentence}\n" for sentence in data.skipped))
    return record


def read_run(path: Path) -> dict[str, Any]:
    """Return the record of run.json, its recipe with today's names; RecipeError if it is not one."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RecipeError(f"{path} is not readable JSON ({error}); {RESTORE}") from None
    parts = {"recipe": dict, "data": dict, "earlier": list}
    wrong = [
        name for name, kind in parts.items() if not isinstance(record, dict) or not _is(record, name, kind)
    ]
    if wrong:
        raise RecipeError(f"{path} is not the record of a run: no valid {', '.join(wrong)}; {RESTORE}")
    recipe = old_names.rename_run_config(record["recipe"])
    if not isinstance(recipe.get("sources"), dict) or not all(
        isinstance(known, dict) for known in record["data"].values()
    ):
        raise RecipeError(f"{path} is not the record of a run: no valid sources or data; {RESTORE}")
    data = {name: old_names.rename_columns(known) for name, known in record["data"].items()}
    return {**record, "recipe": recipe, "data": data}


def _is(record: dict[str, Any], name: str, kind: type) -> bool:
    return isinstance(record.get(name), kind)


def require_same_recipe(folder: Path, config: RunConfig) -> None:
    """Raise RecipeError, naming the settings, if a resumed run has other ones than those of run.json.

    Settings in MAY_CHANGE can differ. A folder without run.json allows all.
    """
    path = folder / "run.json"
    if not path.exists():
        return
    begun = read_run(path)["recipe"]
    may = MAY_CHANGE - {"held_out"} if config.apart else MAY_CHANGE  # apart chooses the faces by that split
    differences = list(_differences(begun, to_plain(config)))
    if (
        begun["sources"].keys() == config.sources.keys()
    ):  # identities are numbered in the order of the sources
        differences += _differences(list(begun["sources"]), list(config.sources), ("sources",))
    changes = [
        f"{'.'.join(keys)}={_word(old)}, not {_word(new)}"
        for keys, old, new in differences
        if keys[0] not in may and not (keys[0] == "sources" and keys[2:] == ("path",))
    ]
    if changes:
        raise RecipeError(
            f"The run in {folder} was begun with {'; '.join(changes)}; restore these settings, or begin a "
            "new run with another out=..."
        )


def _differences(
    old: Any, new: Any, keys: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield keys, old and new value where two JSON records differ; None if one has no such key."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*new, *(name for name in old if name not in new)]:
            yield from _differences(old.get(name), new.get(name), (*keys, name))
    elif old != new:
        yield keys, old, new


def _word(value: Any) -> str:
    """Return a setting as it is written on the command line, shortened if it is long."""
    if value is None:
        return "none"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return textwrap.shorten(text, 100, placeholder=" ...")


def git_revision(folder: Path) -> str | None:
    """Return the git commit of a folder's code, with "+changes" if it was edited; None outside git."""
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
    """Return versions, processors and devices."""
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
