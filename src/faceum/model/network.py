"""FaceUM, the whole network: crops and face-token masks -> each asked task's answer.

Letters: B batch, S crop size, N patch tokens, T tasks, P pairs of task and image, D width.
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
from faceum.model.heads import compact_heads
from faceum.model.layers import require_known
from faceum.model.moe import MoEBlock, MoEConfig
from faceum.model.pyramid import PyramidPointsHead
from faceum.model.reference_heads import published_heads
from faceum.model.router import Routing
from faceum.model.vit import BlockConfig, StemConfig, Trunk
from faceum.tasks import TASKS


@dataclass(frozen=True, kw_only=True)
class FaceUMConfig:
    """A network: `compact` and `base` are two of these.

    name: what it is called. tasks: the tasks it answers, a subset of tasks.TASKS in its order; a task's place
        among them is its id in the routers, which have gates for these alone.
    crops: crop policy -> tasks that use it; one call takes crops of one policy.
    stem, block, moe: see their classes. depth: dense blocks before the moe_blocks. moe_blocks: how many MoE blocks.
    class_token: a token that stands for the whole crop, as in CLIP. heads: a name in HEADS.
    mean, std: RGB normalisation in 0..1, kept in the network as buffers.
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
        for task in self.tasks:
            require_known("task", task, TASKS)
            self.crop_of(task)
        if self.moe.router.kind == "reference" and not self.class_token:
            raise ModelError(f"The reference router of {self.name!r} needs class_token=True; set it.")

    def crop_of(self, task: str) -> CropSpec:
        """The crop policy that a task's images are cut by."""
        for spec, tasks in self.crops:
            if task in tasks and task in self.tasks:
                return spec
        raise ModelError(f"{self.name} has no task {task!r}; it answers {', '.join(self.tasks)}.")


@dataclass(frozen=True)
class Output(Mapping[str, Tensor]):
    """What the network answers.

    answers: task -> tensor: recognition (B, 512) before normalisation; age (B, 101), attributes (B, 40) and
        expression (B, 8) logits; parsing (B, 19, h, w) logits at the head's own resolution; landmarks
        (B, 68, 2) normalised to the crop, x then y.
    images: task -> the rows of the batch that its answer holds: all, unless `wanted` said otherwise.
    routing: what each mixture's router chose, first mixture first; empty for a dense twin.
    heat: in training, task -> its heat maps' logits (B, 68, h, w), where its head answers by sigmoid maps.
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


HEADS = {"compact": compact_heads, "published": published_heads}


def rows_of(x_BChw: Tensor, row_P: Tensor) -> Tensor:
    """x_BChw.index_select(0, row_P), whose backward pass keeps channels last; the plain one copies it all."""
    height, width = x_BChw.shape[-2:]
    row_Px = x_BChw.permute(0, 2, 3, 1).flatten(1).index_select(0, row_P)
    return row_Px.unflatten(1, (height, width, -1)).permute(0, 3, 1, 2)


def round_weights(network: nn.Module, dtype: torch.dtype) -> None:
    """Store in `dtype` what autocast to `dtype` would round at every call: its answers stay what they were.

    Norms, routers, positions and the class token, which it computes in float32, are left alone.
    """
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, Experts)):
            module.to(dtype)


class FaceUM(nn.Module):
    """One trunk pass, then the asked tasks' tokens through the experts together, then their heads."""

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
        """Crops and masks -> Output.

        crop_BCHW: float32 RGB in 0..1, all of one crop policy. face_tokens_BN: bool, patch tokens row-major.
        tasks: which to answer; all that share the crop's size by default.
        has_label_TB: bool; a task then sees only the images that want it (training: those with its label). May
            stay on the CPU, where its rows are counted without waiting for a GPU.
        Raises ModelError for an unknown task, a wrong crop size or a mask that does not fit.
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
        # Filled on the spot: to copy numbers to a GPU would wait for it.
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
            head, its_maps = self.heads[task], self._maps_of(task, maps, image_B)
            images[task] = image_B
            if self.training and isinstance(head, PyramidPointsHead):
                heat[task] = head.heat(task_BND, its_maps)
                answers[task] = head.points(heat[task])
            else:
                answers[task] = head(task_BND, its_maps)
        return Output(answers, images, routing, heat)

    def _maps_of(self, task: str, maps: list[Tensor], image_B: Tensor) -> list[Tensor]:
        """The images' rows of those maps that the task's head looks at; the others stay as they are."""
        if not maps or len(image_B) == len(maps[0]):
            return maps
        used = cast(tuple[int, ...], self.heads[task].maps_used)
        return [rows_of(finer, image_B) if place in used else finer for place, finer in enumerate(maps)]

    def _mix(
        self, x_SND: Tensor, face_tokens_BN: Tensor, row_P: Tensor, task_P: Tensor
    ) -> tuple[Tensor, tuple[Routing, ...]]:
        """Rows shared by the tasks -> one row a pair, after all moe_blocks."""
        face_PN = face_tokens_BN.index_select(0, row_P)
        if self.config.class_token:
            face_PN = torch.cat([torch.ones_like(face_PN[:, :1]), face_PN], dim=1)
        routing = []
        for moe_block in self.moe_blocks:
            x_SND, chosen = moe_block(x_SND, row_P, task_P, face_PN)
            row_P = torch.arange(len(task_P), device=x_SND.device)
            if chosen is not None:
                routing.append(chosen)
        return x_SND, tuple(routing)

    def _check(
        self, crop_BCHW: Tensor, face_tokens_BN: Tensor, tasks: Sequence[str] | None
    ) -> tuple[str, ...]:
        size = crop_BCHW.shape[-1]
        sizes = sorted({spec.size for spec, _ in self.config.crops})
        if tasks is None:
            tasks = [task for task in self.config.tasks if self.config.crop_of(task).size == size]
            if not tasks:
                taken = " or ".join(map(str, sizes))
                raise ModelError(f"{self.config.name} takes crops of {taken} pixels, not of {size}.")
        if isinstance(tasks, str) or not tasks:
            raise ModelError(
                f"tasks is {tasks!r}; give at least one of {', '.join(self.config.tasks)}, as a sequence."
            )
        for task in tasks:
            spec = self.config.crop_of(task)
            if tuple(crop_BCHW.shape[1:]) != (3, spec.size, spec.size):
                raise ModelError(
                    f"Task {task} takes crops of (B, 3, {spec.size}, {spec.size}), not "
                    f"{tuple(crop_BCHW.shape)}; group the tasks of {self.config.name} by crop size."
                )
            if face_tokens_BN.shape != (len(crop_BCHW), spec.grid**2) or face_tokens_BN.dtype != torch.bool:
                raise ModelError(
                    f"The face mask must be bool of shape ({len(crop_BCHW)}, {spec.grid**2}), not "
                    f"{face_tokens_BN.dtype} of {tuple(face_tokens_BN.shape)}."
                )
        return tuple(tasks)
