"""Save a network with its config and metadata to one safetensors file, and load it strictly.

The header's "faceum" entry is JSON: the format's version, the network's config (crop policies included), the
tasks' labels, and what the caller adds, such as provenance, licence and scores.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from faceum import old_names
from faceum.config import from_plain, to_plain
from faceum.errors import ModelError, RecipeError, count_noun, join_names
from faceum.files import whole_file
from faceum.model.network import FaceUM, FaceUMConfig
from faceum.tasks import TASKS

FORMAT = "faceum.network/1"

FIRST_NAMED = 5
"""Number of tensors that an error names of each kind."""


def save_checkpoint(
    path: str | Path, model: FaceUM, metadata: Mapping[str, Any], *, dtype: torch.dtype = torch.float16
) -> None:
    """Write a network's weights with its config, labels and metadata.

    metadata: ready for JSON; shipped weights have "licence", "provenance" and "scores". Its "labels", task ->
        names, replace those of `faceum.tasks` for a network with other answers.
    dtype: of the parameters; buffers (normalization, the experts' biases) keep theirs.
    The file is written as a whole or not at all. Raises ModelError if the disk is full.
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
    with whole_file(path, ending=".part") as partial:
        try:
            save_file(tensors, partial, metadata={"faceum": json.dumps(header)})
        except SafetensorError as error:
            raise ModelError(f"{path} cannot be written ({error}); check that the disk has room.") from None


def load_checkpoint(path: str | Path) -> tuple[FaceUM, dict[str, Any]]:
    """Load a network, float32 and in evaluation mode, and its metadata.

    Raises ModelError if the file is not a network of this package, if its config or labels are not valid, or
    if a tensor is missing, unknown, not finite or of another shape. Nothing is allocated before all sizes of
    the config have been compared with the file.
    """
    header = read_metadata(path)
    try:
        with safe_open(path, framework="pt") as file:
            stored = {old_names.rename_tensor(name): name for name in file.keys()}
            shapes = {name: tuple(file.get_slice(old).get_shape()) for name, old in stored.items()}
            model = _build_empty(path, header, shapes)
            expected = model.state_dict()
            _require_same_shapes(path, shapes, expected)
            tensors = {name: file.get_tensor(stored[name]).to(expected[name].dtype) for name in expected}
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a readable safetensors file: {error}.") from error
    require_finite(path, tensors)
    model.load_state_dict(tensors, assign=True)
    return model.eval(), header


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return the header: format, config, labels, and what the writer added.

    Raises ModelError if the file is not a network of this package.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get("faceum")
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is not a readable safetensors file: {error}.") from error
    try:
        values = json.loads(header or "{}")
    except (ValueError, RecursionError) as error:
        raise ModelError(f"The metadata of {path} is not readable JSON: {error}.") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ModelError(f"{path} is not a faceum network ({FORMAT}); convert it or give another file.")
    return values


def config_to_dict(config: FaceUMConfig) -> dict[str, Any]:
    """Return a network's config as nested plain values."""
    return to_plain(config)


def config_from_dict(values: Any) -> FaceUMConfig:
    """Return the config of plain values, the inverse of `config_to_dict`; old field names are accepted.

    Raises ModelError if a key is unknown or missing, or a value is not valid.
    """
    try:
        renamed = old_names.rename_network_config(values) if isinstance(values, Mapping) else values
        return from_plain(FaceUMConfig, renamed)
    except RecipeError as error:
        raise ModelError(str(error)) from error


def require_finite(path: str | Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise ModelError if a tensor has a NaN or an infinity."""
    wrong = [name for name, value in tensors.items() if not value.isfinite().all()]
    if wrong:
        raise ModelError(f"The weights in {path} are not finite: {_list_first(wrong)}.")


def _build_empty(
    path: str | Path, header: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]
) -> FaceUM:
    """Return the config's network on the meta device, after its sizes and labels were checked."""
    try:
        config = config_from_dict(header.get("config", {}))
        blocks = (config.depth, config.moe_blocks, *config.stem.blocks)
        if sum(blocks) > len(shapes):  # every block has several tensors, so this bounds the work
            raise ModelError(
                f"its config has {count_noun(sum(blocks), 'block')}, and the file "
                f"{count_noun(len(shapes), 'tensor')}"
            )
        _require_labels(config, header.get("labels", {}))
        with torch.device("meta"):
            return FaceUM(config)
    except (ModelError, RuntimeError, ValueError, ZeroDivisionError, OverflowError, TypeError) as error:
        raise ModelError(f"{path} does not describe a valid network: {_first_line(error)}") from error


def _require_labels(config: FaceUMConfig, labels: Any) -> None:
    if not isinstance(labels, Mapping):
        raise ModelError(f"labels is {type(labels).__name__}; expected task -> list of names.")
    for task, names in labels.items():
        if task not in config.tasks:
            raise ModelError(f"it has labels for {task!r}, which is not one of its tasks.")
        count = config.outputs.get(task, TASKS[task].outputs)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ModelError(f"the labels of {task} are not a list of names.")
        if len(names) != count:
            raise ModelError(
                f"{task} has {count_noun(len(names), 'label')} for {count_noun(count, 'output')}."
            )


def _require_same_shapes(
    path: str | Path, shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, Tensor]
) -> None:
    missing, unknown = sorted(expected.keys() - shapes.keys()), sorted(shapes.keys() - expected.keys())
    wrong = [name for name in expected if name in shapes and shapes[name] != tuple(expected[name].shape)]
    if missing or unknown or wrong:
        raise ModelError(
            f"The weights in {path} do not fit their config: missing {_list_first(missing)}; unknown "
            f"{_list_first(unknown)}; of another shape {_list_first(wrong)}."
        )


def _list_first(names: list[str]) -> str:
    more = f" and {len(names) - FIRST_NAMED} more" if len(names) > FIRST_NAMED else ""
    return join_names(names[:FIRST_NAMED]) + more


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
