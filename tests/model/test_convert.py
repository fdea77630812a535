"""Foreign files: every name accounted for, code refused, nothing written by halves; and the command."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from typer.testing import CliRunner

import faceum.model.convert
from faceum.cli.app import app
from faceum.errors import ModelError
from faceum.model.checkpoint import load_checkpoint, read_metadata
from faceum.model.configs import BASE, REFERENCE
from faceum.model.convert import KINDS, convert, convert_file, read_foreign
from faceum.model.network import FaceUM
from faceum.model.reference_names import farl_names, reference_names

State = dict[str, Tensor]
BLOCK_2 = "backbone_module.visual.transformer.resblocks.2."


@pytest.fixture(scope="module")
def configs(published: ModuleType, of_sizes: Callable[..., Any]) -> dict[str, Any]:
    return {
        "farl": of_sizes(BASE, published.NARROW),
        "reference": of_sizes(REFERENCE, published.NARROW),
    }


@pytest.fixture(scope="module")
def states(published: ModuleType) -> dict[str, State]:
    """Random values under the names of each kind of file, without `module.`."""
    return {
        "farl": published.random_state(published.farl_shapes(published.NARROW), seed=1),
        "reference": published.random_state(published.reference_shapes(published.NARROW), seed=2),
    }


@pytest.fixture(scope="module")
def files(states: dict[str, State], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same as files, each as it is published."""
    folder = tmp_path_factory.mktemp("foreign")
    paths = {"farl": folder / "FaRL.pth", "reference": folder / "checkpoint.pth.tar"}
    torch.save({"epoch": 64, "state_dict": states["farl"]}, paths["farl"])
    behind = {f"module.{name}": value for name, value in states["reference"].items()}
    torch.save({"step": 3, "state_dict": behind}, paths["reference"])
    return paths


