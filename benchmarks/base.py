"""Benchmark: `base`, six tasks of one face, beside the published schedule and its dense twin, on a CPU.

    python benchmarks/base.py [--rounds 5]

Prints: encoder, published schedule / ours (reference router, same weights); encoder and heads, the same;
encoder with our router / the dense twin; the dense heads' fusion, plain / mixed before enlarging.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from in_turn import THREADS, claim, in_turn, options, stamp
from networks import seeded
from published_schedule import Crops, ours, plain_fusion, published, same

from faceum.model.configs import BASE, REFERENCE
from faceum.model.network import FaceUM
from faceum.model.pyramid import UPerNet, fuse


def inputs(model: FaceUM) -> Crops:
    """One crop of noise a resolution; the face covers its middle, about half of the tokens."""
    crops = {}
    for spec, _ in model.config.crops:
        middle = (torch.arange(spec.grid) - (spec.grid - 1) / 2).abs() < 0.36 * spec.grid
        mask = (middle[:, None] & middle[None, :]).flatten()[None]
        crops[spec.size] = (torch.rand(1, 3, spec.size, spec.size), mask)
    return crops


def schedules(rounds: int) -> None:
    """Published schedule against ours."""
    model = seeded(REFERENCE)
    with torch.no_grad():
        for block in model.mixtures:
            block.moe.router.weight.normal_(std=0.1)
    crops = inputs(model)
    for heads in (False, True):
        apart = same(
            ours(model, crops, heads=heads), published(model, crops, heads=heads), model.config.tasks
        )
        assert apart < 1e-3, apart
        times = in_turn(
            {
                "published schedule": lambda h=heads: published(model, crops, heads=h),
                "ours": lambda h=heads: ours(model, crops, heads=h),
            },
            rounds,
        )
        part = "encoder and heads" if heads else "encoder"
        claim(f"base, {part}, six tasks: published schedule / ours", times, "published schedule", "ours")


def router(rounds: int) -> None:
    """Our router against the dense twin."""
    model = seeded(BASE)
    with torch.no_grad():
        for block in model.mixtures:  # as far from even as trained gates are
            block.moe.router.weight.normal_(std=0.1)
    twin = FaceUM(replace(BASE, moe=replace(BASE.moe, routed=False))).eval()
    crops = inputs(model)
    routing = model(*crops[112]).routing + model(*crops[512], ("parsing", "landmarks")).routing
    taken = [choice.taken_PNK.sum(-1).float().mean().item() for choice in routing]
    print("  experts a token, by mixture, 112 px then 512 px:", ", ".join(f"{one:.2f}" for one in taken))
    times = in_turn(
        {
            "our router": lambda: ours(model, crops, heads=False),
            "dense twin": lambda: ours(twin, crops, heads=False),
        },
        rounds,
    )
    claim("base, encoder, six tasks: our router / dense twin", times, "our router", "dense twin")


def fusion(rounds: int) -> None:
    """The fusion convolution of one dense head, as it is and plain."""
    torch.manual_seed(0)
    net = UPerNet(width=768, channels=512, outputs=19).eval()
    maps = [torch.relu(torch.randn(1, 512, side, side)) for side in (128, 64, 32, 16)]
    weight = copy.deepcopy(net.fusion.conv.weight)
    apart = (fuse(maps, weight) - plain_fusion(maps, weight)).abs().max().item()
    print(f"  largest difference of the two forms: {apart:.1e}")
    times = in_turn(
        {
            "plain": lambda: plain_fusion(maps, weight),
            "mixed before enlarging": lambda: fuse(maps, weight),
        },
        rounds,
    )
    claim("fusion of four maps: mixed before enlarging / plain", times, "mixed before enlarging", "plain")


def main() -> None:
    """Time and print."""
    given = options(__doc__, rounds=5)
    stamp()
    torch.set_num_threads(THREADS)
    with torch.inference_mode():
        fusion(given.rounds)
        router(given.rounds)
        schedules(given.rounds)


if __name__ == "__main__":
    main()
