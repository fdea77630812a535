"""A run goes on with 3, then 2, then 1 process, killed in between, as one undisturbed process would.

Dropout is off, because its values depend on the rank. Run as a script, this file is one of the ranks.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.train.running import RECIPE, read_state, start_ranks, torchrun

from faceum.config import load_recipe
from faceum.data.mixture import SourceConfig
from faceum.train import RunConfig, Trainer
from faceum.train.checkpoints import Checkpoints
from faceum.train.distributed import join_processes, rank, world
from faceum.train.loop import read_data
from faceum.train.partial_fc import MarginConfig, share_of_rank

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch with distributed"),
]

WITHOUT_DROPOUT = """
import os, signal, sys
from torch import nn
from faceum.cli.app import app
from faceum.data.mixture import MixtureDataset
from faceum.train import Trainer

nn.Dropout.forward = lambda self, x: x
step, crop = Trainer.train_step, MixtureDataset._crop
dies = int(os.environ.get("DIES_AT", "-1"))

def dying_step(self, batches):
    if self.step == dies:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batches)

def noted_crop(self, source, place, index):
    with open(os.environ["DRAWN"], "a") as file:
        file.write(f"{index} {self._row(source, place, index)}\\n")
    return crop(self, source, place, index)

Trainer.train_step, MixtureDataset._crop = dying_step, noted_crop
app(sys.argv[1:])
"""

WORDS = "steps=6 warmup=2 workers=0 save_every=2 validate_every=0 keep_checkpoints=9".split()


def losses(out: Path) -> list[dict[str, Any]]:
    """Every logged row, without what the clock says."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [
        {k: v for k, v in row.items() if k not in ("kind", "seconds", "images_per_second")} for row in rows
    ]


def drawn(path: Path) -> list[tuple[int, int]]:
    """(index of the face in the run, row of the source) of every face that was drawn, in order."""
    return [tuple(map(int, line.split())) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("sample", ["1.0", "0.999"])
def test_three_then_two_then_one_are_an_undisturbed_one(tmp_path: Path, sample: str) -> None:
    """sample: below 1 the centres' optimizer is the sparse one; 0.999 of few centres are all of them."""
    script = tmp_path / "faceum_without_dropout.py"
    script.write_text(WITHOUT_DROPOUT)
    words = [*WORDS, f"margin.sample={sample}"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    done = torchrun(whole, *words, script=script, ranks=1, DRAWN=str(tmp_path / "whole.txt"))
    assert done.returncode == 0, done.stderr
    for ranks, dies in ((3, 3), (2, 5), (1, -1)):
        seen = {"DRAWN": str(tmp_path / f"{ranks}.txt"), "DIES_AT": str(dies)}
        done = torchrun(cut, *words, script=script, ranks=ranks, **seen)
        assert (done.returncode == 0) is (ranks == 1), done.stderr
    written = {
        step: json.loads((path / "state.json").read_text())
        for step, path in Checkpoints(cut / "checkpoints").steps().items()
    }
    assert {step: state["ranks"] for step, state in written.items()} == {2: 3, 4: 2, 6: 1}
    assert {step: len(state["files"]) for step, state in written.items()} == {2: 3, 4: 2, 6: 1}
    assert_same_faces(tmp_path)
    expected, curve = losses(whole), losses(cut)
    assert [row["step"] for row in curve] == [1, 2, 3, 4, 5, 6]
    for row, other in zip(expected, curve, strict=True):
        assert other == pytest.approx(row, rel=1e-3, abs=1e-4), row["step"]
    ends = [read_state(folder) for folder in (whole, cut)]
    assert ends[0].keys() == ends[1].keys()
    for name, value in ends[0].items():
        if name.startswith("partial_fc.") or name.endswith("step"):
            torch.testing.assert_close(ends[1][name], value, rtol=1e-2, atol=1e-4, msg=name)


def assert_same_faces(folder: Path) -> None:
    """Each step that counts drew the undisturbed run's faces; a step cut short drew some of them again."""
    whole = dict(drawn(folder / "whole.txt"))
    assert set(whole) == set(range(36))
    parts = {ranks: drawn(folder / f"{ranks}.txt") for ranks in (3, 2, 1)}
    assert all(whole[index] == row for rows in parts.values() for index, row in rows)
    for ranks, (first, end, further) in {3: (0, 18, 24), 2: (12, 30, 36), 1: (24, 36, 36)}.items():
        counted = Counter(index for index, _ in parts[ranks])
        assert set(range(first, end)) <= set(counted) <= set(range(first, further)), ranks
        assert set(counted.values()) == {1}, ranks


def tiny_run(out: str, sample: float) -> RunConfig:
    """Few drawn faces, of which each rank needs one."""
    source = SourceConfig(reader="generated", path="6", batch_size=6)
    words = [f"out={out}", "steps=2", "warmup=0"]
    margin = MarginConfig(scale=16, margin=0.1, sample=sample)
    return type(load_recipe(RECIPE))(**{
        **vars(load_recipe(RECIPE, words)), "sources": {"drawn": source}, "margin": margin
    })  # fmt: skip


def work(folder: str, people: str, sample: str) -> None:
    """Load a state if there is one, check that each row is the one of its number, and save."""
    torch.set_num_threads(1)
    run, count = tiny_run(folder, float(sample)), int(people)
    with join_processes():
        trainer = Trainer(run, read_data(run).faces, count)
        checkpoints = Checkpoints(folder, keep=9)
        first, end = share_of_rank(count)
        row_C1 = torch.arange(first, end, dtype=torch.float32)[:, None]
        live = trainer.tensors()
        state = trainer.partial_fc_optimizer.state[trainer.partial_fc.weight]
        rows = {"weight": trainer.partial_fc.weight.detach()}
        rows |= {name: state[name] for name in ("exp_avg", "exp_avg_sq")}
        if checkpoints.load(trainer) is None:
            for number, part in enumerate(rows.values()):
                part.copy_(row_C1 + 1000 * number)
            for name, value in live.items():
                if name.startswith("optimizer.") and name.endswith(".exp_avg"):
                    value.fill_(3)
        for number, part in enumerate(rows.values()):
            assert torch.equal(part, (row_C1 + 1000 * number).expand_as(part)), (rank(), number)
            assert len(part) == end - first
        moments = [value for name, value in live.items() if name.endswith(".exp_avg") and "optim" in name]
        assert moments and all(bool((value == 3).all()) for value in moments)
        checkpoints.save(10 - world(), trainer)


@pytest.mark.parametrize(("people", "sample"), [(10, "1.0"), (10, "0.5"), (2, "1.0")])
def test_each_rank_gets_the_rows_of_its_identities(tmp_path: Path, people: int, sample: str) -> None:
    """3 processes save, 2 load and save, then 1; of two identities the third process has none."""
    for ranks in (3, 2, 1):
        processes = start_ranks(ranks, [__file__, str(tmp_path), str(people), sample])
        errors = [process.communicate(timeout=300)[1] for process in processes]
        assert all(process.returncode == 0 for process in processes), "\n".join(errors)
    states = list(Checkpoints(tmp_path).steps().values())
    assert [path.name[-1] for path in states] == ["7", "8", "9"]
    (tmp_path / "checkpoints").mkdir()
    states[0].rename(tmp_path / "checkpoints" / states[0].name)
    state = read_state(tmp_path)
    assert state["partial_fc.exp_avg"][:, 0].tolist() == [1000 + row for row in range(people)]


if __name__ == "__main__":
    work(*sys.argv[1:])