@pytest.fixture
def narrow_kinds(configs: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line converts to the narrow networks."""
    for kind, foreign in KINDS.items():
        narrow = type(foreign)(**{**vars(foreign), "config": configs[kind]})
        monkeypatch.setitem(faceum.model.convert.KINDS, kind, narrow)


@pytest.mark.parametrize("kind", ["farl", "reference"])
def test_file_converts_and_loads(
    kind: str, files: dict[str, Path], states: dict[str, State], configs: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "x.safetensors"
    account = convert_file(kind, files[kind], out, config=configs[kind])
    again, header = load_checkpoint(out)
    direct, _ = convert(kind, states[kind], config=configs[kind])
    for name, value in direct.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name
    assert set(account.used) | set(account.by_rule) == set(states[kind])
    assert not set(account.used) & set(account.by_rule)
    reported = header["provenance"]
    assert reported["converted"] == kind and reported["file"] == files[kind].name
    assert reported["sha256"] == hashlib.sha256(files[kind].read_bytes()).hexdigest()
    assert reported["tensors"]["used"] == len(account.used)
    assert header["licence"] and [path.name for path in out.parent.iterdir()] == ["x.safetensors"]


def test_excluded_weights_are_unused(states: dict[str, State], configs: dict[str, Any]) -> None:
    _, account = convert("reference", states["reference"], config=configs["reference"])
    visual = "backbone_module.visual."
    gates = [f"{visual}transformer.resblocks.{i}.mlp.f_gate.0.weight" for i in (2, 3)]
    assert sorted(account.by_rule) == sorted(
        [f"{visual}ln_post.weight", f"{visual}ln_post.bias", f"{visual}proj", *gates]
    )
    assert not account.fresh
    _, account = convert("farl", states["farl"], config=configs["farl"])
    outside = {name for name in states["farl"] if not name.startswith("visual.")}
    assert len(outside) == 3
    assert set(account.by_rule) == outside | {"visual.ln_post.weight", "visual.ln_post.bias", "visual.proj"}


def test_parsing_classifier_is_brought_to_our_order(
    states: dict[str, State], configs: dict[str, Any], files: dict[str, Path], tmp_path: Path
) -> None:
    model, _ = convert("reference", states["reference"], config=configs["reference"])
    theirs = states["reference"]["heads_module.heads.parsing.head.conv_seg.bias"]
    ours = model.heads["parsing"].upernet.output.bias
    # FaRL: 1 neck, 2 skin, 3 cloth, 14 hair, 15 glasses; CelebAMask-HQ: 1 skin, 3 glasses, 13 hair, 17, 18.
    for farl, celebamask in ((0, 0), (1, 17), (2, 1), (3, 18), (14, 13), (15, 3), (18, 16)):
        assert ours[celebamask] == theirs[farl]
    out = tmp_path / "x.safetensors"
    convert_file("reference", files["reference"], out, config=configs["reference"])
    header = read_metadata(out)
    assert header["provenance"]["parsing_classes_from"][:4] == [0, 17, 1, 18]
    assert header["labels"]["expression"] == [
        "neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["farl", "reference"])
def test_every_tensor_of_the_published_width_has_its_place(kind: str, published: ModuleType) -> None:
    """Names and shapes at full width, without values."""
    names, config = {"farl": (farl_names, BASE), "reference": (reference_names, REFERENCE)}[kind]
    with torch.device("meta"):
        ours = FaceUM(config).state_dict()
    shapes = {"farl": published.farl_shapes, "reference": published.reference_shapes}[kind](published.FULL)
    found = [one for name in ours for one in names(name, config)]
    assert len(found) == len(set(found))
    assert set(found) <= set(shapes)
    if kind == "reference":
        assert [name for name in ours if not names(name, config)] == ["mean", "std"]


@pytest.mark.parametrize("kind", ["farl", "reference"])
def test_each_missing_name_is_reported(kind: str, states: dict[str, State], configs: dict[str, Any]) -> None:
    _, account = convert(kind, states[kind], config=configs[kind])
    for gone in account.used[:: max(len(account.used) // 12, 1)]:
        rest = {name: value for name, value in states[kind].items() if name != gone}
        with pytest.raises(ModelError, match=f"missing {gone};"):
            convert(kind, rest, config=configs[kind])


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("farl", ["visual.mask_token", "visual.ln_lm.weight", "visual.lm_head.bias",
                  "visual.lm_transformer.resblocks.0.ln_1.weight"]),
        ("reference", ["losses_module.recog.weight", "losses_module.align.0.bias"]),
    ],
)  # fmt: skip
def test_tensors_only_for_training_are_dropped_by_rule(
    kind: str, names: list[str], states: dict[str, State], configs: dict[str, Any]
) -> None:
    model, plain = convert(kind, states[kind], config=configs[kind])
    more = {**states[kind], **{name: torch.ones(2) for name in names}}
    again, account = convert(kind, more, config=configs[kind])
    assert set(account.by_rule) - set(plain.by_rule) == set(names)
    assert account.to_dict()["dropped_by_rule"] == len(plain.by_rule) + len(names)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_foreign_entries_of_a_state_dict_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    for content in ({1: torch.ones(2)}, {"x": torch.ones(1).expand(10**9)}, {"x": torch.eye(2).to_sparse()}):
        torch.save(content, path)
        with pytest.raises(ModelError, match="x.pth"):
            read_foreign(path)


def test_weights_that_are_not_finite_are_refused(states: dict[str, State], configs: dict[str, Any]) -> None:
    broken = {name: value.clone() for name, value in states["reference"].items()}
    broken["backbone_module.visual.class_embedding"][0] = float("nan")
    with pytest.raises(ModelError, match="not finite: trunk.class_token"):
        convert("reference", broken, config=configs["reference"])


def test_unknown_names_stop_unless_dropped(states: dict[str, State], configs: dict[str, Any]) -> None:
    go = partial(convert, "reference", config=configs["reference"])
    more = {
        **states["reference"],
        "heads_module.heads.gaze.fc.weight": torch.ones(2),
        "loss.w": torch.ones(1),
    }
    with pytest.raises(ModelError, match=r"unknown heads_module.heads.gaze.fc.weight, loss\.w\."):
        go(more)
    with pytest.raises(ModelError, match=r"unknown loss\.w\."):
        go(more, drop=["heads_module.heads.gaze."])
    _, account = go(more, drop=["heads_module.heads.gaze.", "module.loss."])
    assert account.by_name == ("heads_module.heads.gaze.fc.weight", "loss.w")
    with pytest.raises(ModelError, match="No tensor name begins with nothing.such"):
        go(more, drop=["nothing.such"])
    with pytest.raises(ModelError, match="missing heads_module.heads.age."):
        go(states["reference"], drop=["heads_module.heads.age."])


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("backbone_module.visual.conv1.weight", (48, 3, 14, 14)),
        (f"{BLOCK_2}mlp.f_gate_1.3.0.weight", (7, 48)),
        (f"{BLOCK_2}mlp.experts.w", (8, 40, 48)),
        ("heads_module.heads.age.conv.2.weight", (8, 48, 1, 1)),
        ("heads_module.heads.biattr.fcs.biattr_celeba.bias", (41,)),
        ("backbone_module.visual.positional_embedding", (11, 48)),
    ],
)
def test_wrong_shapes_are_reported(
    name: str, shape: tuple[int, ...], states: dict[str, State], configs: dict[str, Any]
) -> None:
    assert name in states["reference"]
    with pytest.raises(ModelError, match=name.replace(".", r"\.") + r" is \("):
        convert("reference", {**states["reference"], name: torch.zeros(shape)}, config=configs["reference"])


def test_gates_keep_their_task_and_region(states: dict[str, State], configs: dict[str, Any]) -> None:
    model, _ = convert("reference", states["reference"], config=configs["reference"])
    for task in range(6):
        for region, gate in ((0, "f_gate_2"), (1, "f_gate_1")):
            theirs = states["reference"][f"{BLOCK_2}mlp.{gate}.{task}.0.weight"]
            assert torch.equal(model.moe_blocks[0].moe.router.weight[task, region], theirs)


# Files that must not be trusted.


class Runs:
    """What a hostile pickle holds: reading it runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.parametrize("writer", ["torch", "pickle", "old torch"])
def test_pickle_with_code_is_refused(writer: str, tmp_path: Path) -> None:
    ran, path = tmp_path / "ran", tmp_path / "checkpoint.pth.tar"
    content = {"state_dict": {"module.a": torch.zeros(1), "module.b": Runs(f"touch {ran}")}}
    if writer == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=writer == "torch")
    with pytest.raises(ModelError, match="would run code") as reported:
        read_foreign(path)
    assert "\n" not in str(reported.value) and "weights_only" not in str(reported.value)
    assert writer == "pickle" or f"{os.system.__module__}.system" in str(reported.value)
    assert not ran.exists()


