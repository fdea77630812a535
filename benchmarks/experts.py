"""Benchmark: the expert layer beside ideal dense products of the same routed size, and beside a plain loop.

    python benchmarks/experts.py [--rounds 30]

The layer is `base`'s: 8 experts 768 -> 1536 -> 768, gates from its router on random tokens. Ideal: the two
dense products with as many rows as tokens were routed, and the activation between, nothing else; also the
dense MLP of the same active width. The loop takes one expert after the other, with a mask, and adds in place.
"""

from __future__ import annotations

import torch
from in_turn import THREADS, claim, in_turn, options, stamp
from torch import Tensor, nn

from faceum.model.experts import Experts, ExpertsConfig
from faceum.model.layers import Mlp
from faceum.model.router import Choice, FaceRouter, RouterConfig

WIDTH = 768


def loop(experts: Experts, x_PND: Tensor, choice: Choice) -> Tensor:
    """One expert after the other."""
    x, out = x_PND.flatten(0, 1), torch.zeros_like(x_PND).flatten(0, 1)
    gates, chosen = choice.gate_PNK.flatten(0, 1), choice.expert_PNK.flatten(0, 1)
    taken = choice.taken_PNK.flatten(0, 1)
    for number in range(len(experts.expand)):
        token, slot = ((chosen == number) & taken).nonzero().unbind(1)
        hidden = experts.activation(x[token] @ experts.expand[number])
        out.index_add_(0, token, hidden @ experts.reduce[number] * gates[token, slot, None])
    return out.view_as(x_PND)


def compare(experts: Experts, router: FaceRouter, tokens: int, tasks: int, rounds: int) -> None:
    """Print the layer's ratios for so many tokens a task."""
    x_PND = torch.randn(tasks, tokens, WIDTH)
    task_P = torch.arange(tasks)
    face_PN = torch.rand(tasks, tokens) < 0.5
    choice = router(x_PND, task_P, face_PN)
    rows = int(choice.taken_PNK.sum())
    x_MD, into, out = torch.randn(rows, WIDTH), experts.expand[0].clone(), experts.reduce[0].clone()
    active = round(experts.expand.shape[-1] * rows / (tokens * tasks))
    dense = Mlp(WIDTH, active, "quick_gelu").eval()
    torch.testing.assert_close(loop(experts, x_PND, choice), experts(x_PND, choice))
    times = in_turn(
        {
            "expert layer": lambda: experts(x_PND, choice),
            "ideal products": lambda: experts.activation(x_MD @ into) @ out,
            "dense MLP": lambda: dense(x_PND),
            "loop": lambda: loop(experts, x_PND, choice),
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


def main() -> None:
    """Time and print."""
    given = options(__doc__, rounds=30)
    stamp()
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    experts = Experts(ExpertsConfig(), experts=8, width=WIDTH).eval()
    router = FaceRouter(RouterConfig(), width=WIDTH, tasks=6).eval()
    nn.init.normal_(experts.reduce, std=0.02)
    nn.init.normal_(router.weight, std=0.1)
    with torch.inference_mode():
        for tokens, tasks in ((1024, 2), (50, 4)):
            compare(experts, router, tokens, tasks, given.rounds)


if __name__ == "__main__":
    main()
