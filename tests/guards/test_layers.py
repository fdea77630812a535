"""The layers of the house: who may import whom, and what each module says about itself."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import grimp
import pytest
from importlinter import api
from importlinter.application.use_cases import lint_imports

DOORS = 6


def layer_of_children(root: Path) -> dict[str, int]:
    """The layer of each module right under the package, read from the contract that import-linter checks."""
    contracts = api.read_configuration(str(root / "pyproject.toml"))["contracts_options"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    numbers = {"faceum": DOORS}
    for number, layer in enumerate(reversed(layers)):
        for name in re.findall(r"\w+", layer):
            numbers[f"faceum.{name}"] = min(number, DOORS)
    return numbers


def test_imports_keep_to_the_contracts(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(str(root / "src"))
    kept = lint_imports(config_filename=str(root / "pyproject.toml"), cache_dir=None, no_logo=True)
    assert kept, capsys.readouterr().out


def test_only_doors_import_the_front_door(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(root / "src"))
    graph = grimp.build_graph("faceum", cache_dir=None)
    layers = layer_of_children(root)
    lower = [
        name
        for name in graph.find_modules_that_directly_import("faceum")
        if layers[".".join(name.split(".")[:2])] < DOORS
    ]
    assert not lower


def test_depth_is_at_most_two(module: str) -> None:
    assert module.count(".") <= 2


def test_no_module_is_a_drawer_for_leftovers(module: str) -> None:
    assert not {"utils", "util", "common", "helpers", "misc"} & set(module.split("."))
