"""What a network's routers do: the experts of each token of one face, and the experts' load over many faces.

Letters: T tasks, R regions (background, face), N patch tokens (row-major), E experts, K slots for chosen
experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from faceum.crop import Crop, crop_face, network_input
from faceum.errors import ModelError

if TYPE_CHECKING:
    from faceum.model.network import FaceUM

SCHEMA = "faceum.experts/2"
"""The name and version under "schema" in `Inspection.to_dict()`."""

REGIONS = ("background", "face")
"""Names of the regions, by the value of a face token: False, True."""

NOT_TAKEN = -1
"""Replaces the expert in a slot that a token does not use."""

BATCH = 32
"""Crops per call of the network when the load is counted."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Route:
    """The experts of one task's patch tokens in one MoE block; a class token is left out.

    task: name of the task.
    moe_block: number of the MoE block, from 1.
    topk_experts_NK: (N, K) int64, in descending order of preference, then NOT_TAKEN.
    weights_NK: (N, K) float32, the experts' weights; with FaceRouter the rest up to 1 is the shared expert's.
    """

    task: str
    moe_block: int
    topk_experts_NK: np.ndarray
    weights_NK: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Inspection:
    """How a network routed one face.

    network: name of the network.
    num_experts: number of experts in each MoE block.
    moe_blocks: number of MoE blocks.
    crops: task -> the crop that it got, with its face tokens.
    routes: one per task and MoE block.
    """

    network: str
    num_experts: int
    moe_blocks: int
    crops: dict[str, Crop]
    routes: tuple[Route, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in the network's order."""
        return tuple(self.crops)

    def route(self, task: str, moe_block: int) -> Route:
        """Return the route of a task in a MoE block (from 1)."""
        return next(route for route in self.routes if (route.task, route.moe_block) == (task, moe_block))

    def counts(self, moe_block: int) -> np.ndarray:
        """Return (T, R, E) int64: how often each task's tokens of each region took each expert."""
        counts_TRE = np.zeros((len(self.tasks), len(REGIONS), self.num_experts), np.int64)
        for row, task in enumerate(self.tasks):
            topk_experts_NK = self.route(task, moe_block).topk_experts_NK
            for region in range(len(REGIONS)):
                experts = topk_experts_NK[self.crops[task].face_tokens_N == bool(region)]
                counts_TRE[row, region] = np.bincount(
                    experts[experts != NOT_TAKEN], minlength=self.num_experts
                )
        return counts_TRE

    def load(self, moe_block: int) -> np.ndarray:
        """Return (T, R, E): the counts as parts of a task's choices in a region; see `load_of`."""
        return load_of(self.counts(moe_block))

    def weight(self, moe_block: int) -> np.ndarray:
        """Return (T, R): the mean over a region's tokens of their weights' sum; NaN without such a token."""
        weights = np.full((len(self.tasks), len(REGIONS)), np.nan)
        for row, task in enumerate(self.tasks):
            sum_N = self.route(task, moe_block).weights_NK.sum(-1)
            for region in range(len(REGIONS)):
                inside_N = self.crops[task].face_tokens_N == bool(region)
                if inside_N.any():
                    weights[row, region] = sum_N[inside_N].mean()
        return weights

    def overlap(self) -> np.ndarray:
        """Return (T, T): how much two tasks use the same experts, 0..1, the mean over the MoE blocks.

        In one MoE block: the sum over regions and experts of the smaller of the two tasks' loads. It is 1 if
        both use all experts alike, and 0 if no expert serves both in one region.
        """
        tasks = len(self.tasks)
        total = np.zeros((tasks, tasks))
        for moe_block in range(1, self.moe_blocks + 1):
            load = load_of(self.counts(moe_block).reshape(tasks, -1))
            total += np.minimum(load[:, None], load[None]).sum(-1)
        return total / self.moe_blocks

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON: each token's experts and weights, load by region, overlap."""
        overlap = self.overlap()
        return {
            "schema": SCHEMA,
            "network": self.network,
            "num_experts": self.num_experts,
            "crops": {
                task: {
                    "size": crop.image.shape[0],
                    "face_tokens": crop.face_tokens_N.tolist(),
                    "matrix": crop.matrix.tolist(),
                }
                for task, crop in self.crops.items()
            },
            "moe_blocks": [self._block_to_dict(number) for number in range(1, self.moe_blocks + 1)],
            "overlap": {
                task: dict(zip(self.tasks, overlap[row].tolist(), strict=True))
                for row, task in enumerate(self.tasks)
            },
        }

    def _block_to_dict(self, moe_block: int) -> dict[str, Any]:
        load, weight = self.load(moe_block), self.weight(moe_block)
        by_task = {}
        for row, task in enumerate(self.tasks):
            route = self.route(task, moe_block)
            active_NK = route.topk_experts_NK != NOT_TAKEN
            rows = list(zip(route.topk_experts_NK, route.weights_NK, active_NK, strict=True))
            by_task[task] = {
                "experts": [experts[active].tolist() for experts, _, active in rows],
                "weights": [
                    np.round(weights[active].astype(float), 6).tolist() for _, weights, active in rows
                ],
                "load": {name: load[row, region].tolist() for region, name in enumerate(REGIONS)},
                "weight": {
                    name: None if np.isnan(weight[row, region]) else float(weight[row, region])
                    for region, name in enumerate(REGIONS)
                },
            }
        return by_task


def load_of(counts: np.ndarray) -> np.ndarray:
    """Return counts (..., E) as parts of their sum over the experts, 0..1; zeros if nothing was counted."""
    return counts / np.maximum(counts.sum(-1, keepdims=True), 1)


def expert_load(
    network: FaceUM, crops: Sequence[Crop], tasks: Sequence[str]
) -> dict[str, dict[str, list[float]]]:
    """Return "MoE block 1, face" -> task -> each expert's part of the choices, 0..1, summing to 1.

    network: in evaluation mode.
    crops: cut by the crop policy that the tasks share, at least one.
    tasks: of one crop policy.
    A dense twin has no experts: the result is empty. A task without a token of a region has zeros there.
    """
    import torch

    counts: list[np.ndarray] = []
    for first in range(0, len(crops), BATCH):
        group = crops[first : first + BATCH]
        with torch.inference_mode():
            output = network(
                torch.from_numpy(network_input(np.stack([crop.image for crop in group]))),
                torch.from_numpy(np.stack([crop.face_tokens_N for crop in group])),
                tuple(tasks),
            )
        more = [routing.load_TRE.cpu().numpy() for routing in output.routing]
        counts = [one + other for one, other in zip(counts, more, strict=True)] if counts else more
    return {
        f"MoE block {number}, {name}": {
            task: load_of(counts_TRE)[network.config.tasks.index(task), region].tolist() for task in tasks
        }
        for number, counts_TRE in enumerate(counts, start=1)
        for region, name in enumerate(REGIONS)
    }


def inspect_face(
    network: FaceUM,
    image: np.ndarray,
    box: np.ndarray,
    points5: np.ndarray | None = None,
    tasks: Sequence[str] | None = None,
) -> Inspection:
    """Run a network on one face and return what its routers chose.

    network: in evaluation mode, on the CPU.
    image: (H, W, 3) uint8 RGB.
    box, points5: (4,) and (5, 2), as in `Face`.
    tasks: all of the network's by default.
    Raises ModelError for a task that the network does not answer, or if it has no routed experts.
    """
    import torch

    config = network.config
    if not config.moe.routed:
        raise ModelError(f"{config.name} is a dense network; it has no routed experts to inspect.")
    asked = tuple(tasks or config.tasks)
    for task in asked:
        config.crop_of(task)
    crops: dict[str, Crop] = {}
    routes: list[Route] = []
    for spec, members in config.crops:
        together = [task for task in members if task in asked]
        if not together:
            continue
        crop = crop_face(image, spec, box, points5)
        crops.update(dict.fromkeys(together, crop))
        with torch.inference_mode():
            output = network(
                torch.from_numpy(network_input(crop.image[None])),
                torch.from_numpy(crop.face_tokens_N[None]),
                together,
            )
        for moe_block, routing in enumerate(output.routing, start=1):
            topk_experts_TNK = routing.topk_experts_PNK.masked_fill(~routing.active_PNK, NOT_TAKEN).numpy()
            weights_TNK = routing.weights_PNK.float().numpy()
            patches = slice(int(config.class_token), None)
            routes += [
                Route(
                    task=task,
                    moe_block=moe_block,
                    topk_experts_NK=topk_experts_NK[patches],
                    weights_NK=weights_NK[patches],
                )
                for task, topk_experts_NK, weights_NK in zip(
                    together, topk_experts_TNK, weights_TNK, strict=True
                )
            ]
    return Inspection(
        network=config.name,
        num_experts=config.moe.router.num_experts,
        moe_blocks=config.moe_blocks,
        crops={task: crops[task] for task in config.tasks if task in crops},
        routes=tuple(routes),
    )
