"""Thresholds reach both files' headers and the registry, and no tensor changes."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from faceum.weights.quality import QualityFit, SignalWeight
from faceum.weights.registry import WEIGHTS, Asset, describe_file, find_asset, model_id, write_entry
from faceum.weights.thresholds import MatchRate, Thresholds, thresholds

pytest.importorskip("onnx")
pytest.importorskip("safetensors")

TOOL = Path(__file__).resolve().parents[2] / "tools" / "ship_thresholds.py"


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location("ship_thresholds", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_thresholds_are_shipped(tool, tiny_model, tmp_path):
    from safetensors.numpy import load_file

    for part in (".safetensors", ".onnx"):
        shutil.copy(tiny_model.with_suffix(part), tmp_path / f"tiny{part}")
    before = load_file(tmp_path / "tiny.safetensors")
    files = {part: describe_file(tmp_path / f"tiny.{part}") for part in ("safetensors", "onnx")}
    write_entry(
        Asset(name="tiny", kind="model", files=files, licence="a", source="b", scores={"lfw_accuracy": 5.0}),
        folder=tmp_path,
    )
    rates = tuple(
        MatchRate(fmr=10.0**-n, cosine=n / 10, tmr=0.9, tmr_low=0.8, tmr_high=1.0) for n in range(1, 5)
    )
    fit = QualityFit(
        fmr=1e-3, pairs=9, intercept=0.1, signals={"size": SignalWeight(weight=1.0, low=-1.0, high=0.0)}
    )
    bare = Thresholds(set="lfw", people=9, same_pairs=9, different_pairs=99, rates=rates)
    measured = bare.with_masked(replace(bare, same_pairs=8)).with_quality(fit)
    tool.ship_thresholds("tiny", json.loads(json.dumps(measured.to_dict())), tmp_path)
    entry = find_asset("tiny", "model", tmp_path)
    assert entry.scores == {"lfw_accuracy": 5.0}
    assert Thresholds.from_dict(entry.thresholds) == measured
    for part in ("safetensors", "onnx"):
        path = tmp_path / f"tiny.{part}"
        assert thresholds(path) == measured
        assert entry.files[part] == describe_file(path)
    ids = {model_id(tmp_path / f"tiny.{part}", "tiny", folder=tmp_path) for part in ("safetensors", "onnx")}
    assert len(ids) == 1
    after = load_file(tmp_path / "tiny.safetensors")
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_the_shipped_weights_judge_masked_faces_and_know_a_quality():
    shipped = thresholds("compact")
    assert shipped.masked is not None and shipped.quality is not None
    assert shipped.masked.at(1e-3).tmr < shipped.at(1e-3).tmr
    for part in ("safetensors", "onnx"):
        assert thresholds(WEIGHTS / f"compact.{part}") == shipped
