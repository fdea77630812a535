"""Layer 5. A torch network and a face in its picture in; which experts each patch token took, out.

Letters: T tasks, N patch tokens (row-major), E experts, K slots for chosen experts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from faceum.crop import Crop, crop_face
from faceum.errors import ModelError
from faceum.runner import network_input

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

    task: its name. mixture: its number, from 1.
    expert_NK: (N, K) int64, in descending order of preference; NOT_TAKEN behind the last.
    gate_NK: (N, K) float32, the weights; with our router what is missing to 1 is the shared expert's say.
    """

    task: str
    mixture: int
    expert_NK: np.ndarray
    gate_NK: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class Inspection:
    """How a network's experts met one face.

    network: its name. experts: how many each mixture has. mixtures: how many there are.
    crops: task -> the crop that it saw, with its face mask.
    routes: one a task and mixture.
    """

    network: str
    experts: int
    mixtures: int
    crops: dict[str, Crop]
    routes: tuple[Route, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in the network's order."""
        return tuple(self.crops)

    def route(self, task: str, mixture: int) -> Route:
        """The one of that task and mixture (from 1)."""
        return next(route for route in self.routes if (route.task, route.mixture) == (task, mixture))

    def counts(self, mixture: int) -> np.ndarray:
        """(T, 2, E) int64: how often each task's tokens of each of REGIONS took each expert."""
        counted = np.zeros((len(self.tasks), len(REGIONS), self.experts), np.int64)
        for row, task in enumerate(self.tasks):
            expert_NK = self.route(task, mixture).expert_NK
            for region in range(len(REGIONS)):
                chosen = expert_NK[self.crops[task].face_mask_N == bool(region)]
                counted[row, region] = np.bincount(chosen[chosen != NOT_TAKEN], minlength=self.experts)
        return counted

    def load(self, mixture: int) -> np.ndarray:
        """(T, 2, E): counts as shares of a task's choices in a region, 0..1; zeros where it made none."""
        counted = self.counts(mixture)
        return counted / np.maximum(counted.sum(-1, keepdims=True), 1)

    def weight(self, mixture: int) -> np.ndarray:
        """(T, 2): the mean over a region's tokens of their gates' sum; NaN where there is no such token."""
        weights = np.full((len(self.tasks), len(REGIONS)), np.nan)
        for row, task in enumerate(self.tasks):
            sum_N = self.route(task, mixture).gate_NK.sum(-1)
            for region in range(len(REGIONS)):
                inside_N = self.crops[task].face_mask_N == bool(region)
                if inside_N.any():
                    weights[row, region] = sum_N[inside_N].mean()
        return weights

    def overlap(self) -> np.ndarray:
        """(T, T): how much two tasks share experts, 0..1, the mean over the mixtures.

        In a mixture: the sum over regions and experts of the smaller of both tasks' shares of choices.
        1 where both spread their tokens alike, 0 where no expert serves both in one region.
        """
        tasks = len(self.tasks)
        total = np.zeros((tasks, tasks))
        for mixture in range(1, self.mixtures + 1):
            counted = self.counts(mixture).reshape(tasks, -1)
            share = counted / np.maximum(counted.sum(-1, keepdims=True), 1)
            total += np.minimum(share[:, None], share[None]).sum(-1)
        return total / self.mixtures

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON: every token's experts and gates, load by region, and overlap."""
        mixtures = []
        for mixture in range(1, self.mixtures + 1):
            load, weight = self.load(mixture), self.weight(mixture)
            by_task = {}
            for row, task in enumerate(self.tasks):
                route = self.route(task, mixture)
                taken_NK = route.expert_NK != NOT_TAKEN
                rows = list(zip(route.expert_NK, route.gate_NK, taken_NK, strict=True))
                by_task[task] = {
                    "experts": [expert[taken].tolist() for expert, _, taken in rows],
                    "gates": [np.round(gate[taken].astype(float), 6).tolist() for _, gate, taken in rows],
                    "load": {word: load[row, region].tolist() for region, word in enumerate(REGIONS)},
                    "weight": {
                        word: None if np.isnan(weight[row, region]) else float(weight[row, region])
                        for region, word in enumerate(REGIONS)
                    },
                }
            mixtures.append(by_task)
        overlap = self.overlap()
        return {
            "schema": SCHEMA,
            "network": self.network,
            "experts": self.experts,
            "crops": {
                task: {"face_tokens": crop.face_mask_N.tolist(), "matrix": crop.matrix.tolist()}
                for task, crop in self.crops.items()
            },
            "mixtures": mixtures,
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

    network: in evaluation mode, on the CPU. image: the upright picture, (H, W, 3) uint8 RGB. box (4,) and
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
                torch.from_numpy(crop.face_mask_N[None]),
                together,
            )
        for mixture, choice in enumerate(output.routing, start=1):
            expert_TNK = choice.expert_PNK.masked_fill(~choice.taken_PNK, NOT_TAKEN).numpy()
            gate_TNK = choice.gate_PNK.float().numpy()
            patches = slice(int(config.class_token), None)
            routes += [
                Route(task=task, mixture=mixture, expert_NK=expert[patches], gate_NK=gate[patches])
                for task, expert, gate in zip(together, expert_TNK, gate_TNK, strict=True)
            ]
    return Inspection(
        network=config.name,
        experts=config.moe.router.experts,
        mixtures=config.mixtures,
        crops={task: crops[task] for task in config.tasks if task in crops},
        routes=tuple(routes),
    )
