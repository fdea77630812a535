"""The experts' load against a count by hand of the router's choices."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from faceum.crop import Crop, network_input
from faceum.model.configs import COMPACT
from faceum.model.network import FaceUM
from faceum.model.routing_stats import REGIONS, expert_load
from faceum.tasks import TASKS

SPEC = COMPACT.crops[0][0]


def crops(count: int) -> list[Crop]:
    rng = np.random.default_rng(0)
    return [
        Crop(
            image=rng.integers(0, 256, (SPEC.size, SPEC.size, 3), np.uint8),
            matrix=np.eye(2, 3),
            inverse=np.eye(2, 3),
            face_tokens_N=rng.random(SPEC.grid**2) < 0.5,
        )
        for _ in range(count)
    ]


def test_load_counts_every_choice():
    torch.manual_seed(0)
    network = FaceUM(COMPACT).eval()
    given = crops(3)
    load = expert_load(network, given, ("age", "parsing"))
    assert list(load) == [f"MoE block {n}, {region}" for n in (1, 2) for region in REGIONS]
    images = network_input(np.stack([crop.image for crop in given]))
    masks = torch.from_numpy(np.stack([crop.face_tokens_N for crop in given]))
    with torch.inference_mode():
        routing = network(torch.from_numpy(images), masks, ("age", "parsing")).routing
    for number, choice in enumerate(routing, start=1):
        for region, word in enumerate(REGIONS):
            inside = (masks == bool(region)).repeat(2, 1)
            for place, task in enumerate(("age", "parsing")):
                rows = slice(3 * place, 3 * place + 3)
                taken = choice.active_PNK[rows] & inside[rows][..., None]
                counts = torch.bincount(choice.topk_experts_PNK[rows][taken], minlength=8).numpy()
                expected = counts / counts.sum()
                assert load[f"MoE block {number}, {word}"][task] == pytest.approx(expected)


def test_dense_twin_has_no_experts():
    twin = FaceUM(replace(COMPACT, moe=replace(COMPACT.moe, routed=False))).eval()
    assert expert_load(twin, crops(1), tuple(TASKS)) == {}
