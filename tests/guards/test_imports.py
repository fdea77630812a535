"""What importing the package needs: never torchvision, and in the base install no torch."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from faceum.extras import EXTRAS

BEYOND_THE_BASE_INSTALL = (
    "torch", "pyarrow", "ray", "tensorboard", "onnx", "onnxscript", "matplotlib", "pillow_heif", "scipy",
    "sklearn", "av", "fsspec", "duckdb", "fastapi", "starlette", "uvicorn", "python_multipart",
    "prometheus_client",
)  # fmt: skip
"""Import names that only extras bring."""

NEEDS_AN_EXTRA = (
    "faceum.data", "faceum.export", "faceum.model", "faceum.recipes", "faceum.serve", "faceum.train",
)  # fmt: skip
"""Modules, and packages with all that is in them, that may need an extra to be imported."""

IMPORT_ALL = """
import importlib, importlib.abc, json, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r} (blocked by the test)", name=name)

names, blocked = json.load(sys.stdin)
sys.meta_path.insert(0, Absent())
outcome = {}
for name in names:
    try:
        importlib.import_module(name)
        outcome[name] = ""
    except Exception as error:
        outcome[name] = f"{type(error).__name__}: {error}"
print(json.dumps(outcome))
"""


def run_python(code: str, *, root: Path, first_on_path: Path | None = None, stdin: str = "") -> str:
    """What `code` prints in a fresh interpreter that finds the package in this checkout."""
    path = [str(folder) for folder in (first_on_path, root / "src") if folder is not None]
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=stdin,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def import_all(
    modules: dict[str, Path], root: Path, *, blocked: tuple[str, ...] = (), fakes: Path | None = None
) -> dict[str, str]:
    """Import every module in one fresh interpreter; an empty string or the error of each."""
    names = [name for name in modules if not name.endswith("__main__")]
    return json.loads(
        run_python(IMPORT_ALL, root=root, first_on_path=fakes, stdin=json.dumps([names, blocked]))
    )


def may_need_an_extra(module: str) -> bool:
    """Whether the module may need more than the base install."""
    return any(module == name or module.startswith(f"{name}.") for name in NEEDS_AN_EXTRA)


def failures(outcome: dict[str, str]) -> dict[str, str]:
    """The modules that could not be imported, with the error of each."""
    return {name: error for name, error in outcome.items() if error}


def test_every_module_imports_with_a_broken_torchvision(
    modules: dict[str, Path], root: Path, tmp_path: Path
) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    assert not failures(import_all(modules, root, fakes=tmp_path))


def test_base_install_imports_all_but_the_listed_modules(modules: dict[str, Path], root: Path) -> None:
    failed = failures(import_all(modules, root, blocked=BEYOND_THE_BASE_INSTALL))
    assert not {name: error for name, error in failed.items() if not may_need_an_extra(name)}
    for listed in NEEDS_AN_EXTRA:
        assert any(name == listed or name.startswith(f"{listed}.") for name in failed), listed


def test_package_loads_no_runtime(root: Path) -> None:
    code = "import faceum, sys; print(sorted({'torch', 'onnxruntime', 'cv2'} & set(sys.modules)))"
    assert run_python(code, root=root) == "[]"


def test_package_lists_its_names(root: Path) -> None:
    code = "import faceum; print(set(faceum.__all__) <= set(dir(faceum)) and len(faceum.__all__) > 3)"
    assert run_python(code, root=root) == "True"


def contents(extra: str, declared: dict[str, list[str]]) -> set[str]:
    """The import names of the packages in an extra, and in the extras that it refers to."""
    found: set[str] = set()
    for requirement in map(Requirement, declared[extra]):
        inner = [contents(one, declared) for one in requirement.extras if requirement.name == "moe-faceum"]
        found |= {requirement.name.replace("-", "_")}.union(*inner)
    return found


def test_hints_name_an_extra_that_brings_the_package(modules: dict[str, Path], root: Path) -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = project["optional-dependencies"]
    hints = set(EXTRAS.items())
    for path in modules.values():
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "missing":
                words = [getattr(argument, "value", None) for argument in call.args]
                hints |= {(words[1], words[2])} if len(words) == 3 else set()
    assert ("pyarrow", "eval") in hints
    for module, extra in hints:
        assert module in contents(extra, declared), f"{module} is not in [{extra}]"
