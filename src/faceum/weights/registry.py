"""Find registered weights by name: verified files, licence, source and scores.

The registry is `weights/registry.json` in this package:

    {"schema": "faceum.weights/1",
     "weights": {NAME: {"kind": "model", "summary": "...", "licence": "...", "source": "...",
                        "files": {PART: {"file": "x.onnx", "sha256": "...", "bytes": 123}},
                        "scores": {...}, "thresholds": {...}}}}

PART is the runtime's format ("onnx", "safetensors") for a model and free for a detector of several files.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from faceum.errors import ModelError, join_names, unknown_name
from faceum.files import sha256_of, write_text

SCHEMA = "faceum.weights/1"
"""The name and version under "schema" in the registry."""

WEIGHTS = Path(__file__).resolve().parent
"""The folder of the shipped weights and of their registry."""

SUFFIXES = {"onnx": ".onnx", "safetensors": ".safetensors"}
"""A model's parts and how their files' names end."""


@dataclass(frozen=True, kw_only=True)
class AssetFile:
    """One file of an asset.

    file: its name in the weights folder.
    sha256: of its bytes, in lower-case hexadecimal.
    bytes: its length.
    """

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Asset:
    """Named weights.

    name: the name that users give.
    kind: "model" or "detector".
    files: part ("onnx", "safetensors", or a part of a detector) -> its file.
    licence: what the weights may be used for.
    source: where they come from.
    summary: what they are, in one line.
    scores: measure -> measured number or words, free in form.
    thresholds: a model's measured thresholds, as `faceum.weights.thresholds.Thresholds.to_dict`.
    """

    name: str
    kind: str
    files: Mapping[str, AssetFile]
    licence: str
    source: str
    summary: str = ""
    scores: Mapping[str, Any] = field(default_factory=dict)
    thresholds: Mapping[str, Any] = field(default_factory=dict)


def load_registry(folder: Path = WEIGHTS) -> dict[str, Asset]:
    """Return all registered weights by name, in order; raises ModelError if the registry is damaged."""
    path = folder / "registry.json"
    try:
        modified = path.stat().st_mtime_ns
    except OSError:
        return {}
    return dict(_read_registry(path, modified))


def asset_names(kind: str, folder: Path = WEIGHTS) -> list[str]:
    """Return the registered names of one kind ("model" or "detector")."""
    return [asset.name for asset in load_registry(folder).values() if asset.kind == kind]


def find_asset(name: str, kind: str, folder: Path = WEIGHTS) -> Asset:
    """Return the registered weights of a name; raises ModelError with the nearest names if there are none."""
    asset = load_registry(folder).get(name)
    if asset is None or asset.kind != kind:
        raise ModelError(unknown_name(name, kind, asset_names(kind, folder)))
    return asset


def asset_path(name: str, part: str = "onnx", *, kind: str = "model", folder: Path = WEIGHTS) -> Path:
    """Return the verified file of registered weights.

    Its SHA-256 is compared once per process, and again if the file's size or time changes. Raises ModelError
    if the name or part is not registered, the file is missing, or its SHA-256 differs.
    """
    asset = find_asset(name, kind, folder)
    entry = asset.files.get(part)
    if entry is None:
        raise ModelError(
            f"The weights {name!r} have no {part!r} file; they come as {join_names(asset.files)}. "
            "Choose a runtime that reads one of these."
        )
    path = folder / entry.file
    try:
        status = path.stat()
    except OSError:
        raise ModelError(
            f"The weights file {path} of {name!r} is missing; install the package again to get it back."
        ) from None
    if _hash_file(path, status.st_size, status.st_mtime_ns) != entry.sha256:
        raise ModelError(
            f"The weights file {path} is not the one that the registry names (its SHA-256 differs); "
            "install the package again, or give the path of your own file as the model."
        )
    return path


def resolve_model(name_or_path: str | Path, part: str = "onnx", *, folder: Path = WEIGHTS) -> Path:
    """Return the file of a model: the verified file of a registered name, or the path itself.

    part: the required format, "onnx" or "safetensors"; if the path is of the other format, the file of the
    same stem in the same folder is used. Raises ModelError for an unknown name, a missing file, or a file
    that is neither.
    """
    text = str(name_or_path)
    if not looks_like_path(name_or_path):
        return asset_path(text, part, folder=folder)
    path = Path(text).expanduser()
    if path.suffix.lower() not in SUFFIXES.values():
        raise ModelError(
            f"The model file {text!r} is neither .onnx nor .safetensors; give one of these, "
            f"or a name ({join_names(asset_names('model', folder))})."
        )
    file = path.with_suffix(SUFFIXES[part]) if path.suffix.lower() != SUFFIXES[part] else path
    if file.is_file():
        return file
    raise ModelError(
        f"There is no model file {str(file)!r}; check the path, or export the model to that format."
    )


def looks_like_path(name_or_path: str | Path) -> bool:
    """Return whether a model is given as a file: a Path, or text with a separator or a weights suffix."""
    if isinstance(name_or_path, Path):
        return True
    return (
        "/" in name_or_path or "\\" in name_or_path or name_or_path.lower().endswith(tuple(SUFFIXES.values()))
    )


def has_part(name_or_path: str | Path, part: str, *, folder: Path = WEIGHTS) -> bool:
    """Return whether the model has a file of that format, without reading it; False for unknown names."""
    if looks_like_path(name_or_path):
        path = Path(str(name_or_path)).expanduser()
        return path.suffix.lower() in SUFFIXES.values() and path.with_suffix(SUFFIXES[part]).is_file()
    asset = load_registry(folder).get(str(name_or_path))
    if asset is None or part not in asset.files:
        return False
    return (folder / asset.files[part].file).is_file()


def model_id(path: Path, name: str, *, weights_sha256: str | None = None, folder: Path = WEIGHTS) -> str:
    """Return what identifies the weights of a file, as name@sha256[:8].

    Two files of one registered model have one id, that of its .safetensors file; other files have their own.
    name: the network's. weights_sha256: that of the file it was exported from, if it is known.
    """
    status = path.stat()
    digests = {_hash_file(path, status.st_size, status.st_mtime_ns), weights_sha256}
    for asset in load_registry(folder).values():
        if not digests.isdisjoint(file.sha256 for file in asset.files.values()):
            main = asset.files.get("safetensors") or next(iter(asset.files.values()))
            return f"{asset.name}@{main.sha256[:8]}"
    own = weights_sha256 or next(iter(digests - {None}))
    return f"{name}@{str(own)[:8]}"


def write_entry(asset: Asset, *, folder: Path = WEIGHTS) -> None:
    """Put `asset` into the registry of `folder`, in place of an entry of the same name."""
    entries = load_registry(folder)
    entries[asset.name] = asset
    weights = {}
    for name, entry in entries.items():
        plain = asdict(entry)
        del plain["name"]
        if not entry.thresholds:
            del plain["thresholds"]
        weights[name] = plain
    text = json.dumps({"schema": SCHEMA, "weights": weights}, indent=2, ensure_ascii=False)
    write_text(folder / "registry.json", text + "\n")


def describe_file(path: Path) -> AssetFile:
    """Return the registry's record of a file in the weights folder."""
    return AssetFile(file=path.name, sha256=sha256_of(path), bytes=path.stat().st_size)


@functools.lru_cache(maxsize=4)
def _read_registry(path: Path, modified: int) -> dict[str, Asset]:
    # `modified` is part of the cache's key, so a rewritten registry is read again.
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise ModelError(
                f"The registry {path} has the schema {data['schema']!r}, expected {SCHEMA!r}; "
                "install the package again."
            )
        return {name: _build_asset(name, entry) for name, entry in data["weights"].items()}
    except (OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise ModelError(
            f"The registry {path} cannot be used ({error!r}); install the package again."
        ) from None


def _build_asset(name: str, entry: dict[str, Any]) -> Asset:
    files = {part: AssetFile(**file) for part, file in entry["files"].items()}
    return Asset(name=name, **{**entry, "files": files})


@functools.lru_cache(maxsize=64)
def _hash_file(path: Path, size: int, modified: int) -> str:
    return sha256_of(path)
