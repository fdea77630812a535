"""A torch network and crops in; which share of its tokens each task sends to each expert, out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from faceum.crop import Crop, network_input
from faceum.evaluate.samples import BATCH

if TYPE_CHECKING:
    from faceum.model.network import FaceUM

REGIONS = ("background", "face")
"""The regions in the order in which the router counts them."""


def expert_load(
    network: FaceUM, crops: Sequence[Crop], tasks: Sequence[str]
) -> dict[str, dict[str, list[float]]]:
    """Return "MoE block 1, face" -> task -> each expert's share of the tokens, 0..1, summing to 1.

    network: in evaluation mode. crops: as its crop policy for `tasks` cuts them, at least one. tasks: that
    share one crop policy. A dense twin has no experts: an empty dict. A task that sent no token of a region
    anywhere (no background in view) has only zeros there.
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
        taken = [routing.load_TRE.cpu().numpy() for routing in output.routing]
        counts = [before + more for before, more in zip(counts, taken, strict=True)] if counts else taken
    ids = network.config.tasks
    load: dict[str, dict[str, list[float]]] = {}
    for number, counted in enumerate(counts, start=1):
        for region, word in enumerate(REGIONS):
            rows = {task: counted[ids.index(task), region] for task in tasks}
            load[f"MoE block {number}, {word}"] = {
                task: (row / max(int(row.sum()), 1)).tolist() for task, row in rows.items()
            }
    return load
