"""The layers of the package: who may import whom, and how modules are named."""

from __future__ import annotations

from pathlib import Path

import grimp
import pytest
from importlinter.application.use_cases import lint_imports
from importlinter.configuration import configure

MAY_IMPORT_THE_PACKAGE = ("faceum.cli", "faceum.serve", "faceum.__main__")
"""Modules on top of all others: they alone may import `faceum` itself, which knows every layer."""


def test_imports_keep_to_the_contracts(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(str(root / "src"))
    configure()
    kept = lint_imports(config_filename=str(root / "pyproject.toml"), cache_dir=None, no_logo=True)
    assert kept, capsys.readouterr().out


def test_no_lower_layer_imports_the_package_itself(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(root / "src"))
    graph = grimp.build_graph("faceum", cache_dir=None)
    importers = graph.find_modules_that_directly_import("faceum")
    assert not [name for name in importers if not name.startswith(MAY_IMPORT_THE_PACKAGE)]


def test_depth_is_at_most_two(modules: dict[str, Path]) -> None:
    assert not [name for name in modules if name.count(".") > 2]


def test_no_module_is_a_drawer_for_leftovers(modules: dict[str, Path]) -> None:
    drawers = {"utils", "util", "common", "helpers", "misc"}
    assert not [name for name in modules if drawers & set(name.split("."))]
