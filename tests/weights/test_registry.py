"""The registry names files, verifies them, and says so in a sentence when it cannot."""

from pathlib import Path

import pytest

from faceum.errors import ModelError
from faceum.weights.registry import (
    Asset,
    asset_names,
    asset_path,
    describe_file,
    has_part,
    load_registry,
    resolve_model,
    write_entry,
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "small.onnx").write_bytes(b"network")
    write_entry(
        Asset(
            name="small",
            kind="model",
            files={"onnx": describe_file(tmp_path / "small.onnx")},
            licence="research",
            source="here",
            scores={"lfw": 0.7},
        ),
        folder=tmp_path,
    )
    return tmp_path


def test_entry_comes_back_as_it_was_written(folder):
    asset = load_registry(folder)["small"]
    assert (asset.kind, asset.licence, asset.scores["lfw"]) == ("model", "research", 0.7)
    assert asset_path("small", folder=folder) == folder / "small.onnx"


def test_entry_of_the_same_name_is_replaced_and_others_stay(folder):
    (folder / "eye.onnx").write_bytes(b"eye")
    file = describe_file(folder / "eye.onnx")
    for licence in ("one", "two"):
        write_entry(
            Asset(name="eye", kind="detector", files={"onnx": file}, licence=licence, source=""),
            folder=folder,
        )
    assert list(load_registry(folder)) == ["small", "eye"]
    assert load_registry(folder)["eye"].licence == "two"
    assert asset_names("model", folder) == ["small"] and asset_names("detector", folder) == ["eye"]


def test_changed_bytes_are_refused_even_after_a_good_answer(folder):
    asset_path("small", folder=folder)
    (folder / "small.onnx").write_bytes(b"other bytes")
    with pytest.raises(ModelError, match="SHA-256"):
        asset_path("small", folder=folder)


def test_missing_file_gives_a_sentence(folder):
    (folder / "small.onnx").unlink()
    with pytest.raises(ModelError, match=r"small\.onnx.*missing"):
        asset_path("small", folder=folder)


def test_unknown_name_names_its_neighbour(folder):
    with pytest.raises(ModelError, match="did you mean 'small'"):
        resolve_model("smal", folder=folder)
    with pytest.raises(ModelError, match="known: small"):
        resolve_model("quite another", folder=folder)


def test_missing_part_lists_the_others(folder):
    with pytest.raises(ModelError, match="come as onnx"):
        resolve_model("small", "safetensors", folder=folder)
    assert has_part("small", "onnx", folder=folder) and not has_part("small", "safetensors", folder=folder)


def test_resolve_path_of_either_format(tmp_path, folder):
    path = tmp_path / "mine.safetensors"
    path.write_bytes(b"")
    assert resolve_model(path, "safetensors", folder=folder) == path
    assert resolve_model(str(path), "safetensors", folder=folder) == path
    with pytest.raises(ModelError, match=r"mine\.onnx"):
        resolve_model(path, "onnx", folder=folder)
    path.with_suffix(".onnx").write_bytes(b"")
    assert resolve_model(path, "onnx", folder=folder) == path.with_suffix(".onnx")


def test_file_of_another_kind_gives_a_sentence(folder):
    with pytest.raises(ModelError, match="neither"):
        resolve_model(Path("x.pth"), folder=folder)


def test_broken_registry_gives_a_sentence(tmp_path):
    (tmp_path / "registry.json").write_text('{"schema": "faceum.weights/1", "weights": {"x": {}}}')
    with pytest.raises(ModelError, match="registry"):
        load_registry(tmp_path)
    (tmp_path / "registry.json").write_text("{")
    with pytest.raises(ModelError, match="registry"):
        load_registry(tmp_path)


def test_shipped_files_are_the_registered_ones():
    for asset in load_registry().values():
        for part in asset.files:
            asset_path(asset.name, part, kind=asset.kind)
