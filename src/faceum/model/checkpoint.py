"""A network and what is known of it in, one safetensors file out; and back, strictly.

The header's "faceum" entry is JSON: the format's version, the network's config (crop policies included), the
tasks' labels, and what the caller adds: provenance, licence, scores.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from faceum import old_names
from faceum.errors import ModelError
from faceum.files import whole_file
from faceum.model.network import FaceUM, FaceUMConfig
from faceum.tasks import TASKS

FORMAT = "faceum.network/1"


def save_checkpoint(
    path: str | Path, model: FaceUM, metadata: Mapping[str, Any], *, dtype: torch.dtype = torch.float16
) -> None:
    """Write a network's weights, in half precision unless told otherwise, with config, labels and metadata.

    metadata: JSON-ready; shipped weights carry "licence", "provenance" and "scores". Its "labels", task ->
    words, replace those of `faceum.tasks` where a network's answers are others. Buffers (normalisation, the
    experts' biases) keep their precision. The file appears whole or not at all: ModelError where the disk is
    full.
    """
    labels = {task: list(TASKS[task].labels) for task in model.config.tasks if TASKS[task].labels}
    parameters = dict(model.named_parameters())
    tensors = {
        name: (value.to(dtype) if name in parameters else value).contiguous()
        for name, value in model.state_dict().items()
    }
    header = {
        **metadata,
        "format": FORMAT,
        "config": config_to_dict(model.config),
        "labels": {**labels, **metadata.get("labels", {})},
    }
    with whole_file(path, ending=".part") as beside:
        try:
            save_file(tensors, beside, metadata={"faceum": json.dumps(header)})
        except SafetensorError as error:
            raise ModelError(f"{path} cannot be written ({error}); see that there is room for it.") from None


def load_checkpoint(path: str | Path) -> tuple[FaceUM, dict[str, Any]]:
    """Read a network, float32 and in evaluation mode, and its metadata; every tensor must fit.

    Raises ModelError where the file is no such file, or a tensor is missing, unknown or of a wrong shape.
    """
    header = read_metadata(path)
    model = FaceUM(config_from_dict(header.get("config", {})))
    wanted = model.state_dict()
    with safe_open(path, framework="pt") as file:
        tensors = {old_names.tensor_name(name): file.get_tensor(name) for name in file.keys()}
    missing, unknown = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    wrong = [name for name in wanted if name in tensors and tensors[name].shape != wanted[name].shape]
    if missing or unknown or wrong:
        raise ModelError(
            f"The weights in {path} do not fit their own config: missing {missing or 'none'}, unknown "
            f"{unknown or 'none'}, of another shape {wrong or 'none'}; save the file anew."
        )
    model.load_state_dict(
        {name: tensors[name].to(value.dtype) for name, value in wanted.items()}, assign=True
    )
    return model.eval(), header


def read_metadata(path: str | Path) -> dict[str, Any]:
    """The header alone: format, config, labels, and what the writer added."""
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("faceum")
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a safetensors file that can be read: {error}; give one.") from error
    try:
        values = json.loads(header or "{}")
    except json.JSONDecodeError as error:
        raise ModelError(f"The header of {path} is broken: {error}; give another file.") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ModelError(f"{path} holds no faceum network ({FORMAT}); convert it or give another file.")
    return values


def config_to_dict(config: FaceUMConfig) -> dict[str, Any]:
    """Nested plain values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def config_from_dict(values: Mapping[str, Any]) -> FaceUMConfig:
    """The inverse of config_to_dict; an unknown or missing key is a ModelError."""
    return _build(FaceUMConfig, old_names.network_config(values) if isinstance(values, Mapping) else values)


def _build(kind: Any, value: Any) -> Any:
    """A value of the given annotated type from plain JSON values."""
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return _build_record(kind, value)
    if origin is tuple:
        parts = typing.get_args(kind)
        kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis and isinstance(value, list) else parts
        if not isinstance(value, list) or len(value) != len(kinds):
            raise _misfit(value, kind)
        return tuple(_build(part, item) for part, item in zip(kinds, value, strict=True))
    if origin in (typing.Union, types.UnionType):
        inner = next(part for part in typing.get_args(kind) if part is not type(None))
        return None if value is None else _build(inner, value)
    wanted = {int: int, float: int | float, str: str, bool: bool}.get(kind, object)
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind in (int, float)):
        raise _misfit(value, kind)
    return dict(value) if isinstance(value, dict) else value


def _build_record(kind: Any, value: Any) -> Any:
    """A config dataclass from a dict of its fields."""
    if not isinstance(value, Mapping):
        raise _misfit(value, kind)
    hints = typing.get_type_hints(kind)
    unknown = set(value) - set(hints)
    if unknown:
        raise ModelError(f"The config has unknown keys {sorted(unknown)}; it needs a newer faceum.")
    try:
        return kind(**{name: _build(hints[name], part) for name, part in value.items()})
    except TypeError as error:
        raise ModelError(f"The config does not fit {kind.__name__}: {error}; save the file anew.") from error


def _misfit(value: Any, kind: Any) -> ModelError:
    return ModelError(f"The config has {value!r} where {kind} belongs; save the file anew.")