def test_broken_and_foreign_files_are_reported_in_a_sentence(files: dict[str, Path], tmp_path: Path) -> None:
    good = files["farl"].read_bytes()
    old = tmp_path / "old.pth"
    torch.save({"state_dict": {"a": torch.zeros(300)}}, old, _use_new_zipfile_serialization=False)
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    torch.save({"state_dict": {"a": "text"}}, tmp_path / "text.pth")
    with tarfile.open(tmp_path / "real.tar", "w") as tar:
        tar.add(old)
    wrong = {
        "empty": b"",
        "page": b"<html>not found</html>",
        "half": good[: len(good) // 2],
        "zeros": bytes(999),
        "several disks": b"PK\x06\x07" + bytes(12) + b"\x02\0\0\0" + b"PK\x05\x06" + b"\xff" * 16 + bytes(2),
    }
    wrong |= {f"old cut at {n}": old.read_bytes()[:n] for n in range(1, old.stat().st_size, 97)}
    for name, data in wrong.items():
        (tmp_path / f"{name}.pth").write_bytes(data)
    names = [*(f"{name}.pth" for name in wrong), "tensor.pth", "text.pth", "real.tar", "absent.pth"]
    for name in names:
        with pytest.raises(ModelError) as reported:
            read_foreign(tmp_path / name)
        assert name in str(reported.value) and "\n" not in str(reported.value)


# Power cuts.

KILLED = """
import json, os, signal, sys
import faceum.model.checkpoint as checkpoint
import faceum.model.convert as convert
write = checkpoint.save_file
def cut(tensors, path, metadata):
    write(tensors, path, metadata=metadata)
    os.truncate(path, os.path.getsize(path) // 2)
    os.kill(os.getpid(), signal.SIGKILL)
checkpoint.save_file = cut
config = checkpoint.config_from_dict(json.loads(sys.argv[3]))
convert.convert_file("reference", sys.argv[1], sys.argv[2], config=config)
"""


@pytest.mark.parametrize("before", [None, b"what was there"])
def test_killed_conversion_leaves_no_half_file(
    before: bytes | None, files: dict[str, Path], configs: dict[str, Any], tmp_path: Path
) -> None:
    out = tmp_path / "x.safetensors"
    if before is not None:
        out.write_bytes(before)
    config = json.dumps(faceum.model.checkpoint.config_to_dict(configs["reference"]))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(files["reference"]), str(out), config], check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert (out.read_bytes() if out.exists() else None) == before
    # What is left next to it is not read as weights.
    assert [path for path in tmp_path.glob("**/*.safetensors") if path != out] == []


