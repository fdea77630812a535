"""`faceum train`: a recipe by path or name, changed by words; what does not fit is a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch")

from faceum.cli.app import app
from faceum.config import load_recipe
from faceum.model.checkpoint import load_checkpoint

TINY = (
    "sources.drawn.path=12 sources.drawn.batch_size=4 workers=0 steps=2 warmup=1 log_every=1 held_out_faces=8"
)


def test_run_from_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = [
        *TINY.split(),
        f"out={out}",
        "save_every=1",
        "validate_every=1",
        "accumulate=2",
        "recompute=true",
    ]
    done = CliRunner().invoke(app, ["train", "smoke", *words])
    assert done.exit_code == 0, done.output
    assert {path.name for path in out.iterdir()} == {
        "run.json", "skipped.txt", "metrics.jsonl", "checkpoints", "network.safetensors", "best.safetensors"
    }  # fmt: skip
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["kind"]) for row in rows] == [
        (1, "train"), (1, "validation"), (2, "train"), (2, "validation")
    ]  # fmt: skip
    network, header = load_checkpoint(out / "best.safetensors")
    assert network.config.name == "smoke"
    best = max((row for row in rows if row["kind"] == "validation"), key=lambda row: row["score"])
    assert header["provenance"]["step"] == best["step"]
    assert header["scores"]["validation"]["score"] == pytest.approx(best["score"])
    assert header["provenance"]["recipe"]["steps"] == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["smok"], "did you mean 'smoke'"),
        (["nowhere/mine.py"], "nowhere/mine.py does not exist"),
        (["smoke", "stpes=3"], "did you mean 'steps'"),
        (["smoke", "steps"], "key=value"),
        (["smoke", "precision=float16", "device=cpu", "sources.drawn.path=3"], "on a GPU only"),
        (["smoke", "sources.drawn.path=no/number"], "path=512"),
    ],
)
def test_mistakes_are_one_sentence(words: list[str], said: str, tmp_path: Path) -> None:
    out = [f"out={tmp_path / 'run'}"] if len(words) > 1 and "=" in words[1] else []
    done = CliRunner().invoke(app, ["train", *words, *out])
    assert done.exit_code == 2
    assert said in done.output and "Traceback" not in done.output


def test_show_prints_settings_that_can_be_given_back() -> None:
    done = CliRunner().invoke(app, ["train", "smoke", "steps=7", "--show"])
    lines = done.stdout.splitlines()
    assert done.exit_code == 0 and "steps=7" in lines and "network.block.dim=64" in lines
    assert load_recipe("smoke", lines) == load_recipe("smoke", ["steps=7"])
