"""Checkpoints come back as they were, and whatever does not fit is refused in a sentence."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from faceum.crop import CropSpec
from faceum.errors import ModelError
from faceum.model import checkpoint
from faceum.model.checkpoint import (
    config_from_dict,
    config_to_dict,
    load_checkpoint,
    read_metadata,
    save_checkpoint,
)
from faceum.model.configs import CONFIGS
from faceum.model.network import FaceUM
from faceum.tasks import ATTRIBUTES, EXPRESSIONS, PARSING_CLASSES

METADATA = {"licence": "research use", "provenance": {"data": ["made up"]}, "scores": {"age": 8.5}}


@pytest.fixture(scope="module")
def network(small_config, lively) -> FaceUM:
    return lively(small_config, seed=4)


@pytest.fixture
def saved(network: FaceUM, tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    save_checkpoint(path, network, METADATA)
    return path


def rewrite(
    path: Path, *, header: dict[str, Any] | None = None, drop: str = "", **tensors: torch.Tensor
) -> None:
    """The same file with another header entry, without a tensor, or with others."""
    with safe_open(path, framework="pt") as file:
        kept = {name: file.get_tensor(name) for name in file.keys() if name != drop}
        old = json.loads(file.metadata()["faceum"])
    save_file({**kept, **tensors}, path, metadata={"faceum": json.dumps({**old, **(header or {})})})


def test_weights_return_in_half_precision_and_buffers_whole(network: FaceUM, saved: Path) -> None:
    again, _ = load_checkpoint(saved)
    assert not again.training
    parameters, expected = dict(network.named_parameters()), network.state_dict()
    for name, value in again.state_dict().items():
        assert value.dtype == torch.float32
        half = expected[name].half().float() if name in parameters else expected[name]
        assert torch.equal(value, half), name
    with safe_open(saved, framework="pt") as file:
        assert file.get_tensor("moe_blocks.0.moe.experts.fc1").dtype == torch.float16


def test_full_precision_answers_alike(network: FaceUM, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "full.safetensors"
    save_checkpoint(path, network, METADATA, dtype=torch.float32)
    again, _ = load_checkpoint(path)
    crop_BCHW, mask_BN = torch.rand(2, 3, 64, 64), torch.rand(2, 16) < 0.5
    with torch.inference_mode():
        answers, expected = again(crop_BCHW, mask_BN), network(crop_BCHW, mask_BN)
    assert all(torch.equal(answers[task], expected[task]) for task in expected)


def test_header_has_all_that_is_needed(network: FaceUM, saved: Path) -> None:
    header = read_metadata(saved)
    assert {name: header[name] for name in METADATA} == METADATA
    assert header["labels"] == {
        "attributes": list(ATTRIBUTES),
        "expression": list(EXPRESSIONS),
        "parsing": list(PARSING_CLASSES),
    }
    spec, tasks = header["config"]["crops"][0]
    assert CropSpec.from_dict(spec) == network.config.crops[0][0]
    assert tuple(tasks) == network.config.tasks
    assert load_checkpoint(saved)[1] == header


@pytest.mark.parametrize("name", list(CONFIGS))
def test_every_named_config_survives_json(name: str) -> None:
    plain = json.loads(json.dumps(config_to_dict(CONFIGS[name])))
    assert config_from_dict(plain) == CONFIGS[name]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"drop": "trunk.positions"}, "missing.*trunk.positions"),
        ({"extra.weight": torch.zeros(3)}, "unknown.*extra.weight"),
        ({"trunk.positions": torch.zeros(16, 31)}, "shape.*trunk.positions"),
        ({"moe_blocks.0.moe.router.bias": torch.zeros(6)}, "shape.*router.bias"),
    ],
)
def test_every_tensor_must_fit(saved: Path, change: dict[str, Any], said: str) -> None:
    rewrite(saved, **change)
    with pytest.raises(ModelError, match=said):
        load_checkpoint(saved)


def changed(config: dict[str, Any], place: str, value: object) -> dict[str, Any]:
    """A deep copy with one value set, `place` being its keys between dots; without it where value is ...."""
    copy = json.loads(json.dumps(config))
    *road, last = place.split(".")
    at = copy
    for key in road:
        at = at[int(key)] if isinstance(at, list) else at[key]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return copy


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("temperature", 2, "temperature"),
        ("moe.router.noise", 1.0, "noise"),
        ("crops.0.0.border", 1, "border"),
        ("block.dim", ..., "dim"),
        ("depth", "two", "'two'"),
        ("depth", True, "True"),
        ("tasks", "age", "'age'"),
        ("tasks", 6, "6"),
        ("mean", [0.5, 0.5], "0.5"),
        ("block", [1], r"\[1\]"),
        ("block.activation", "swish", "silu"),
        ("stem.kind", "fourier", "patch"),
        ("heads", "many", "compact"),
        ("tasks", ["age", "weight"], "weight"),
        ("moe.router.k_max_face", 99, "experts"),
        ("depth", 10**9, "blocks"),
        ("depth", -1, "depth"),
        ("stem.blocks", [0, 10**9, 1], "blocks"),
        ("block.dim", 10**12, "of another shape|valid network"),
        ("crops.0.0.size", 10**6, "size"),
        ("crops.0.0.grid", 0, "grid"),
        ("crops.0.0.grid", 10**9, "grid"),
        ("std", [0.0, 1.0, 1.0], "std"),
        ("mean", [float("nan"), 0.5, 0.5], "nan"),
        ("outputs", {"age": 10**12}, "of another shape|valid network"),
    ],
)
def test_configs_that_do_not_fit_are_refused(saved: Path, place: str, value: object, said: str) -> None:
    rewrite(saved, header={"config": changed(read_metadata(saved)["config"], place, value)})
    with pytest.raises(ModelError, match=said):
        load_checkpoint(saved)


def test_file_without_a_config_is_refused(saved: Path) -> None:
    rewrite(saved, header={"config": {}})
    with pytest.raises(ModelError, match="config"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    "entry", [None, {"faceum": "{}"}, {"faceum": "[1]"}, {"faceum": "{not json"}, {"format": "pt"}]
)
def test_foreign_safetensors_are_refused(tmp_path: Path, entry: dict[str, str] | None) -> None:
    path = tmp_path / "foreign.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata=entry)
    with pytest.raises(ModelError, match="foreign.safetensors"):
        load_checkpoint(path)


def test_other_files_than_safetensors_are_refused(tmp_path: Path, saved: Path) -> None:
    whole = saved.read_bytes()
    files = {
        "noise": np.random.default_rng(0).bytes(500),
        "empty": b"",
        "cut": whole[: len(whole) // 2],
        "longer": whole + b"x",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder").mkdir()
    for name in (*files, "folder", "absent"):
        with pytest.raises(ModelError, match=name):
            load_checkpoint(tmp_path / name)


def test_cut_while_saving_leaves_the_old_file(
    network: FaceUM, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = saved.read_bytes()

    def cut(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half a fi")
        raise OSError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", cut)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(saved, network, METADATA)
    assert saved.read_bytes() == before
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_network_of_fewer_tasks_says_so(small_config, lively, tmp_path: Path) -> None:
    spec, _ = small_config.crops[0]
    config = dataclasses.replace(small_config, tasks=("age",), crops=((spec, ("age",)),))
    save_checkpoint(tmp_path / "age.safetensors", lively(config), {})
    again, header = load_checkpoint(tmp_path / "age.safetensors")
    assert again.config.tasks == ("age",) and header["labels"] == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(saved: Path, value: float) -> None:
    with safe_open(saved, framework="pt") as file:
        bias = file.get_tensor("moe_blocks.0.moe.router.bias")
    bias[0, 0] = value
    rewrite(saved, **{"moe_blocks.0.moe.router.bias": bias})
    with pytest.raises(ModelError, match="not finite: moe_blocks.0.moe.router.bias"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("labels", "said"),
    [([], "labels"), ({"age": ["x"]}, "age has 1 label for 101"), ({"smile": []}, "smile"),
     ({"expression": "sad"}, "expression"), ({"expression": [1] * 8}, "expression")],
)  # fmt: skip
def test_labels_that_do_not_fit_are_refused(saved: Path, labels: object, said: str) -> None:
    rewrite(saved, header={"labels": labels})
    with pytest.raises(ModelError, match=said):
        load_checkpoint(saved)
