"""Shipping writes both formats and an entry that fit each other."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from faceum.runner import load_runner
from faceum.weights.registry import Asset, asset_path, load_registry

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

TOOL = Path(__file__).resolve().parents[2] / "tools" / "ship_weights.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("ship_weights", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_formats_are_written_registered_and_say_the_same(tool, tiny_model, tmp_path):
    about = Asset(
        name="small",
        kind="model",
        files={},
        licence="research",
        source="a test",
        scores={"lfw_accuracy": 50.0},
    )
    report = {"evaluations": [{"dataset": "utkface", "protocol": "age", "tables": [
        {"title": "By fold", "columns": ["fold"], "rows": [[1]]},
        {"title": "By age band", "columns": ["age band", "faces", "MAE"], "rows": [["70+", 9, 7.1234]]},
    ]}]}  # fmt: skip
    record = {"tables": tool.tables_of(report), "data": [{"source": "utkface", "train": 5}]}
    record |= {"recipes": [{"steps": 3}], "calibration": {"age": 1.5}}
    differences = tool.ship(tiny_model, about, tmp_path, record)
    assert set(differences) == set(load_runner(tiny_model, "torch").card.tasks)
    entry = load_registry(tmp_path)["small"]
    assert (entry.kind, entry.licence, entry.scores) == ("model", "research", {"lfw_accuracy": 50.0})
    for part in ("onnx", "safetensors"):
        path = asset_path("small", part, folder=tmp_path)
        card = load_runner(path).card
        assert card.name == "tiny" and card.calibration == {"age": 1.5}
    import onnx

    from faceum.model.checkpoint import read_metadata

    notes = {note.key: note.value for note in onnx.load(tmp_path / "small.onnx").metadata_props}
    for header in (read_metadata(tmp_path / "small.safetensors"), json.loads(notes["faceum"])):
        assert header["licence"] == "research" and header["scores"] == {"lfw_accuracy": 50.0}
        assert header["data"] == record["data"] and header["recipes"] == [{"steps": 3}]
        assert [table["title"] for table in header["tables"]] == ["By age band"]
        assert header["tables"][0]["rows"] == [["70+", 9, 7.12]] and header["tables"][0]["set"] == "utkface"


def test_log_contains_no_absolute_paths(tool):
    run = {
        "recipe": {"data": "somewhere/deep/corpus", "out": "runs/compact-2", "lr": 0.1},
        "git": "abc",
        "data": {"celeba": {"faces": 7}},
    }
    assert tool.recipe_of(run) == {"data": "corpus", "out": "compact-2", "lr": 0.1, "git": "abc"}
    rows = [{"source": "celeba", "name": "CelebA"}, {"source": "lfw", "name": "LFW"}]
    assert [row["train"] for row in tool.register_of(rows, run)] == [7, 0]