def test_full_disk_leaves_nothing_and_is_reported(
    files: dict[str, Path], configs: dict[str, Any], tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource", reason="only here can the size of files be limited")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(ModelError, match=r"x\.safetensors cannot be written"):
            convert_file("farl", files["farl"], tmp_path / "x.safetensors", config=configs["farl"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())


# The command.


def test_command_converts_and_counts(
    narrow_kinds: None, files: dict[str, Path], states: dict[str, State], tmp_path: Path
) -> None:
    out = tmp_path / "x.safetensors"
    done = CliRunner().invoke(app, ["convert", "reference", str(files["reference"]), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert f"{len(states['reference']) - 5} tensors converted" in done.output
    assert "5 dropped by rule" in done.output
    with safe_open(out, framework="pt") as file:
        assert file.get_tensor("trunk.positions").dtype == torch.float32
    done = CliRunner().invoke(app, ["convert", "farl", str(files["farl"]), "--out", str(out), "--half"])
    assert done.exit_code == 0, done.output
    assert "6 dropped by rule" in done.output and "newly initialized" in done.output
    with safe_open(out, framework="pt") as file:
        assert file.get_tensor("trunk.positions").dtype == torch.float16


@pytest.mark.parametrize(
    ("kind", "file", "said"),
    [
        ("reference", "farl", "faceum convert farl"),
        ("farl", "reference", "faceum convert reference"),
        ("farl", "absent", "absent.pth"),
    ],
)
def test_command_says_what_is_wrong_in_a_sentence(
    narrow_kinds: None, kind: str, file: str, said: str, files: dict[str, Path], tmp_path: Path
) -> None:
    path = files.get(file, tmp_path / "absent.pth")
    done = CliRunner().invoke(app, ["convert", kind, str(path), "--out", str(tmp_path / "x.safetensors")])
    assert done.exit_code == 2
    assert said in done.output and "Traceback" not in done.output
    assert not list(tmp_path.glob("*.safetensors"))


def test_command_does_not_begin_what_it_cannot_write(files: dict[str, Path], tmp_path: Path) -> None:
    for out, said in (
        (tmp_path / "x.pth", ".safetensors"),
        (tmp_path / "d.safetensors", "is a folder"),
    ):
        (tmp_path / "d.safetensors").mkdir(exist_ok=True)
        done = CliRunner().invoke(app, ["convert", "farl", str(files["farl"]), "--out", str(out)])
        assert done.exit_code == 2 and said in done.output
