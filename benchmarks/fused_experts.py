"""A candidate for the expert layer on a GPU, in four Triton kernels; `experts.py --device cuda` times it.

    TRITON_INTERPRET=1 python benchmarks/fused_experts.py      compares it with the plain layer, without a GPU

What `Experts` does without gradients, for experts that end in a quick GELU: slots are placed by expert, the
first product fetches its rows and ends in the activation, the second ends in the gates, and each token adds
the slots that it took. No kernel touches a slot that was not taken, and the host waits for nothing.

It has been compared with the plain layer in Triton's interpreter and compiled for compute capability 9.0; no
GPU has timed it yet. It moves into the package if it beats the plain layer there by 1.2 times, or goes.

Letters as in `faceum.model.experts`; S slots, of P * N tokens with K each.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from faceum.model.experts import Experts, ExpertsConfig
from faceum.model.router import FaceRouter, RouterConfig, Routing

PLACED = 512
"""Slots that one program places."""

Tiles = Sequence[int]
"""Rows, columns and depth of a product's tile; its warps; its stages."""

TILES: dict[str, Tiles] = {
    "small tiles": (64, 128, 64, 4, 4),
    "square tiles": (128, 128, 64, 8, 4),
    "wide tiles": (128, 256, 64, 8, 3),
}
"""What is worth timing on Hopper: the first for a face or a few, the last for many."""


