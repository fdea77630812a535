"""Build the ONNX graph of a network, and write it if its answers are those of torch.

In the graph every expert computes every token, with weight zero if it was not chosen, since ONNX has no
grouped product. Each task has its own branch after the shared trunk, so that it can be cut off.

Letters: B crops, N patch tokens, P pairs, D token dimension, E experts, K slots, H hidden dimension.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnxscript import opset18 as opset
from torch import Tensor, nn

from faceum.crop import CropSpec
from faceum.errors import ModelError
from faceum.export.evidence import noise
from faceum.files import whole_file
from faceum.model.experts import Experts
from faceum.model.moe import MoE
from faceum.model.network import FaceUM
from faceum.model.router import Routing
from faceum.onnx_session import open_session
from faceum.runner import NetworkCard

SMALLEST_HALF = 256
"""Smallest number of values of a tensor that is stored in half precision; norms and biases have fewer."""

TOLERANCE = 2e-3
"""Largest accepted difference from torch, relative to an output's largest value; see `_differences`."""

MODULES = "pkg.torch.onnx.name_scopes"
"""Key under which the exporter stores the modules that a node comes from."""


class EveryExpert(nn.Module):
    """All experts on all tokens, summed by their weights: equal to `Experts`, in operations that ONNX has."""

    fc1: Tensor
    fc2: Tensor

    def __init__(self, experts: Experts) -> None:
        super().__init__()
        self.num_experts, dim, self.hidden_dim = experts.fc1.shape
        self.activation = experts.activation
        self.register_buffer("fc1", experts.fc1.detach().permute(1, 0, 2).reshape(dim, -1).contiguous())
        self.register_buffer("fc2", experts.fc2.detach().reshape(-1, dim).contiguous())

    def forward(self, x_PND: Tensor, routing: Routing) -> Tensor:
        """Map (P, N, D) to (P, N, D)."""
        # Compared and summed rather than scattered: a scatter onto zeros has no fast kernel in onnxruntime.
        is_expert_PNKE = routing.topk_experts_PNK[..., None] == torch.arange(
            self.num_experts, device=x_PND.device
        )
        weights_PNE = (is_expert_PNKE * routing.weights_PNK[..., None]).sum(-2)
        hidden_PNX = self.activation(x_PND @ self.fc1)
        weighted_PNEH = hidden_PNX.unflatten(-1, (self.num_experts, self.hidden_dim)) * weights_PNE[..., None]
        return weighted_PNEH.flatten(-2) @ self.fc2


class TaskBranches(nn.Module):
    """A network of one crop policy whose tasks run one after the other after the shared trunk."""

    def __init__(self, model: FaceUM, tasks: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.tasks = tuple(tasks)

    def forward(self, crop_BCHW: Tensor, face_tokens_BN: Tensor) -> tuple[Tensor, ...]:
        """Return the answers of `FaceUM.forward` in the tasks' order."""
        model = self.model
        shared_BND, maps = model.trunk((crop_BCHW - model.mean) / model.std)
        row_B = torch.arange(crop_BCHW.shape[0])
        face_BN = face_tokens_BN
        if model.config.class_token:
            face_BN = torch.cat([torch.ones_like(face_BN[:, :1]), face_BN], dim=1)
        answers = []
        for task in self.tasks:
            task_B = torch.full_like(row_B, model.config.tasks.index(task))
            x_BND = shared_BND
            for moe_block in model.moe_blocks:
                x_BND, _ = moe_block(x_BND, row_B, task_B, face_BN)
            patch_BND = x_BND[:, 1:] if model.config.class_token else x_BND
            answers.append(model.heads[task](patch_BND, maps))
        return tuple(answers)


def export_onnx(
    model: FaceUM,
    metadata: Mapping[str, Any],
    path: Path,
    *,
    tasks: Sequence[str] | None = None,
    half: bool = True,
    check: tuple[np.ndarray, np.ndarray] | None = None,
) -> dict[str, float]:
    """Write the network as ONNX, and return each task's relative difference from torch.

    model: it is not changed.
    metadata: of its checkpoint; written to the file.
    tasks: all by default; they must share a crop policy.
    half: whether to store large weights in float16; they are used as float32.
    check: crops (B, 3, S, S), float32 in 0..1, and face tokens (B, N) to compare on, together and one alone;
        noise by default.
    Raises ModelError, and writes nothing, if the answers differ from torch or the batch size is fixed.
    """
    tasks = choose_tasks(model, tasks)
    spec = crop_of_all(model, tasks)
    network = copy.deepcopy(model).cpu().float().eval()
    if half:
        _round_to_half(network)
    crops, masks = check if check is not None else noise(spec)
    with torch.inference_mode():
        output = network(torch.from_numpy(crops), torch.from_numpy(masks), tasks)
        expected = {task: output[task].numpy() for task in tasks}
    program = _trace(network, tasks, *noise(spec))  # several crops, since the exporter makes one a constant
    if fixed := _list_fixed(program):
        raise ModelError(
            f"The ONNX file would have a fixed batch size ({', '.join(fixed)}); nothing was written."
        )
    if half:
        _store_half(program)
    _describe(program, model, metadata, spec, tasks)
    with whole_file(path) as partial:
        onnx.save(program, str(partial))
        differences = _differences(partial, crops, masks, expected)
        wrong = {task: value for task, value in differences.items() if not value <= TOLERANCE}
        if wrong:
            raise ModelError(
                f"The answers of the ONNX file differ from torch ({wrong}); nothing was written."
            )
    return differences


def _trace(network: FaceUM, tasks: Sequence[str], crops: np.ndarray, masks: np.ndarray) -> onnx.ModelProto:
    for moe in [module for module in network.modules() if isinstance(module, MoE)]:
        if isinstance(moe.experts, Experts):
            moe.experts = EveryExpert(moe.experts)  # type: ignore[assignment]
    batch = torch.export.Dim("B", min=1, max=4096)
    # The exporter prints its progress and warns about its own internals.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            TaskBranches(network, tasks).eval(),
            (torch.from_numpy(crops), torch.from_numpy(masks)),
            dynamo=True,
            external_data=False,
            verbose=False,
            input_names=["crop_BCHW", "face_tokens_BN"],
            output_names=list(tasks),
            dynamic_shapes={"crop_BCHW": {0: batch}, "face_tokens_BN": {0: batch}},
            custom_translation_table={torch.ops.aten.sort.stable: _sort},
        )
    assert program is not None
    return program.model_proto


