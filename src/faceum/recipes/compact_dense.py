"""Compact's dense twin: the same network without routed experts, trained in the same way, for comparison.

    faceum train compact_dense data=CORPUS

Hardware: as for compact, one of whose stages needs a GPU. Data: as for compact. Time: a step on a CPU takes a
little more than half of compact's.
Expected scores of `stage=start steps=2500`: LFW 76.0 %, one side masked 70.9 % (by an earlier protocol), age
MAE 8.05, attributes 86.7 %, expression 65.9 %, parsing F1 63.4, landmarks NME 6.92 %; docs/log.md has
compact's. The whole recipe: not run.
"""

from dataclasses import replace

from faceum.config import load_stages
from faceum.train.config import RunConfig


def recipe(out: str = "runs/compact_dense") -> dict[str, RunConfig]:
    """Return compact's stages, the first with a network without routed experts."""
    stages = load_stages("compact", [f"out={out}"])
    network = stages["start"].network
    dense = replace(network, name="compact-dense", moe=replace(network.moe, routed=False))
    return {**stages, "start": replace(stages["start"], network=dense)}
