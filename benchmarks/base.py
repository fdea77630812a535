"""Compare `base`, six tasks of one face, with the published schedule and with its dense twin.

    python benchmarks/base.py [--rounds 5] [--device cuda]

Prints ratios of times: the encoder of the published schedule / ours (reference router, same weights); the
same with heads; the encoder with our router / the dense twin; the dense heads' fusion, plain / mixed before
enlarging. On a GPU in bfloat16, with crops and answers staying there: faces per second at several batch
sizes, the share of the matmul ceiling, where the time goes, and the same ratios.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import torch
from in_turn import THREADS, Times, claim, in_turn, options, show, stamp
from networks import seeded
from on_gpu import captured, ceiling, name_gpu, on_gpu
from published_schedule import Crops, ours, published, same
from torch.utils.flop_counter import FlopCounterMode

from faceum.model.configs import BASE, REFERENCE
from faceum.model.network import FaceUM, FaceUMConfig, round_weights
from faceum.model.pyramid import UPerNet, fuse_mixed, fuse_plainly

PUBLISHED_RATE = 33, 37
"""Images a second that FaceXFormer's authors give for all its tasks (arXiv 2403.12960)."""


def inputs(model: FaceUM, batch: int = 1) -> Crops:
    """Return crops of noise of each resolution; the face covers their middle, about half of the tokens."""
    crops = {}
    for spec, _ in model.config.crops:
        middle = (torch.arange(spec.grid) - (spec.grid - 1) / 2).abs() < 0.36 * spec.grid
        mask = (middle[:, None] & middle[None, :]).flatten().expand(batch, -1)
        crops[spec.size] = (torch.rand(batch, 3, spec.size, spec.size), mask)
    return crops


def schedules(rounds: int) -> None:
    """Published schedule against ours."""
    model = seeded(REFERENCE)
    with torch.no_grad():
        for block in model.moe_blocks:
            block.moe.router.weight.normal_(std=0.1)
    crops = inputs(model)
    for heads in (False, True):
        apart = same(
            ours(model, crops, heads=heads), published(model, crops, heads=heads), model.config.tasks
        )
        assert apart < 1e-3, apart
        print(f"  largest difference of the answers: {apart:.1e}")
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
        for block in model.moe_blocks:  # as far from even as trained gates are
            block.moe.router.weight.normal_(std=0.1)
    twin = FaceUM(replace(BASE, moe=replace(BASE.moe, routed=False))).eval()
    crops = inputs(model)
    routing = model(*crops[112]).routing + model(*crops[512], ("parsing", "landmarks")).routing
    taken = [one.active_PNK.sum(-1).float().mean().item() for one in routing]
    print("  experts a token, by moe_block, 112 px then 512 px:", ", ".join(f"{one:.2f}" for one in taken))
    times = in_turn(
        {
            "our router": lambda: ours(model, crops, heads=False),
            "dense twin": lambda: ours(twin, crops, heads=False),
        },
        rounds,
    )
    claim("base, encoder, six tasks: our router / dense twin", times, "our router", "dense twin")


def fusion(rounds: int) -> None:
    """Compare the fusion convolution of one dense head with a plain one."""
    torch.manual_seed(0)
    net = UPerNet(dim=768, channels=512, outputs=19).eval()
    maps = [torch.relu(torch.randn(1, 512, side, side)) for side in (128, 64, 32, 16)]
    weight = copy.deepcopy(net.fusion.conv.weight)
    apart = (fuse_mixed(maps, weight) - fuse_plainly(maps, weight)).abs().max().item()
    print(f"  largest difference of the two forms: {apart:.1e}")
    times = in_turn(
        {
            "plain": lambda: fuse_plainly(maps, weight),
            "mixed before enlarging": lambda: fuse_mixed(maps, weight),
        },
        rounds,
    )
    claim("fusion of four maps: mixed before enlarging / plain", times, "mixed before enlarging", "plain")


def network_on_gpu(config: FaceUMConfig, device: str = "cuda") -> FaceUM:
    """Return the seeded network of the torch runner, with gates as uneven as trained ones."""
    with torch.device(device):
        model = seeded(config)
    with torch.no_grad():
        for block in model.moe_blocks:
            if block.moe.router is not None:
                block.moe.router.weight.normal_(std=0.1)
    round_weights(model, torch.bfloat16)
    return model.to(memory_format=torch.channels_last)


def crops_on_gpu(model: FaceUM, batch: int, device: str = "cuda") -> Crops:
    """As `inputs`, with channels last."""
    return {
        size: (crop.to(device, memory_format=torch.channels_last), mask.to(device).contiguous())
        for size, (crop, mask) in inputs(model, batch).items()
    }


def operations(model: FaceUM, crops: Crops) -> float:
    """Return the multiplications and additions of products and convolutions for the crops, all six tasks."""
    experts = 0.0
    with FlopCounterMode(display=False) as counted:
        for spec, tasks in model.config.crops:
            for one in model(*crops[spec.size], tasks).routing:
                rows, weight = int(one.active_PNK.sum()), model.moe_blocks[0].moe.experts.fc1[0]
                experts += 2 * 2 * rows * weight.numel()
    # The grouped kernel is one that the counter does not know; single products it does.
    known = any("grouped" in str(kind) for kind in counted.get_flop_counts()["Global"])
    grouped = crops[112][0].is_cuda and not known
    return counted.get_total_flops() + experts * grouped


def faces_a_second(spent: Times, batch: int) -> float:
    """Of the median round."""
    return batch / float(np.median(spent.wall))


