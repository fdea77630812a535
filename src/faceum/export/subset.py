"""Extract a smaller network that answers some of a network's tasks exactly as before.

Removed: the other tasks' heads, their gates in every router, and crop policies that no kept task uses. Kept:
the trunk and all experts. Every expert is part of the router's softmax, so that without one that the kept
tasks rarely choose the answers would change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from faceum.errors import ModelError, unknown_name
from faceum.extras import missing, torch_is_installed
from faceum.weights.registry import resolve_model

if TYPE_CHECKING:
    from torch import Tensor

    from faceum.model.network import FaceUM, FaceUMConfig


@dataclass(frozen=True, kw_only=True)
class Extract:
    """The result of an extraction.

    tasks: the tasks that the new network answers.
    files: its files.
    before, after: number of parameters of the whole network and of the new one.
    """

    tasks: tuple[str, ...]
    files: tuple[Path, ...]
    before: int
    after: int


def extract_file(
    model: str | Path, tasks: Sequence[str], out: Path | None = None, *, onnx: bool = False
) -> Extract:
    """Write a network that answers some of a model's tasks.

    model: a registered name or a .safetensors file.
    out: a .safetensors file; named after the new network, in the current folder, by default.
    onnx: whether to write its ONNX file too.
    Weights are stored in half precision if that changes no value, else in float32. The header names the
    model that it comes from, with that model's scores.
    Raises ModelError for an unknown task, another suffix, a missing model, or if torch is not installed.
    """
    if not torch_is_installed():
        raise ModelError(missing("Extracting a network", "torch"))
    import torch

    from faceum.model.checkpoint import load_checkpoint, save_checkpoint

    if out is not None and out.suffix != ".safetensors":
        raise ModelError(f"The file to write is {str(out)!r}; its name must end in .safetensors.")
    source = resolve_model(model, "safetensors")
    whole, metadata = load_checkpoint(source)
    part = extract_tasks(whole, tasks)
    kept = part.config.tasks
    path = out or Path(f"{part.config.name}.safetensors")
    if path.resolve() == source.resolve():
        raise ModelError(f"{path} is the model itself; write to another file.")
    metadata |= {
        "labels": {task: words for task, words in metadata.get("labels", {}).items() if task in kept},
        "calibration": {task: one for task, one in metadata.get("calibration", {}).items() if task in kept},
        "extracted": {"from": whole.config.name, "its_scores": metadata.get("scores", {})},
        "scores": {},
    }
    half = all(torch.equal(value, value.half().float()) for value in part.parameters())
    save_checkpoint(path, part, metadata, dtype=torch.float16 if half else torch.float32)
    files = [path]
    if onnx:
        files.append(_export(path, half=half))
    return Extract(tasks=kept, files=tuple(files), before=_parameters(whole), after=_parameters(part))


def extract_tasks(model: FaceUM, tasks: Sequence[str]) -> FaceUM:
    """Return a new network, in evaluation mode, with the same answers to these tasks.

    tasks: some of the network's, in any order.
    Raises ModelError if there is no task, or one that the network does not answer.
    """
    from faceum.model.network import FaceUM

    config = extract_config(model.config, tasks)
    part = FaceUM(config)
    expected = part.state_dict()
    state = {name: value for name, value in model.state_dict().items() if name in expected}
    ids = [model.config.tasks.index(task) for task in config.tasks]
    for index, _ in enumerate(model.moe_blocks):
        gates = f"moe_blocks.{index}.moe.router.weight"
        if gates in state:  # a dense twin has none
            state[gates] = state[gates][ids]
    state["trunk.positions"] = _positions(model, config)
    part.load_state_dict({name: value.detach().clone() for name, value in state.items()})
    return part.eval()


def extract_config(config: FaceUMConfig, tasks: Sequence[str]) -> FaceUMConfig:
    """Return the config of the network that answers only these tasks, named after them."""
    for task in tasks:
        if task not in config.tasks:
            raise ModelError(unknown_name(task, f"task of {config.name}", config.tasks))
    if not tasks:
        raise ModelError(f"No task was given; expected some of {', '.join(config.tasks)}.")
    kept = tuple(task for task in config.tasks if task in tasks)
    crops = [(spec, tuple(task for task in users if task in kept)) for spec, users in config.crops]
    return replace(
        config,
        name=config.name if kept == config.tasks else "-".join((config.name, *kept)),
        tasks=kept,
        crops=tuple((spec, users) for spec, users in crops if users),
        outputs={task: count for task, count in config.outputs.items() if task in kept},
    )


def _positions(model: FaceUM, config: FaceUMConfig) -> Tensor:
    """Return the position rows, resized as the trunk would if no kept task uses the finest grid."""
    from faceum.model.vit import resize_positions

    grid = max(spec.grid for spec, _ in config.crops)
    return resize_positions(model.trunk.positions, grid, config.class_token)


def _export(path: Path, *, half: bool) -> Path:
    """Write the ONNX file of a checkpoint next to it."""
    try:
        from faceum.export.onnx import export_onnx
    except ModuleNotFoundError as error:
        raise ModelError(f"Wrote {path}. {missing('Its ONNX file', error.name or 'onnx')}") from None
    from faceum.model.checkpoint import load_checkpoint

    stored, metadata = load_checkpoint(path)
    exported = path.with_suffix(".onnx")
    export_onnx(stored, metadata, exported, half=half)
    return exported


def _parameters(model: FaceUM) -> int:
    return sum(value.numel() for value in model.parameters())
