"""Compact's dense twin: the same network without routed experts, trained in the same way, for comparison.

    faceum train compact_dense data=CORPUS
    faceum train compact_dense stage=2 data=CORPUS
    faceum train compact_dense stage=3 data=CORPUS
    faceum train compact_dense stage=4 data=CORPUS

Hardware: as for compact, whose third stage needs a GPU. Data: as for compact. Time: a step on a CPU takes a
little more than half of compact's.
Expected scores with steps=2500: LFW 76.0 %, one side masked 70.9 % (by an earlier protocol), age MAE 8.05,
attributes 86.7 %, expression 65.9 %, parsing F1 63.4, landmarks NME 6.92 %; docs/log.md has compact's. The
whole recipe: not run.
"""

from dataclasses import replace

from faceum.config import load_recipe
from faceum.train.config import RunConfig


def recipe(stage: int = 1) -> RunConfig:
    """Return a stage of compact without routed experts; later ones need the twin's previous network."""
    compact = load_recipe("compact", [f"stage={stage}"])
    twin = replace(compact, out=compact.out.replace("compact", "compact_dense"))
    if compact.network is None:
        return replace(twin, initial=compact.initial.replace("compact", "compact_dense"))
    network = replace(compact.network, name="compact-dense", moe=replace(compact.network.moe, routed=False))
    return replace(twin, network=network)
