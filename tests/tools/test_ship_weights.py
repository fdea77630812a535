"""Shipping writes both formats and an entry that fit each other."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from faceum.assets import Asset, asset_path, load_registry
from faceum.runner import load_runner

pytest.importorskip("torch")
pytest.importorskip("onnxscript")

TOOL = Path(__file__).resolve().parents[2] / "tools" / "ship_weights.py"


def test_both_formats_are_written_registered_and_say_the_same(tiny_model, tmp_path):
    spec = importlib.util.spec_from_file_location("ship_weights", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    about = Asset(
        name="small",
        kind="model",
        files={},
        licence="research",
        source="a test",
        scores={"lfw_accuracy": 50.0},
    )
    differences = tool.ship(tiny_model, about, tmp_path)
    assert set(differences) == set(load_runner(tiny_model, "torch").card.tasks)
    entry = load_registry(tmp_path)["small"]
    assert (entry.kind, entry.licence, entry.scores) == ("model", "research", {"lfw_accuracy": 50.0})
    for part in ("onnx", "safetensors"):
        path = asset_path("small", part, folder=tmp_path)
        assert load_runner(path).card.name == "tiny"
    from faceum.model.checkpoint import read_metadata

    header = read_metadata(tmp_path / "small.safetensors")
    assert header["licence"] == "research" and header["scores"] == {"lfw_accuracy": 50.0}