@triton.jit
def place_slots(
    expert_TK, taken_S, count_E, order_ES, slots,
    STRIDE: tl.constexpr, EXPERTS: tl.constexpr, EACH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Store the taken slots' numbers, one row per expert, and their number per expert.

    STRIDE: of the tokens in expert_TK, which a router has cut out of a longer list.
    """
    slot = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = slot < slots
    taken = tl.load(taken_S + slot, mask=inside, other=0).to(tl.int1)
    place_TK = slot // EACH * STRIDE + slot % EACH
    expert = tl.load(expert_TK + place_TK, mask=inside, other=0).to(tl.int32)
    number = tl.arange(0, EXPERTS)
    hot = ((expert[:, None] == number[None, :]) & taken[:, None]).to(tl.int32)
    first = tl.atomic_add(count_E + number, tl.sum(hot, axis=0), sem="relaxed")
    place = tl.sum(hot * (tl.cumsum(hot, axis=0) - 1 + first[None, :]), axis=1)
    tl.store(order_ES + expert.to(tl.int64) * slots + place, slot, mask=taken)


@triton.jit
def tile_product(
    x, weight_EDH, out, count_E, order_ES, gate_S, slots,
    DEPTH: tl.constexpr, COLUMNS: tl.constexpr, EXPERTS: tl.constexpr, EACH: tl.constexpr,
    FIRST: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Multiply one tile of the rows of one expert by its matrix.

    The first product reads token slot // EACH and writes the expert's rows one after the other, activated;
    the second reads those and writes to each slot's own place, by its gate.
    """
    across = COLUMNS // BLOCK_N
    tile = tl.program_id(0) // across
    column = (tl.program_id(0) % across) * BLOCK_N + tl.arange(0, BLOCK_N)
    number = tl.arange(0, EXPERTS)
    count = tl.load(count_E + number)
    tiles = (count + BLOCK_M - 1) // BLOCK_M
    end = tl.cumsum(tiles, axis=0)
    if tile >= tl.sum(tiles, axis=0):
        return
    expert = tl.sum((end <= tile).to(tl.int32), axis=0)
    mine = number == expert
    row = (tile - tl.sum(tl.where(mine, end - tiles, 0), axis=0)) * BLOCK_M + tl.arange(0, BLOCK_M)
    inside = row < tl.sum(tl.where(mine, count, 0), axis=0)
    slot = tl.load(order_ES + expert.to(tl.int64) * slots + row, mask=inside, other=0)
    sorted_row = tl.where(inside, tl.sum(tl.where(number < expert, count, 0), axis=0) + row, 0)
    from_row = slot // EACH if FIRST else sorted_row
    depth = tl.arange(0, BLOCK_K)
    x_MK = x + from_row[:, None].to(tl.int64) * DEPTH + depth[None, :]
    weight_KN = weight_EDH + expert.to(tl.int64) * DEPTH * COLUMNS
    weight_KN += depth[:, None] * COLUMNS + column[None, :]
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for _ in range(0, DEPTH, BLOCK_K):
        total = tl.dot(tl.load(x_MK), tl.load(weight_KN), total)
        x_MK += BLOCK_K
        weight_KN += BLOCK_K * COLUMNS
    if FIRST:
        total = total * tl.sigmoid(1.702 * total)
        to_row = sorted_row
    else:
        total = total * tl.load(gate_S + slot).to(tl.float32)[:, None]
        to_row = slot
    to = out + to_row[:, None].to(tl.int64) * COLUMNS + column[None, :]
    tl.store(to, total.to(out.dtype.element_ty), mask=inside[:, None])


@triton.jit
def add_slots(
    out_SD, taken_S, sum_TD, tokens,
    WIDTH: tl.constexpr, EACH: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Sum each token's slots."""
    token = (tl.program_id(0) * BLOCK_T + tl.arange(0, BLOCK_T)).to(tl.int64)
    column = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    inside = (token < tokens)[:, None] & (column < WIDTH)[None, :]
    total = tl.zeros((BLOCK_T, BLOCK_D), dtype=tl.float32)
    for k in tl.static_range(EACH):
        taken = tl.load(taken_S + token * EACH + k, mask=token < tokens, other=0).to(tl.int1)
        row = out_SD + (token * EACH + k)[:, None] * WIDTH + column[None, :]
        total += tl.load(row, mask=inside & taken[:, None], other=0.0).to(tl.float32)
    to = sum_TD + token[:, None] * WIDTH + column[None, :]
    tl.store(to, total.to(sum_TD.dtype.element_ty), mask=inside)


def fused_experts(experts: Experts, x_PND: Tensor, routing: Routing, tiles: Tiles) -> Tensor:
    """(P, N, D) tokens -> (P, N, D), as `experts` without gradients; D and H are multiples of the tiles."""
    count, width, hidden = experts.fc1.shape
    each, tokens = routing.topk_experts_PNK.shape[-1], x_PND.shape[:2].numel()
    slots = tokens * each
    block_m, block_n, block_k, warps, stages = tiles
    numbers = triton.next_power_of_2(count)  # those without an expert count no slot
    count_E = torch.zeros(numbers, dtype=torch.int32, device=x_PND.device)
    order_ES = torch.empty((count, slots), dtype=torch.int32, device=x_PND.device)
    expert_TK = routing.topk_experts_PNK.flatten(0, 1)
    place_slots[(triton.cdiv(slots, PLACED),)](
        expert_TK, routing.active_PNK, count_E, order_ES, slots,
        STRIDE=expert_TK.stride(0), EXPERTS=numbers, EACH=each, BLOCK=PLACED,
    )  # fmt: skip
    hidden_SH, out_SD = x_PND.new_empty(slots, hidden), x_PND.new_empty(slots, width)
    most = triton.cdiv(slots, block_m) + count - 1
    products = ((x_PND, experts.fc1, hidden_SH, True), (hidden_SH, experts.fc2, out_SD, False))
    for x, weight_EDH, out, first in products:
        depth, columns = weight_EDH.shape[1:]
        tile_product[(most * (columns // block_n),)](
            x, weight_EDH, out, count_E, order_ES, routing.weights_PNK, slots,
            DEPTH=depth, COLUMNS=columns, EXPERTS=numbers, EACH=each, FIRST=first,
            BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_K=block_k, num_warps=warps, num_stages=stages,
        )  # fmt: skip
    sum_PND = torch.empty_like(x_PND)
    add_slots[(triton.cdiv(tokens, 16), triton.cdiv(width, 256))](
        out_SD, routing.active_PNK, sum_PND, tokens, WIDTH=width, EACH=each, BLOCK_T=16, BLOCK_D=256
    )
    return sum_PND


def main() -> None:
    """Compare with the plain layer in float32, also where experts are without a slot and tiles half full."""
    device = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
    near = 1e-5 if device == "cpu" else 5e-3  # a GPU's products of float32 are rounded to TF32
    torch.manual_seed(0)
    for count, face, background, least in ((8, 2, 1, 1), (6, 3, 2, 0), (3, 1, 1, 1)):
        experts = Experts(ExpertsConfig(hidden_dim=64), num_experts=count, dim=32).eval()
        torch.nn.init.normal_(experts.fc2, std=0.1)
        rule = RouterConfig(num_experts=count, k_max_face=face, k_max_background=background, k_min=least)
        router = FaceRouter(rule, dim=32, tasks=3).eval()
        torch.nn.init.normal_(router.weight, std=0.5)
        experts.to(device), router.to(device)
        for pairs, tokens in ((2, 150), (1, 7), (3, 601)):
            x_PND, face_PN = torch.randn(pairs, tokens, 32), torch.rand(pairs, tokens) < 0.5
            with torch.inference_mode():
                routing = router(x_PND.to(device), torch.arange(pairs, device=device), face_PN.to(device))
                plain_PND = experts(x_PND.to(device), routing)
                for tiles in ((16, 32, 16, 4, 2), (32, 16, 32, 4, 2)):
                    ours_PND = fused_experts(experts, x_PND.to(device), routing, tiles)
                    torch.testing.assert_close(ours_PND, plain_PND, rtol=near, atol=near)
        print(f"{count} experts, at most {face} and {background} a token: the two agree")


if __name__ == "__main__":
    main()
