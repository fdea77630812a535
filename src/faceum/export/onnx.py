"""A network in, an ONNX file that answers as it does out, compared with torch before it counts.

In the file every expert sees every token and the gates of those that were not chosen are zero, since ONNX has
no grouped product. Each task has its own branch behind the shared trunk, so that one that is not needed can
be cut off. B crops, N patch tokens, P pairs, D width, E experts, K slots, H hidden width.
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
from faceum.files import whole_file
from faceum.model.experts import Experts
from faceum.model.moe import MoE
from faceum.model.network import FaceUM
from faceum.model.router import Routing
from faceum.onnx_session import open_session
from faceum.runner import NetworkCard

SMALLEST_HALF = 256
"""Tensors of fewer values stay float32: they cost nothing, and norms and biases are among them."""

TOLERANCE = 2e-3
"""Largest difference from torch, as a share of an output's largest value, on almost all values."""

MODULES = "pkg.torch.onnx.name_scopes"
"""Where the exporter notes the modules that a node comes from."""


class EveryExpert(nn.Module):
    """All experts on all tokens, summed by their gates: what `Experts` answers, in a form ONNX can hold."""

    expand: Tensor
    reduce: Tensor

    def __init__(self, experts: Experts) -> None:
        super().__init__()
        count, width, hidden = experts.fc1.shape
        self.count, self.hidden = count, hidden
        self.activation = experts.activation
        self.register_buffer("expand", experts.fc1.detach().permute(1, 0, 2).reshape(width, -1).contiguous())
        self.register_buffer("reduce", experts.fc2.detach().reshape(-1, width).contiguous())

    def forward(self, x_PND: Tensor, routing: Routing) -> Tensor:
        """(P, N, D) tokens -> (P, N, D)."""
        # Compared and summed rather than scattered: a scatter onto zeros has no fast kernel in onnxruntime.
        chosen_PNKE = routing.topk_experts_PNK[..., None] == torch.arange(self.count, device=x_PND.device)
        gate_PNE = (chosen_PNKE * routing.weights_PNK[..., None]).sum(-2)
        hidden_PNX = self.activation(x_PND @ self.expand)
        gated_PNEH = hidden_PNX.unflatten(-1, (self.count, self.hidden)) * gate_PNE[..., None]
        return gated_PNEH.flatten(-2) @ self.reduce


