"""A torch network and a face in its image in; which experts each patch token took, out.

Letters: T tasks, N patch tokens (row-major), E experts, K slots for chosen experts.
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

SCHEMA = "faceum.experts/1"
"""The name and version under "schema" in `Inspection.to_dict()`."""

REGIONS = ("background", "face")
"""The regions by what a face mask says of a token: False, True."""

NOT_TAKEN = -1
"""In the place of an expert, where a token took fewer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Route:
    """What the patch tokens of one task took in one mixture; a class token is left out.

    task: its name. moe_block: its number, from 1.
    topk_experts_NK: (N, K) int64, in descending order of preference; NOT_TAKEN behind the last.
    weights_NK: (N, K) float32, the weights; with our router what is missing to 1 is the shared expert's say.
    """

    task: str
    moe_block: int
    topk_experts_NK: np.ndarray
    weights_NK: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Inspection:
    """How a network's experts met one face.

    network: its name. experts: how many each mixture has. moe_blocks: how many there are.
    crops: task -> the crop that it saw, with its face mask.
    routes: one a task and mixture.
    """

    network: str
    experts: int
    moe_blocks: int
    crops: dict[str, Crop]
    routes: tuple[Route, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in the network's order."""
        return tuple(self.crops)

    def route(self, task: str, moe_block: int) -> Route:
        """The one of that task and mixture (from 1)."""
        return next(route for route in self.routes if (route.task, route.moe_block) == (task, moe_block))

    def counts(self, moe_block: int) -> np.ndarray:
        """(T, 2, E) int64: how often each task's tokens of each of REGIONS took each expert."""
        counted = np.zeros((len(self.tasks), len(REGIONS), self.experts), np.int64)
        for row, task in enumerate(self.tasks):
            topk_experts_NK = self.route(task, moe_block).topk_experts_NK
            for region in range(len(REGIONS)):
                chosen = topk_experts_NK[self.crops[task].face_tokens_N == bool(region)]
                counted[row, region] = np.bincount(chosen[chosen != NOT_TAKEN], minlength=self.experts)
        return counted

    def load(self, moe_block: int) -> np.ndarray:
        """(T, 2, E): counts as shares of a task's choices in a region, 0..1; zeros where it made none."""
        counted = self.counts(moe_block)
        return counted / np.maximum(counted.sum(-1, keepdims=True), 1)

    def weight(self, moe_block: int) -> np.ndarray:
        """(T, 2): the mean over a region's tokens of their gates' sum; NaN where there is no such token."""
        weights = np.full((len(self.tasks), len(REGIONS)), np.nan)
        for row, task in enumerate(self.tasks):
            sum_N = self.route(task, moe_block).weights_NK.sum(-1)
            for region in range(len(REGIONS)):
                inside_N = self.crops[task].face_tokens_N == bool(region)
                if inside_N.any():
                    weights[row, region] = sum_N[inside_N].mean()
        return weights

    def overlap(self) -> np.ndarray:
        """(T, T): how much two tasks share experts, 0..1, the mean over the moe_blocks.

        In a moe_block: the sum over regions and experts of the smaller of both tasks' shares of choices.
        1 where both spread their tokens alike, 0 where no expert serves both in one region.
        """
        tasks = len(self.tasks)
        total = np.zeros((tasks, tasks))
        for moe_block in range(1, self.moe_blocks + 1):
            counted = self.counts(moe_block).reshape(tasks, -1)
            share = counted / np.maximum(counted.sum(-1, keepdims=True), 1)
            total += np.minimum(share[:, None], share[None]).sum(-1)
        return total / self.moe_blocks

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: every token's experts and gates, load by region, and overlap."""
        moe_blocks = []
        for moe_block in range(1, self.moe_blocks + 1):
            load, weight = self.load(moe_block), self.weight(moe_block)
            by_task = {}
            for row, task in enumerate(self.tasks):
                route = self.route(task, moe_block)
                active_NK = route.topk_experts_NK != NOT_TAKEN
                rows = list(zip(route.topk_experts_NK, route.weights_NK, active_NK, strict=True))
                by_task[task] = {
                    "experts": [expert[taken].tolist() for expert, _, taken in rows],
                    "gates": [np.round(gate[taken].astype(float), 6).tolist() for _, gate, taken in rows],
                    "load": {word: load[row, region].tolist() for region, word in enumerate(REGIONS)},
                    "weight": {
                        word: None if np.isnan(weight[row, region]) else float(weight[row, region])
                        for region, word in enumerate(REGIONS)
                    },
                }
            moe_blocks.append(by_task)
        overlap = self.overlap()
        return {
            "schema": SCHEMA,
            "network": self.network,
            "experts": self.experts,
            "crops": {
                task: {"face_tokens": crop.face_tokens_N.tolist(), "matrix": crop.matrix.tolist()}
                for task, crop in self.crops.items()
            },
            "moe_blocks": moe_blocks,
            "overlap": {
                task: dict(zip(self.tasks, overlap[row].tolist(), strict=True))
                for row, task in enumerate(self.tasks)
            },
        }


def inspect_face(
    network: FaceUM,
    image: np.ndarray,
    box: np.ndarray,
    points5: np.ndarray | None = None,
    tasks: Sequence[str] | None = None,
) -> Inspection:
    """Send one face through a network and keep what its routers chose.

    network: in evaluation mode, on the CPU. image: the image, (H, W, 3) uint8 RGB. box (4,) and
    points5 (5, 2) as in `Face`. tasks: all of the network's by default.
    Raises ModelError for a task that the network does not answer, and for a network without routed experts.
    """
    import torch

    config = network.config
    if not config.moe.routed:
        raise ModelError(f"{config.name} is a dense network: it has no routed experts to look at.")
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
                    task=task, moe_block=moe_block, topk_experts_NK=expert[patches], weights_NK=gate[patches]
                )
                for task, expert, gate in zip(together, topk_experts_TNK, weights_TNK, strict=True)
            ]
    return Inspection(
        network=config.name,
        experts=config.moe.router.num_experts,
        moe_blocks=config.moe_blocks,
        crops={task: crops[task] for task in config.tasks if task in crops},
        routes=tuple(routes),
    )
