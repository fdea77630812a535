"""`faceum train` by torchrun: two processes with workers make one run, also where one of them is killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.running import torchrun, write_dying

from faceum.model.checkpoint import load_checkpoint
from faceum.train.checkpoints import Checkpoints

pytest.importorskip("tensorboard")
pytestmark = pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch with distributed")

WORDS = "steps=6 warmup=2 workers=2 tensorboard=true save_every=3 validate_every=3 held_out_faces=8".split()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that nobody interrupted."""
    out = tmp_path_factory.mktemp("torchrun") / "whole"
    done = torchrun(out, *WORDS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained for 6 steps") == 1, "the first process alone speaks"
    return out


def rows(folder: Path) -> list[dict[str, Any]]:
    """Every logged row, without what the clock says."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in found]


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Name -> (step, value) as TensorBoard shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {name: [(e.step, e.value) for e in events.Scalars(name)] for name in events.Tags()["scalars"]}


def assert_shown(folder: Path) -> None:
    """TensorBoard has each number of metrics.jsonl once."""
    shown, reported = curves(folder), rows(folder)
    for row in reported:
        names = row.keys() - {"step", "kind"}
        assert names
        for name in names:
            points = [value for step, value in shown[f"{row['kind']}/{name}"] if step == row["step"]]
            assert points == [pytest.approx(row[name], rel=1e-6)], (row["step"], name)
    assert [step for step, _ in shown["train/total"]] == [1, 2, 3, 4, 5, 6]


def test_two_processes_write_one_run(whole: Path) -> None:
    assert {path.name for path in whole.iterdir()} == {
        "run.json", "skipped.txt", "metrics.jsonl", "checkpoints", "network.safetensors", "best.safetensors",
        "tensorboard",
    }  # fmt: skip
    assert [(row["step"], row["kind"]) for row in rows(whole)] == [
        *((step, "train") for step in (1, 2, 3)), (3, "validation"),
        *((step, "train") for step in (4, 5, 6)), (6, "validation"),
    ]  # fmt: skip
    assert json.loads((whole / "run.json").read_text())["environment"]["ranks"] == 2
    assert list(Checkpoints(whole / "checkpoints").steps()) == [3, 6]
    assert len(list((whole / "tensorboard").iterdir())) == 1, "the first process alone writes"
    assert_shown(whole)


def test_run_resumes_after_a_killed_rank(whole: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut"
    dying = write_dying(tmp_path / "dying.py", 'self.step == 5 and os.environ["RANK"] == "0"')
    done = torchrun(cut, *WORDS, script=dying)
    assert done.returncode != 0 and "SIGKILL" in done.stderr, done.stderr
    assert list(Checkpoints(cut / "checkpoints").steps()) == [3]
    assert not (cut / "network.safetensors").exists()

    done = torchrun(cut, *WORDS)
    assert done.returncode == 0, done.stderr
    # The sum of two ranks' numbers does not depend on their order, so not even the last bit differs.
    expected, resumed = (load_checkpoint(folder / "network.safetensors")[0] for folder in (whole, cut))
    for name, value in expected.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    assert rows(cut) == rows(whole)
    assert_shown(cut)
    record = json.loads((cut / "run.json").read_text())
    assert record["step"] == 3 and record["earlier"][0]["step"] == 0
