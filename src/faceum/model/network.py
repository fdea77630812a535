"""FaceUM, the whole network: crops and face tokens -> the answer of each requested task.

Letters: B batch, S crop size, N patch tokens, T tasks, P pairs of task and image, D token dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from faceum.crop import CropSpec
from faceum.errors import ModelError
from faceum.model.experts import Experts
from faceum.model.heads import build_compact_heads
from faceum.model.layers import require_known
from faceum.model.moe import MoEBlock, MoEConfig
from faceum.model.pyramid import PyramidPointsHead
from faceum.model.reference_heads import build_published_heads
from faceum.model.router import Routing
from faceum.model.vit import STRIDE, BlockConfig, StemConfig, Trunk
from faceum.tasks import TASKS


@dataclass(frozen=True, kw_only=True)
class FaceUMConfig:
    """The config of a network; `faceum.model.configs` has the named ones.

    name: of the network.
    tasks: the tasks that it answers, a subset of tasks.TASKS in that order. A task's position is its id in
        the routers, which have gates for these tasks only.
    crops: crop policy -> tasks that use it. One call takes crops of one policy.
    stem: how pixels become tokens.
    block: every transformer block.
    moe: the MLP of every MoE block.
    depth: number of dense blocks before the MoE blocks.
    moe_blocks: number of MoE blocks.
    class_token: whether a learned token joins the patch tokens, as in CLIP.
    heads: a name in HEADS.
    mean, std: RGB normalization of pixels in 0..1, stored in the network as buffers.
    outputs: task -> number of outputs, if it differs from tasks.TASKS.
    """

    name: str
    tasks: tuple[str, ...] = tuple(TASKS)
    crops: tuple[tuple[CropSpec, tuple[str, ...]], ...]
    stem: StemConfig
    block: BlockConfig
    moe: MoEConfig
    depth: int
    moe_blocks: int = 2
    class_token: bool = False
    heads: str = "compact"
    mean: tuple[float, float, float] = (0.5, 0.45, 0.42)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    outputs: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_known("kind of heads", self.heads, HEADS)
        if not self.crops or not self.tasks:
            raise ModelError(f"The network {self.name!r} has no crop policy or no task; give both.")
        for task in self.tasks:
            require_known("task", task, TASKS)
            self.crop_of(task)
        for spec, _ in self.crops:
            if spec.grid < 1 or spec.size != STRIDE * spec.grid:
                raise ModelError(
                    f"A crop has size {spec.size} and grid {spec.grid}; size must be {STRIDE} * grid."
                )
            if spec.eye_distance <= 0 or spec.margin < 0:
                raise ModelError(
                    f"A crop has eye_distance {spec.eye_distance:g} and margin {spec.margin:g}; expected a "
                    "positive number and one that is not negative."
                )
        sizes = {"depth": self.depth, "moe_blocks": self.moe_blocks}
        for name, value in {**sizes, **{f"outputs.{t}": n for t, n in self.outputs.items()}}.items():
            if value < 0 or (value == 0 and name not in sizes):
                raise ModelError(f"{name} is {value}; it must be positive.")
        if min(self.std) <= 0:
            raise ModelError(f"std is {self.std}; its values must be positive.")
        if self.moe.router.kind == "reference" and not self.class_token:
            raise ModelError(f"The reference router of {self.name!r} needs class_token=True.")

    def crop_of(self, task: str) -> CropSpec:
        """Return a task's crop policy; raises ModelError if the network does not answer that task."""
        for spec, tasks in self.crops:
            if task in tasks and task in self.tasks:
                return spec
        raise ModelError(f"{self.name} has no task {task!r}; it answers {', '.join(self.tasks)}.")


@dataclass(frozen=True)
class Output(Mapping[str, Tensor]):
    """The network's answers.

    answers: task -> tensor: recognition (B, 512), not normalized; age (B, 101), attributes (B, 40) and
        expression (B, 8) logits; parsing (B, 19, h, w) logits at the head's resolution; landmarks (B, 68, 2)
        in 0..1 of the crop, x then y.
    images: task -> rows of the batch that its answer is for: all, unless `has_label_TB` selected some.
    routing: the routing of each MoE block, in order; empty for a dense twin.
    heat: in training, task -> logits (B, 68, h, w) of its heat maps, if its head has sigmoid heat maps.
    """

    answers: dict[str, Tensor]
    images: dict[str, Tensor]
    routing: tuple[Routing, ...]
    heat: dict[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, task: str) -> Tensor:
        return self.answers[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self.answers)

    def __len__(self) -> int:
        return len(self.answers)


HEADS = {"compact": build_compact_heads, "published": build_published_heads}


def rows_of(x_BChw: Tensor, row_P: Tensor) -> Tensor:
    """Return x_BChw.index_select(0, row_P) with a backward pass that keeps channels last without a copy."""
    height, width = x_BChw.shape[-2:]
    row_Px = x_BChw.permute(0, 2, 3, 1).flatten(1).index_select(0, row_P)
    return row_Px.unflatten(1, (height, width, -1)).permute(0, 3, 1, 2)


def round_weights(network: nn.Module, dtype: torch.dtype) -> None:
    """Store the weights in `dtype` that autocast to `dtype` would round at every call; answers do not change.

    Norms, routers, positions and the class token, which autocast computes in float32, keep their dtype.
    """
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, Experts)):
            module.to(dtype)


