"""The one map of names that older files use; nothing else in the package knows them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TENSORS = (
    (re.compile(r"^mixtures\."), "moe_blocks."),
    (re.compile(r"(\.mlp|\.moe\.shared|\.moe\.experts)\.expand\b"), r"\1.fc1"),
    (re.compile(r"(\.mlp|\.moe\.shared|\.moe\.experts)\.reduce\b"), r"\1.fc2"),
)
"""(pattern in an old tensor name, replacement)."""

CONFIG: dict[str, dict[str, str]] = {
    "": {"mixtures": "moe_blocks"},
    "block": {"width": "dim", "heads": "num_heads", "hidden": "hidden_dim"},
    "moe": {"shared_hidden": "shared_hidden_dim"},
    "moe.router": {"experts": "num_experts", "tau": "top_p"},
    "moe.experts": {"hidden": "hidden_dim"},
}
"""Path in a network's config -> old field name -> new field name."""

RUN: dict[str, str] = {
    "shares": "sources",
    "switch": "balance_weight",
    "balance": "bias_step",
    "clip": "grad_clip",
    "fold": "fold_projection",
    "keep": "keep_checkpoints",
}
"""Old field of a training run -> new field."""

SOURCE: dict[str, str] = {"count": "batch_size"}
"""Old field of one source of a training run -> new field."""

AUGMENT: dict[str, str] = {"mask": "mask_probability"}
"""Old field of a source's augmentation -> new field."""

COLUMNS: dict[str, str] = {"mask": "parsing", "masked": "wears_mask"}
"""Old column of a packed Parquet file, or label in a run's record of its data -> new name."""

INPUTS: dict[str, str] = {"face_mask_BN": "face_tokens_BN", "picture": "image"}
"""Old input of an ONNX file -> new input."""


def tensor_name(name: str) -> str:
    """Return today's name of a tensor in a network's state dict; today's names pass through."""
    for pattern, new in TENSORS:
        name = pattern.sub(new, name)
    return name


def network_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a network's config, as plain values, with today's field names."""
    return _renamed(values, "")


def run_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a training run's settings, as plain values, with today's field names."""
    run = _rename_keys(values, RUN)
    if isinstance(run.get("network"), Mapping):
        run["network"] = network_config(run["network"])
    sources = {}
    for name, source in dict(run.get("sources") or {}).items():
        source = _rename_keys(source, SOURCE)
        if isinstance(source.get("augment"), Mapping):
            source["augment"] = _rename_keys(source["augment"], AUGMENT)
        sources[name] = source
    return {**run, "sources": sources} if "sources" in run else run


def columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by column, or by label of a source's fingerprint, with today's names."""
    return _rename_keys(values, COLUMNS)


def _renamed(values: Mapping[str, Any], path: str) -> dict[str, Any]:
    names = CONFIG.get(path, {})
    result = {}
    for name, value in values.items():
        inner = f"{path}.{name}".lstrip(".")
        if isinstance(value, Mapping) and any(known.startswith(inner) for known in CONFIG):
            value = _renamed(value, inner)
        result[names.get(name, name)] = value
    return result


def _rename_keys(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in values.items()}