def _list_fixed(program: onnx.ModelProto) -> list[str]:
    """Return the inputs and outputs whose first dimension is fixed."""
    return [
        value.name
        for value in [*program.graph.input, *program.graph.output]
        if not value.type.tensor_type.shape.dim or not value.type.tensor_type.shape.dim[0].dim_param
    ]


def _sort(values: Any, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
    """Translate torch's stable sort to TopK of all values, which keeps the order of equal ones too."""
    size: Any = opset.Constant(value_ints=[values.shape[dim]])
    return opset.TopK(values, size, axis=dim, largest=int(descending), sorted=1)


def _round_to_half(network: nn.Module) -> None:
    with torch.no_grad():
        for value in [*network.parameters(), *network.buffers()]:
            if value.is_floating_point() and value.numel() >= SMALLEST_HALF:
                value.copy_(value.half().float())


def _store_half(program: onnx.ModelProto) -> None:
    """Store large float32 constants as float16 with a cast, which onnxruntime folds when it loads."""
    casts = []
    for constant in program.graph.initializer:
        if constant.data_type != onnx.TensorProto.FLOAT or np.prod(constant.dims) < SMALLEST_HALF:
            continue
        name = constant.name
        values = onnx.numpy_helper.to_array(constant)
        constant.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    for index, cast in enumerate(casts):
        program.graph.node.insert(index, cast)


def _describe(
    program: onnx.ModelProto,
    model: FaceUM,
    metadata: Mapping[str, Any],
    spec: CropSpec,
    tasks: Sequence[str],
) -> None:
    card = NetworkCard(
        name=model.config.name,
        tasks=tuple(tasks),
        crops=((spec, tuple(tasks)),),
        labels={task: tuple(words) for task, words in metadata.get("labels", {}).items() if task in tasks},
        calibration={task: one for task, one in metadata.get("calibration", {}).items() if task in tasks},
    )
    # Intermediate shapes and the exporter's notes are much of the file and are not needed.
    del program.graph.value_info[:]
    for node in program.graph.node:
        if any(".router" in entry.value for entry in node.metadata_props if entry.key == MODULES):
            node.name = f"router.{node.name}"  # quantization leaves these in float32
        del node.metadata_props[:]
        node.doc_string = ""
    entry = program.metadata_props.add()
    entry.key, entry.value = "faceum", json.dumps({**metadata, **card.to_dict()})


def choose_tasks(model: FaceUM, tasks: Sequence[str] | None) -> tuple[str, ...]:
    """Return each requested task once, all of the model's for None; raises ModelError for an empty list."""
    if tasks is None:
        return model.config.tasks
    if not tasks:
        raise ModelError(f"No task was given; expected some of {', '.join(model.config.tasks)}.")
    return tuple(dict.fromkeys(tasks))


def crop_of_all(model: FaceUM, tasks: Sequence[str]) -> CropSpec:
    """Return the crop policy that the tasks share; raises ModelError if they do not share one."""
    specs = {model.config.crop_of(task) for task in tasks}
    if len(specs) != 1:
        groups = " or ".join(",".join(group) for _, group in model.config.crops)
        raise ModelError(
            f"An ONNX file has one crop policy, and these tasks of {model.config.name} use {len(specs)}; "
            f"choose among {groups}."
        )
    return specs.pop()


def _differences(
    path: Path, crops: np.ndarray, masks: np.ndarray, expected: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Return each task's difference from torch: the 99.9th percentile, relative to the largest value.

    Not the maximum, since rounding can change the expert of a token that two experts fit equally. The crops
    are run together and the first one alone (a single one twice), and the larger difference counts.
    """
    session = open_session(path)
    differences = dict.fromkeys(expected, 0.0)
    for rows in (list(range(len(crops))), [0] if len(crops) > 1 else [0, 0]):
        answers = session.run(list(expected), {"crop_BCHW": crops[rows], "face_tokens_BN": masks[rows]})
        for (task, values), answer in zip(expected.items(), answers, strict=True):
            apart = float(np.quantile(np.abs(answer - values[rows]), 0.999))
            relative = apart / max(float(np.abs(values[rows]).max()), 1e-6)
            differences[task] = max(differences[task], relative if np.isfinite(relative) else float("inf"))
    return differences