class FaceUM(nn.Module):
    """A trunk that runs once per image, MoE blocks over all tasks' tokens together, and a head per task."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: FaceUMConfig) -> None:
        super().__init__()
        self.config = config
        grid = max(spec.grid for spec, _ in config.crops)
        self.trunk = Trunk(
            config.stem, config.block, depth=config.depth, grid=grid, class_token=config.class_token
        )
        self.moe_blocks = nn.ModuleList(
            MoEBlock(config.block, config.moe, tasks=len(config.tasks)) for _ in range(config.moe_blocks)
        )
        self.heads = HEADS[config.heads](
            {
                name: (TASKS[name].kind, config.outputs.get(name, TASKS[name].outputs))
                for name in config.tasks
            },
            dim=config.block.dim,
            patches=grid * grid,
            map_channels=self.trunk.stem.map_channels,
            activation=config.block.activation,
        )
        self.register_buffer("mean", torch.tensor(config.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(config.std).view(1, 3, 1, 1))

    def forward(
        self,
        crop_BCHW: Tensor,
        face_tokens_BN: Tensor,
        tasks: Sequence[str] | None = None,
        has_label_TB: Tensor | None = None,
    ) -> Output:
        """Return the Output for crops and their face tokens.

        crop_BCHW: float32 RGB in 0..1, all of one crop policy.
        face_tokens_BN: bool, True for face patches, row-major.
        tasks: the tasks to answer; by default all whose crops have this size.
        has_label_TB: bool; a task then gets only the images that have its label. On the CPU its
            rows are counted without waiting for a GPU.
        Raises ModelError for an unknown task, a wrong crop size, or face tokens of another shape or dtype.
        """
        tasks = self._check(crop_BCHW, face_tokens_BN, tasks)
        x_SND, maps = self.trunk((crop_BCHW - self.mean) / self.std)
        batch = len(crop_BCHW)
        if has_label_TB is None:
            row_P = torch.arange(batch, device=x_SND.device).repeat(len(tasks))
            counts = [batch] * len(tasks)
        else:
            row_P = has_label_TB.nonzero()[:, 1].to(x_SND.device, non_blocking=True)
            counts = has_label_TB.sum(1).tolist()
        # Filled on the device: copying numbers to a GPU would wait for it.
        task_P = torch.cat(
            [
                row_P.new_full((count,), self.config.tasks.index(task))
                for task, count in zip(tasks, counts, strict=True)
            ]
        )
        x_PND, routing = self._mix(x_SND, face_tokens_BN, row_P, task_P)

        answers, images, heat = {}, {}, {}
        patch_PND = x_PND[:, 1:] if self.config.class_token else x_PND
        for task, task_BND, image_B in zip(tasks, patch_PND.split(counts), row_P.split(counts), strict=True):
            head, task_maps = self.heads[task], self._select_maps(task, maps, image_B)
            images[task] = image_B
            if self.training and isinstance(head, PyramidPointsHead):
                heat[task] = head.heat(task_BND, task_maps)
                answers[task] = head.points(heat[task])
            else:
                answers[task] = head(task_BND, task_maps)
        return Output(answers, images, routing, heat)

    def _select_maps(self, task: str, maps: list[Tensor], image_B: Tensor) -> list[Tensor]:
        """Select the images' rows of the maps that the task's head uses; the other maps stay as they are."""
        if not maps or len(image_B) == len(maps[0]):
            return maps
        used = cast(tuple[int, ...], self.heads[task].maps_used)
        return [rows_of(finer, image_B) if place in used else finer for place, finer in enumerate(maps)]

    def _mix(
        self, x_SND: Tensor, face_tokens_BN: Tensor, row_P: Tensor, task_P: Tensor
    ) -> tuple[Tensor, tuple[Routing, ...]]:
        """Run the MoE blocks: rows shared by the tasks -> one row per pair."""
        face_PN = face_tokens_BN.index_select(0, row_P)
        if self.config.class_token:
            face_PN = torch.cat([torch.ones_like(face_PN[:, :1]), face_PN], dim=1)
        routing = []
        for moe_block in self.moe_blocks:
            x_SND, block_routing = moe_block(x_SND, row_P, task_P, face_PN)
            row_P = torch.arange(len(task_P), device=x_SND.device)
            if block_routing is not None:
                routing.append(block_routing)
        return x_SND, tuple(routing)

    def _check(
        self, crop_BCHW: Tensor, face_tokens_BN: Tensor, tasks: Sequence[str] | None
    ) -> tuple[str, ...]:
        size = crop_BCHW.shape[-1]
        sizes = sorted({spec.size for spec, _ in self.config.crops})
        if tasks is None:
            tasks = [task for task in self.config.tasks if self.config.crop_of(task).size == size]
            if not tasks:
                expected = " or ".join(map(str, sizes))
                raise ModelError(f"{self.config.name} expects crops of {expected} pixels, got {size}.")
        if isinstance(tasks, str) or not tasks:
            raise ModelError(
                f"tasks is {tasks!r}; expected a sequence of one or more of {', '.join(self.config.tasks)}."
            )
        for task in tasks:
            spec = self.config.crop_of(task)
            if tuple(crop_BCHW.shape[1:]) != (3, spec.size, spec.size):
                raise ModelError(
                    f"The task {task} expects crops of shape (B, 3, {spec.size}, {spec.size}), got "
                    f"{tuple(crop_BCHW.shape)}; group the tasks of {self.config.name} by crop size."
                )
            if face_tokens_BN.shape != (len(crop_BCHW), spec.grid**2) or face_tokens_BN.dtype != torch.bool:
                raise ModelError(
                    f"Expected face tokens of dtype bool and shape ({len(crop_BCHW)}, {spec.grid**2}), got "
                    f"{face_tokens_BN.dtype} and {tuple(face_tokens_BN.shape)}."
                )
        return tuple(tasks)
