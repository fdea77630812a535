"""Blocks divided over two processes by FSDP2 train as whole ones do, and write the same ordinary files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.train.running import read_state, torchrun

from faceum.errors import RecipeError
from faceum.model.checkpoint import load_checkpoint
from faceum.train import RunConfig

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch with distributed"),
]

MEASURED = """
import os, sys
from faceum.cli.app import app
from faceum.train import Trainer
from faceum.train.distributed import local_part

begin = Trainer.__init__

def measured(self, *given, **named):
    begin(self, *given, **named)
    parts = {"blocks": 0, "rest": 0}
    for name, value in self.network.named_parameters():
        inside = name.startswith(("trunk.blocks.", "moe_blocks."))
        parts["blocks" if inside else "rest"] += local_part(value).numel()
    with open(os.environ["HELD"] + os.environ["RANK"], "w") as file:
        file.write(f"{parts['blocks']} {parts['rest']}")

Trainer.__init__ = measured
app(sys.argv[1:])
"""

WORDS = (
    "steps=4 warmup=1 workers=0 save_every=2 validate_every=2 held_out_faces=8 keep_checkpoints=9 "
    "accumulate=2 recompute=true weighting=uncertainty grad_clip=0.5"
).split()


def rows(out: Path) -> list[dict[str, Any]]:
    """Every logged row, without what the clock says."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in row.items() if k not in ("kind", "seconds", "images_per_second")} for row in lines
    ]


def is_free(name: str) -> bool:
    """Whether a softmax ignores a parameter: its gradient is rounding, which Adam enlarges to whole steps."""
    return name.endswith(("query.bias", "heads.landmarks.output.bias"))


def assert_same_networks(one: Path, other: Path) -> None:
    """The files hold the same names, shapes and, within rounding, values; the package loads both."""
    for name in ("network.safetensors", "best.safetensors"):
        expected, found = (load_file(out / name) for out in (one, other))
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            atol = 1e-2 if is_free(key) else 1e-5
            torch.testing.assert_close(found[key], value, rtol=1e-3, atol=atol, msg=f"{name}, {key}")
        assert load_checkpoint(other / name)[0].config == load_checkpoint(one / name)[0].config


def test_sharded_blocks_train_as_whole_ones(tmp_path: Path) -> None:
    script = tmp_path / "faceum_measured.py"
    script.write_text(MEASURED)
    held: dict[str, list[list[int]]] = {}
    for shard in ("none", "blocks"):
        done = torchrun(
            tmp_path / shard, *WORDS, f"shard={shard}", script=script, HELD=str(tmp_path / f"{shard}-")
        )
        assert done.returncode == 0, done.stderr
        texts = [(tmp_path / f"{shard}-{rank}").read_text() for rank in (0, 1)]
        held[shard] = [[int(number) for number in text.split()] for text in texts]
    (blocks, rest), (blocks_1, rest_1) = held["none"]
    assert (blocks, rest) == (blocks_1, rest_1) and rest > 0
    assert sum(part[0] for part in held["blocks"]) == blocks
    assert all(part[0] < 0.6 * blocks and part[1] == rest for part in held["blocks"])

    for expected, found in zip(rows(tmp_path / "none"), rows(tmp_path / "blocks"), strict=True):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert_same_networks(tmp_path / "none", tmp_path / "blocks")
    states = [read_state(tmp_path / shard) for shard in ("none", "blocks")]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        if not (isinstance(value, dict | float) or is_free(name)):
            torch.testing.assert_close(states[1][name], value, rtol=1e-3, atol=1e-4, msg=name)

    # Either kind of run resumes the other's state.
    for shard in ("none", "blocks"):
        out = tmp_path / shard
        shutil.rmtree(out / "checkpoints" / "step-00000004")
        done = torchrun(out, *WORDS, f"shard={'blocks' if shard == 'none' else 'none'}")
        assert done.returncode == 0, done.stderr
        assert json.loads((out / "run.json").read_text())["step"] == 2
    for expected, found in zip(rows(tmp_path / "none"), rows(tmp_path / "blocks"), strict=True):
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert_same_networks(tmp_path / "none", tmp_path / "blocks")


def test_sharding_excludes_compiling() -> None:
    with pytest.raises(RecipeError, match="compile=true"):
        RunConfig(initial="compact", out="x", sources={}, shard="blocks", compile=True)
