"""Compare the expert layer with ideal dense products of the same routed size, and with a plain loop.

    python benchmarks/experts.py [--rounds 30] [--device cuda]

The layer is that of `base`: 8 experts 768 -> 1536 -> 768, with gates from its router on random tokens. Ideal
means the two dense products with as many rows as tokens were routed, and the activation between them; also
the dense MLP of the same active width. The loop runs one expert after the other, with a mask, and adds in
place. Last, the saving of padding the rows of an expert's product, in training in bfloat16. On a GPU in
bfloat16, with gates in float32, each size twice: with the host's launches, and the kernels alone; there the
candidates in `fused_experts.py` are timed as well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from in_turn import THREADS, claim, in_turn, options, show, stamp
from on_gpu import captured, name_gpu, on_gpu
from torch import Tensor, nn

from faceum.model.experts import Experts, ExpertsConfig, multiply_grouped
from faceum.model.layers import Mlp
from faceum.model.router import FaceRouter, RouterConfig, Routing

WIDTH = 768


def loop(experts: Experts, x_PND: Tensor, routing: Routing) -> Tensor:
    """Compute the experts one after the other."""
    x, out = x_PND.flatten(0, 1), torch.zeros_like(x_PND).flatten(0, 1)
    gates, chosen = routing.weights_PNK.flatten(0, 1), routing.topk_experts_PNK.flatten(0, 1)
    taken = routing.active_PNK.flatten(0, 1)
    for number in range(len(experts.fc1)):
        token, slot = ((chosen == number) & taken).nonzero().unbind(1)
        hidden = experts.activation(x[token] @ experts.fc1[number])
        gate = gates[token, slot, None].to(x.dtype)
        out.index_add_(0, token, hidden @ experts.fc2[number] * gate)
    return out.view_as(x_PND)


def compare(experts: Experts, router: FaceRouter, tokens: int, tasks: int, rounds: int) -> None:
    """Print the layer's ratios for so many tokens a task."""
    x_PND = torch.randn(tasks, tokens, WIDTH)
    task_P = torch.arange(tasks)
    face_PN = torch.rand(tasks, tokens) < 0.5
    routing = router(x_PND, task_P, face_PN)
    rows = int(routing.active_PNK.sum())
    x_MD, into, out = torch.randn(rows, WIDTH), experts.fc1[0].clone(), experts.fc2[0].clone()
    active = round(experts.fc1.shape[-1] * rows / (tokens * tasks))
    dense = Mlp(WIDTH, active, "quick_gelu").eval()
    torch.testing.assert_close(loop(experts, x_PND, routing), experts(x_PND, routing))
    times = in_turn(
        {
            "expert layer": lambda: experts(x_PND, routing),
            "ideal products": lambda: experts.activation(x_MD @ into) @ out,
            "dense MLP": lambda: dense(x_PND),
            "loop": lambda: loop(experts, x_PND, routing),
            "router": lambda: router(x_PND, task_P, face_PN),
        },
        rounds,
        warm=3,
    )
    where = f"{tokens} tokens x {tasks} tasks, {rows / tokens / tasks:.2f} experts a token"
    for one, other in (
        ("expert layer", "ideal products"),
        ("expert layer", "dense MLP"),
        ("expert layer", "loop"),
        ("router", "ideal products"),
    ):
        claim(f"{where}: {one} / {other}", times, one, other)


def changing_sizes(rounds: int) -> None:
    """Print what filling up saves `compact`'s experts, forwards and backwards, with other rows each time."""
    weight_EDH = torch.randn(8, 192, 96).bfloat16().requires_grad_()
    x_MD = torch.randn(6000, 192).bfloat16().requires_grad_()

    def thing(product: Callable[[Tensor, Tensor, Tensor], Tensor], seed: int) -> Callable[[], object]:
        generator = torch.Generator().manual_seed(seed)

        def run() -> None:
            end_E = torch.randint(6000, (8,), generator=generator).sort().values
            end_E[-1] = 6000
            product(x_MD, weight_EDH, end_E).sum().backward()

        return run

    def as_they_come(x_MD: Tensor, weight_EDH: Tensor, end_E: Tensor) -> Tensor:
        groups = x_MD.tensor_split(end_E[:-1].tolist())
        return torch.cat([group @ weight for group, weight in zip(groups, weight_EDH, strict=True)])

    times = in_turn({"filled up": thing(multiply_grouped, 0), "as they come": thing(as_they_come, 1)}, rounds)
    where = "training products in bfloat16, other rows each time"
    claim(f"{where}: filled up / as they come", times, "filled up", "as they come")


