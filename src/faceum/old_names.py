"""The one map of names that older files use: tensors, configs, settings, run records, ONNX inputs."""

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

STATE: dict[str, str] = {"centres": "partial_fc"}
"""Old key of a training checkpoint -> new key."""

INPUTS: dict[str, str] = {"face_mask_BN": "face_tokens_BN", "picture": "image"}
"""Old input of an ONNX file -> new input."""


def rename_tensor(name: str) -> str:
    """Return today's name of a tensor in a network's state dict; today's names pass through."""
    for pattern, new in TENSORS:
        name = pattern.sub(new, name)
    return name


def rename_training_state(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a training checkpoint's state with today's keys and tensor names."""
    new = _rename_keys(state, STATE)
    for part in ("network", "average"):
        if isinstance(new.get(part), Mapping):
            new[part] = {rename_tensor(name): value for name, value in new[part].items()}
    return new


def rename_setting(key: str) -> str:
    """Return today's key of a training setting such as "lr"; new keys pass through."""
    first, *rest = key.split(".")
    first = RUN.get(first, first)
    if first == "network":
        rest = _rename_path(rest)
    elif first == "sources" and len(rest) > 1:
        rest[1] = SOURCE.get(rest[1], rest[1])
        if rest[1] == "augment" and len(rest) > 2:
            rest[2] = AUGMENT.get(rest[2], rest[2])
    return ".".join([first, *rest])


def rename_network_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a network's config, as plain values, with today's field names."""
    return _rename_config(values, "")


def rename_run_config(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a training run's settings, as plain values, with today's field names."""
    run = _rename_keys(values, RUN)
    if isinstance(run.get("network"), Mapping):
        run["network"] = rename_network_config(run["network"])
    if isinstance(run.get("sources"), Mapping):
        run["sources"] = {name: _rename_source(source) for name, source in run["sources"].items()}
    return run


def rename_columns(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by column, or by label of a source's fingerprint, with today's names."""
    return _rename_keys(values, COLUMNS)


def _rename_config(values: Mapping[str, Any], path: str) -> dict[str, Any]:
    names = CONFIG.get(path, {})
    result = {}
    for name, value in values.items():
        inner = f"{path}.{name}".lstrip(".")
        if isinstance(value, Mapping) and any(known.startswith(inner) for known in CONFIG):
            value = _rename_config(value, inner)
        result[names.get(name, name)] = value
    return result


def _rename_source(source: Any) -> Any:
    if not isinstance(source, Mapping):
        return source
    renamed = _rename_keys(source, SOURCE)
    if isinstance(renamed.get("augment"), Mapping):
        renamed["augment"] = _rename_keys(renamed["augment"], AUGMENT)
    return renamed


def _rename_path(path: list[str]) -> list[str]:
    return [CONFIG.get(".".join(path[:place]), {}).get(name, name) for place, name in enumerate(path)]


def _rename_keys(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in values.items()}
