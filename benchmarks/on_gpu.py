"""Time things on a GPU in turn: whole calls, captured calls, and the matmul ceiling.

A call is timed with the host's launches, or captured once as a CUDA graph and replayed: the time of its
kernels alone. A call that waits for the GPU cannot be captured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import torch
from in_turn import Times, in_turn

Thing = Callable[[], object]


def name_gpu() -> None:
    """Print the GPU and what drives it; a sentence ends the benchmark where there is none."""
    if not torch.cuda.is_available():
        raise SystemExit("There is no GPU that torch could use here; leave --device out.")
    card = torch.cuda.get_device_properties(0)
    print(
        f"{card.name}, {card.multi_processor_count} multiprocessors, {card.total_memory / 2**30:.0f} GiB, "
        f"CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}; bfloat16\n",
        flush=True,
    )


def on_gpu(
    things: Mapping[str, Thing], rounds: int, *, warm: int = 3, calls: Mapping[str, int] | int = 1
) -> dict[str, Times]:
    """As in_turn, each thing to the GPU's end; seconds are those of one call of the round's `calls`."""
    each = {name: calls if isinstance(calls, int) else calls[name] for name in things}

    def waited(thing: Thing, count: int) -> Thing:
        def run() -> None:
            for _ in range(count):
                thing()
            torch.cuda.synchronize()

        return run

    times = in_turn({name: waited(thing, each[name]) for name, thing in things.items()}, rounds, warm=warm)
    return {
        name: Times(wall=spent.wall / each[name], processor=spent.processor / each[name])
        for name, spent in times.items()
    }


def captured(things: Mapping[str, Thing]) -> dict[str, Thing]:
    """Return replays of the things as CUDA graphs; those that cannot be captured are named and left out."""
    replays: dict[str, Thing] = {}
    for name, thing in things.items():
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(2):
                thing()
        torch.cuda.current_stream().wait_stream(aside)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                thing()
        except RuntimeError as error:
            print(f"  {name} cannot be captured: {str(error).splitlines()[0]}")
            torch.cuda.synchronize()
            continue
        replays[name] = graph.replay
    return replays


def ceiling(side: int = 8192, rounds: int = 20) -> float:
    """Return the median operations per second of a bfloat16 product of two square matrices."""
    one, other = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    spent = on_gpu({"product": lambda: one @ other}, rounds)["product"].wall
    rate = 2 * side**3 / float(np.median(spent))
    print(f"matmul ceiling, {side} cubed: {rate / 1e12:.0f} TFLOP/s\n", flush=True)
    return rate