def compare_on_gpu(
    experts: Experts, router: FaceRouter, size: tuple[int, int, int], rounds: int, device: str = "cuda"
) -> None:
    """Compare on a GPU for (tokens, tasks, batch), and print the time of each part of the layer."""
    from fused_experts import TILES, fused_experts  # Triton comes with torch's builds for GPUs alone

    tokens, tasks, batch = size
    x_PND = torch.randn(tasks * batch, tokens, WIDTH, device=device)
    half_PND = x_PND.to(experts.fc1.dtype)
    task_P = torch.arange(tasks, device=device).repeat_interleave(batch)
    face_PN = torch.rand(tasks * batch, tokens, device=device) < 0.5
    routing = router(x_PND, task_P, face_PN)
    rows = int(routing.active_PNK.sum())
    x_MD = torch.randn(rows, WIDTH, device=device, dtype=half_PND.dtype)
    into, out = experts.fc1[0].clone(), experts.fc2[0].clone()
    ours, plain = experts(half_PND, routing).float(), loop(experts, half_PND, routing).float()
    apart = ((ours - plain).abs().max() / plain.abs().max()).item()
    assert apart < 0.03, apart
    order_M, end_E = experts._sort_by_expert(routing)
    token_M = order_M // routing.topk_experts_PNK.shape[-1]
    sorted_MD = half_PND.flatten(0, 1).index_select(0, token_M)
    hidden_MH = experts.activation(sorted_MD @ into)
    fused = {
        f"fused, {name}": partial(fused_experts, experts, half_PND, routing, tiles)
        for name, tiles in TILES.items()
    }
    for name, thing in fused.items():
        apart = ((thing().float() - plain).abs().max() / plain.abs().max()).item()
        assert apart < 0.03, (name, apart)
    expert_M = routing.topk_experts_PNK.masked_fill(~routing.active_PNK, len(experts.fc1)).flatten()
    gate_M = routing.weights_PNK.flatten().to(half_PND.dtype)
    row_TK = order_M.argsort().view(-1, routing.topk_experts_PNK.shape[-1])
    things = {
        "expert layer": lambda: experts(half_PND, routing),
        "ideal products": lambda: experts.activation(x_MD @ into) @ out,
        **fused,
        "router": lambda: router(x_PND, task_P, face_PN),
        "sort by expert": lambda: experts._sort_by_expert(routing),
        "gather": lambda: half_PND.flatten(0, 1).index_select(0, token_M),
        "first grouped product": lambda: multiply_grouped(sorted_MD, experts.fc1, end_E),
        "activation": lambda: experts.activation(hidden_MH),
        "second grouped product": lambda: multiply_grouped(hidden_MH, experts.fc2, end_E),
        "gates and sum": lambda: experts._add_to_tokens(sorted_MD, routing, order_M, token_M),
        "sort of bytes": lambda: expert_M.byte().sort(stable=True),
        "gates and sum in one pass": lambda: F.embedding_bag(
            row_TK, sorted_MD, per_sample_weights=gate_M.view_as(row_TK), mode="sum"
        ),
    }
    taken = rows / tokens / tasks / batch
    where = f"{tokens} tokens x {tasks} tasks x {batch} faces, {taken:.2f} experts a token"
    print(f"{where}; apart from the loop by {apart:.1e} of the largest value")
    for how, timed in (("with launches", things), ("kernels alone", captured(things))):
        times = on_gpu(timed, rounds, calls=5)
        show(times)
        for one in ("expert layer", *fused):
            for other in ("ideal products", "expert layer"):
                if one != other and {one, other} <= times.keys():
                    claim(f"{where}, {how}: {one} / {other}", times, one, other)


def main() -> None:
    """Time and print."""
    given = options(__doc__, rounds=30, device="cpu")
    stamp()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    experts = Experts(ExpertsConfig(), num_experts=8, dim=WIDTH).eval()
    router = FaceRouter(RouterConfig(), dim=WIDTH, tasks=6).eval()
    nn.init.normal_(experts.fc2, std=0.02)
    nn.init.normal_(router.weight, std=0.1)
    with torch.inference_mode():
        if given.device == "cuda":
            name_gpu()
            experts.to("cuda", torch.bfloat16)
            router.to("cuda")
            for size in ((1024, 2, 1), (50, 4, 1), (1024, 2, 32)):
                compare_on_gpu(experts, router, size, given.rounds)
            return
        for tokens, tasks in ((1024, 2), (50, 4)):
            compare(experts, router, tokens, tasks, given.rounds)
    changing_sizes(given.rounds)


if __name__ == "__main__":
    main()