def speed_on_gpu(
    model: FaceUM, rounds: int, most: float, batches: tuple[int, ...] = (1, 8, 64), device: str = "cuda"
) -> None:
    """Faces a second by batch, as it is and captured, and what share of the ceiling that is."""
    one = operations(model, crops_on_gpu(model, 1, device))
    print(f"base, six tasks: {one / 1e9:.0f} GFLOP a face")
    for batch in batches:
        crops = crops_on_gpu(model, batch, device)
        things = {"with launches": lambda crops=crops: ours(model, crops, heads=True)}
        if batch <= 8:
            things |= captured({"kernels alone": things["with launches"]})
        for how, spent in on_gpu(things, rounds).items():
            rate = faces_a_second(spent, batch)
            print(f"  {batch} faces, {how}: {spent.spoken()}")
            print(f"  -> {rate:.1f} faces a second, {rate * one / most:.3f} of the ceiling", flush=True)
        torch.cuda.empty_cache()
    low, high = PUBLISHED_RATE
    print(f"  FaceXFormer, as its authors say: {low}-{high} images a second\n", flush=True)


def parts_on_gpu(model: FaceUM, rounds: int, batch: int, device: str = "cuda") -> None:
    """Print the time of each part of the network for a batch."""
    crops = crops_on_gpu(model, batch, device)
    things = {"all": lambda: ours(model, crops, heads=True)}
    for spec, tasks in model.config.crops:
        crop_BCHW, mask_BN = crops[spec.size]
        pixels = (crop_BCHW - model.mean) / model.std
        x_BND, maps = model.trunk(pixels)
        row_P = torch.arange(batch, device=device).repeat(len(tasks))
        task_P = torch.cat([row_P.new_full((batch,), model.config.tasks.index(task)) for task in tasks])
        tokens = dict(
            zip(tasks, model._mix(x_BND, mask_BN, row_P, task_P)[0][:, 1:].split(batch), strict=True)
        )
        things[f"trunk {spec.size}"] = lambda pixels=pixels: model.trunk(pixels)
        things[f"moe_blocks {spec.size}"] = lambda given=(x_BND, mask_BN, row_P, task_P): model._mix(*given)
        for task in tasks:
            things[f"head {task}"] = lambda task=task, x=tokens[task], maps=maps: model.heads[task](x, maps)
    times = on_gpu(things, rounds)
    whole = float(np.median(times["all"].wall))
    print(f"Parts, {batch} faces")
    show(times)
    shares = (f"{name} {float(np.median(spent.wall)) / whole:.2f}" for name, spent in times.items())
    print("  -> shares:", ", ".join(shares), "\n", flush=True)


def schedules_on_gpu(rounds: int, device: str = "cuda") -> None:
    """Published schedule against ours, one face."""
    model = network_on_gpu(REFERENCE, device)
    crops = crops_on_gpu(model, 1, device)
    for heads in (False, True):
        things = {
            "published schedule": lambda h=heads: published(model, crops, heads=h),
            "ours": lambda h=heads: ours(model, crops, heads=h),
        }
        times = on_gpu(things, rounds)
        part = "encoder and heads" if heads else "encoder"
        claim(f"base, {part}, six tasks: published schedule / ours", times, "published schedule", "ours")
    rate = faces_a_second(times["published schedule"], 1)
    print(f"  the published schedule: {rate:.1f} faces a second\n", flush=True)


def twin_on_gpu(model: FaceUM, rounds: int, batch: int, device: str = "cuda") -> None:
    """Our router against the dense twin."""
    twin = network_on_gpu(replace(BASE, moe=replace(BASE.moe, routed=False)), device)
    crops = crops_on_gpu(model, batch, device)
    things = {
        "our router": lambda: ours(model, crops, heads=False),
        "dense twin": lambda: ours(twin, crops, heads=False),
    }
    times = on_gpu(things, rounds)
    claim(f"base, encoder, {batch} faces: our router / dense twin", times, "our router", "dense twin")


def fusion_on_gpu(rounds: int, device: str = "cuda") -> None:
    """Compare the fusion convolution of one dense head with a plain one."""
    laid = {"device": device, "dtype": torch.bfloat16}
    maps = [
        torch.randn(1, 512, side, side, **laid).to(memory_format=torch.channels_last)
        for side in (128, 64, 32, 16)
    ]
    weight = torch.randn(512, 2048, 3, 3, **laid).to(memory_format=torch.channels_last) * 0.01
    things = {
        "plain": lambda: fuse_plainly(maps, weight),
        "mixed before enlarging": lambda: fuse_mixed(maps, weight),
    }
    times = on_gpu(things, rounds, calls=3)
    claim("fusion of four maps: mixed before enlarging / plain", times, "mixed before enlarging", "plain")


def on_a_gpu(rounds: int) -> None:
    """Run all measurements on a GPU, in bfloat16."""
    name_gpu()
    most = ceiling()
    with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
        model = network_on_gpu(BASE)
        speed_on_gpu(model, rounds, most)
        schedules_on_gpu(rounds)
        for batch in (1, 8):
            parts_on_gpu(model, rounds, batch)
            twin_on_gpu(model, rounds, batch)
        fusion_on_gpu(rounds)


def main() -> None:
    """Time and print."""
    given = options(__doc__, rounds=5, device="cpu")
    stamp()
    if given.device == "cuda":
        on_a_gpu(given.rounds)
        return
    torch.set_num_threads(THREADS)
    with torch.inference_mode():
        fusion(given.rounds)
        router(given.rounds)
        schedules(given.rounds)


if __name__ == "__main__":
    main()
