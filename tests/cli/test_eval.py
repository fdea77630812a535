"""`faceum eval` from the command line to the report, with a network that is known beforehand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import faceum.extras
import faceum.model.routing_stats
import faceum.runner
import faceum.weights.load
import faceum.weights.registry
from faceum.cli.eval import app
from faceum.crop import TEMPLATE, CropSpec
from faceum.errors import DataError, OutputError
from faceum.runner import NetworkCard

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


class ThirtyYears:
    """Says that everybody is thirty."""

    card = NetworkCard(
        name="thirty", tasks=("age",), crops=((CropSpec(policy="similarity", size=32, grid=4), ("age",)),)
    )
    runtime, device = "fake", "cpu"

    def run(self, crops: np.ndarray, masks: np.ndarray, tasks: Sequence[str]) -> dict[str, np.ndarray]:
        logits = np.where(np.arange(101) == 30, 50.0, -50.0)
        return {"age": np.repeat(logits[None], len(crops), axis=0)}


@pytest.fixture
def set_file(tmp_path: Path) -> Path:
    image = cv2.imencode(".png", np.full((100, 100, 3), 120, np.uint8))[1].tobytes()
    rows = [
        {
            "id": str(age),
            "source": "ages",
            "image": image,
            "box": [30.0, 30.0, 70.0, 80.0],
            "points5": (TEMPLATE * 16 + 50).ravel().tolist(),
            "age": age,
        }
        for age in (28, 30, 35)
    ]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "ages.val.parquet")
    return tmp_path / "ages.val.parquet"


@pytest.fixture(autouse=True)
def known_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faceum.runner, "load_runner", lambda *words: ThirtyYears())


def evaluate(*words: str) -> object:
    return CliRunner().invoke(app, list(words))


def test_from_the_command_line_to_the_report(set_file, tmp_path):
    out = tmp_path / "out"
    done = evaluate(
        "--model", "no-such.onnx", "--set", f"ages={set_file}", "--detector", "none", "--out", str(out)
    )
    assert done.exit_code == 0, done.output
    assert "ages age: mae 2.33 years, cs5 100.00 %" in done.output
    assert "load was not counted" in done.output
    contents = json.loads((out / "report.json").read_text())
    assert contents["about"]["network"] == "thirty"
    assert "load was not counted" in contents["expert_note"]
    assert contents["scores"]["ages_mae"] == pytest.approx(7 / 3, abs=1e-3)
    assert (out / "plots" / "ages-age-scatter.png").exists()
    assert (out / "overlays" / "ages-age.png").exists()


def test_without_a_folder_the_report_goes_to_results(set_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("--detector", "none", "--no-overlays")
    done = evaluate("--model", "weights/some.onnx", "--set", f"ages={set_file}", *words)
    assert done.exit_code == 0, done.output
    assert (tmp_path / "results" / "eval" / "some" / "report.json").exists()


def test_expert_load_per_set(set_file, tmp_path, monkeypatch):
    monkeypatch.setattr(faceum.weights.registry, "has_part", lambda *words: True)
    monkeypatch.setattr(faceum.weights.load, "load_model", lambda model: None)
    monkeypatch.setattr(
        faceum.model.routing_stats,
        "expert_load",
        lambda network, crops, tasks: {"MoE block 1, face": {"age": [len(crops) / 10, 1 - len(crops) / 10]}},
    )
    words = ("--set", f"ages={set_file}", "--set", f"again={set_file}", "--detector", "none", "--no-overlays")
    assert evaluate(*words, "--out", str(tmp_path / "out")).exit_code == 0
    contents = json.loads((tmp_path / "out" / "report.json").read_text())
    assert contents["expert_load"]["again"] == {"MoE block 1, face": {"age": [0.3, 0.7]}}
    assert set(contents["expert_load"]) == {"ages", "again"} and contents["expert_note"] is None
    monkeypatch.setattr(faceum.extras, "torch_is_installed", lambda: False)
    evaluate(*words, "--out", str(tmp_path / "bare"))
    contents = json.loads((tmp_path / "bare" / "report.json").read_text())
    assert contents["expert_load"] is None and "needs torch" in contents["expert_note"]


def test_gray_image_holds_no_face_for_the_real_detector(set_file, tmp_path):
    done = evaluate(
        "--set",
        f"ages={set_file}",
        "--out",
        str(tmp_path / "out"),
        "--no-overlays",
        "--no-experts",  # they would be those of the shipped network, whose crops are not this runner's
        "--limit",
        "2",
    )
    assert done.exit_code == 0, done.output
    assert "(2, 2 missed)" in done.output
    assert not (tmp_path / "out" / "overlays").exists()


def test_failed_scoring_writes_no_report(set_file, tmp_path):
    out = tmp_path / "out"
    for words, sentence in (
        (["--set", "ages"], "NAME=PATH"),
        (["--set", f"ages={tmp_path / 'none.parquet'}"], "There is no file"),
        (["--set", f"ages={set_file}", "--protocol", "parsing"], "Nothing to evaluate on ages"),
    ):
        done = evaluate(*words, "--out", str(out), "--detector", "none")
        assert isinstance(done.exception, DataError) and sentence in str(done.exception)
        assert not list(out.rglob("*"))


def test_output_folder_is_tried_before_the_first_face(set_file, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(ThirtyYears, "run", None)
    done = evaluate("--set", f"ages={set_file}", "--out", str(tmp_path / "file"), "--detector", "none")
    assert isinstance(done.exception, OutputError) and "it is a file" in str(done.exception)