class TaskBranches(nn.Module):
    """A network of one crop policy whose tasks run one after the other behind the shared trunk."""

    def __init__(self, model: FaceUM, tasks: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.tasks = tuple(tasks)

    def forward(self, crop_BCHW: Tensor, face_tokens_BN: Tensor) -> tuple[Tensor, ...]:
        """As `FaceUM.forward`; the answers in the tasks' order."""
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
    """Write the network as ONNX; returns each task's difference from torch as a share of its answer.

    model: it is left as it is. metadata: what its checkpoint says of it; goes into the file. tasks: all by
    default; they must share a crop policy. half: keep large weights in float16 in the file; they are used as
    float32. check: crops (B, 3, S, S) float32 in 0..1 and face masks (B, N) to compare on, all at once and
    one alone; noise by default. Raises ModelError, and writes nothing, where the file's answers are not
    torch's or it does not take any number of crops.
    """
    tasks = chosen_tasks(model, tasks)
    spec = crop_of_all(model, tasks)
    network = copy.deepcopy(model).cpu().float().eval()
    if half:
        _round_to_half(network)
    crops, masks = check if check is not None else noise(spec)
    with torch.inference_mode():
        output = network(torch.from_numpy(crops), torch.from_numpy(masks), tasks)
        wanted = {task: output[task].numpy() for task in tasks}
    program = _exported(network, tasks, *noise(spec))  # several crops: of one, the exporter makes a constant
    if fixed := _fixed_batch(program):
        raise ModelError(
            f"The ONNX file would take one number of crops alone ({', '.join(fixed)}); nothing was written."
        )
    if half:
        _store_half(program)
    _describe(program, model, metadata, spec, tasks)
    with whole_file(path) as beside:
        onnx.save(program, str(beside))
        differences = _differences(beside, crops, masks, wanted)
        wrong = {task: value for task, value in differences.items() if not value <= TOLERANCE}
        if wrong:
            raise ModelError(f"The ONNX file would not answer as torch does ({wrong}); nothing was written.")
    return differences


def _exported(network: FaceUM, tasks: Sequence[str], crops: np.ndarray, masks: np.ndarray) -> onnx.ModelProto:
    for moe in [module for module in network.modules() if isinstance(module, MoE)]:
        if isinstance(moe.experts, Experts):
            moe.experts = EveryExpert(moe.experts)  # type: ignore[assignment]
    batch = torch.export.Dim("B", min=1, max=4096)
    # The exporter reports its progress with print, and warns of what is none of its user's business.
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


def _fixed_batch(program: onnx.ModelProto) -> list[str]:
    """The inputs and outputs whose first dimension is a number, where any number of crops should fit."""
    return [
        value.name
        for value in [*program.graph.input, *program.graph.output]
        if not value.type.tensor_type.shape.dim or not value.type.tensor_type.shape.dim[0].dim_param
    ]


def _sort(values: Any, stable: bool = True, dim: int = -1, descending: bool = False) -> Any:
    """torch's stable sort in ONNX's words: TopK of all values, where equal ones keep their order, too."""
    size: Any = opset.Constant(value_ints=[values.shape[dim]])
    return opset.TopK(values, size, axis=dim, largest=int(descending), sorted=1)


def _round_to_half(network: nn.Module) -> None:
    with torch.no_grad():
        for value in [*network.parameters(), *network.buffers()]:
            if value.is_floating_point() and value.numel() >= SMALLEST_HALF:
                value.copy_(value.half().float())


def _store_half(program: onnx.ModelProto) -> None:
    """Large float32 constants become float16 with a cast behind, which onnxruntime folds when it loads."""
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
    )
    # Shapes between the nodes and notes of the exporter make up much of the file and serve nobody.
    del program.graph.value_info[:]
    for node in program.graph.node:
        if any(".router" in entry.value for entry in node.metadata_props if entry.key == MODULES):
            node.name = f"router.{node.name}"  # what makes int8 of the file leaves these alone
        del node.metadata_props[:]
        node.doc_string = ""
    entry = program.metadata_props.add()
    entry.key, entry.value = "faceum", json.dumps({**metadata, **card.to_dict()})


def chosen_tasks(model: FaceUM, tasks: Sequence[str] | None) -> tuple[str, ...]:
    """Each asked task once, all of the model's for None; ModelError where none is asked for."""
    if tasks is None:
        return model.config.tasks
    if not tasks:
        raise ModelError(f"No task was asked for; give some of {', '.join(model.config.tasks)}.")
    return tuple(dict.fromkeys(tasks))


def crop_of_all(model: FaceUM, tasks: Sequence[str]) -> CropSpec:
    """The crop policy that the tasks share; ModelError, naming those that do, where they share none."""
    specs = {model.config.crop_of(task) for task in tasks}
    if len(specs) != 1:
        groups = " or ".join(",".join(group) for _, group in model.config.crops)
        raise ModelError(
            f"An ONNX file takes crops of one kind, and these tasks of {model.config.name} need "
            f"{len(specs)}; choose among {groups}."
        )
    return specs.pop()


def noise(spec: CropSpec) -> tuple[np.ndarray, np.ndarray]:
    """Four crops (4, 3, S, S) of noise, float32 in 0..1, and face masks (4, N), to compare networks on."""
    rng = np.random.default_rng(0)
    crops = rng.uniform(size=(4, 3, spec.size, spec.size)).astype(np.float32)
    return crops, rng.uniform(size=(4, spec.grid**2)) < 0.5


def _differences(
    path: Path, crops: np.ndarray, masks: np.ndarray, wanted: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Each task's difference from torch: the 99.9th percentile over the values, as a share of the largest.

    Not the maximum: a token on the edge between two experts may fall to either side by rounding. The crops
    go in together and the first one alone (where there is but one, twice); the worse counts.
    """
    session = open_session(path)
    differences = dict.fromkeys(wanted, 0.0)
    for rows in (list(range(len(crops))), [0] if len(crops) > 1 else [0, 0]):
        answers = session.run(list(wanted), {"crop_BCHW": crops[rows], "face_tokens_BN": masks[rows]})
        for (task, values), answer in zip(wanted.items(), answers, strict=True):
            apart = float(np.quantile(np.abs(answer - values[rows]), 0.999))
            share = apart / max(float(np.abs(values[rows]).max()), 1e-6)
            differences[task] = max(differences[task], share if np.isfinite(share) else float("inf"))
    return differences
