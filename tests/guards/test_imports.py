"""What the package needs to be imported: never torchvision, and for the base install no torch either."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BEYOND_THE_BASE_INSTALL = (
    "torch", "pyarrow", "tensorboard", "onnx", "onnxscript", "matplotlib", "PIL", "scipy", "sklearn",
)  # fmt: skip
"""Import names that only extras bring."""

NEEDS_AN_EXTRA = (
    "faceum.data", "faceum.datasets", "faceum.export", "faceum.model", "faceum.recipes", "faceum.train",
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


@pytest.fixture(scope="session")
def with_torchvision_absent(modules: dict[str, Path], root: Path) -> dict[str, str]:
    return import_all(modules, root, blocked=("torchvision",))


@pytest.fixture(scope="session")
def with_torchvision_broken(
    modules: dict[str, Path], root: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    fakes = tmp_path_factory.mktemp("fakes")
    (fakes / "torchvision").mkdir()
    (fakes / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')\n"
    )
    return import_all(modules, root, fakes=fakes)


@pytest.fixture(scope="session")
def with_the_base_install(modules: dict[str, Path], root: Path) -> dict[str, str]:
    return import_all(modules, root, blocked=BEYOND_THE_BASE_INSTALL)


def may_need_an_extra(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in NEEDS_AN_EXTRA)


def test_imports_with_torchvision_absent(module: str, with_torchvision_absent: dict[str, str]) -> None:
    assert with_torchvision_absent.get(module, "") == ""


def test_imports_with_torchvision_broken(module: str, with_torchvision_broken: dict[str, str]) -> None:
    assert with_torchvision_broken.get(module, "") == ""


def test_imports_with_the_base_install_alone(module: str, with_the_base_install: dict[str, str]) -> None:
    if may_need_an_extra(module):
        pytest.skip("may need an extra")
    assert with_the_base_install.get(module, "") == ""


@pytest.mark.parametrize("listed", NEEDS_AN_EXTRA)
def test_the_list_of_modules_that_need_an_extra_is_no_longer_than_true(
    listed: str, modules: dict[str, Path], with_the_base_install: dict[str, str]
) -> None:
    there = [name for name in modules if name == listed or name.startswith(f"{listed}.")]
    filled = [name for name in there if modules[name].name != "__init__.py"]
    if not filled:
        pytest.skip(f"{listed} is not written yet")
    assert any(with_the_base_install[name] for name in filled)


def test_the_front_door_loads_no_runtime(root: Path) -> None:
    code = "import faceum, sys; print(sorted({'torch', 'onnxruntime', 'cv2'} & set(sys.modules)))"
    assert run_python(code, root=root) == "[]"


def test_the_front_door_knows_its_names_and_says_so(root: Path) -> None:
    code = "import faceum; print(set(faceum.__all__) <= set(dir(faceum)) and len(faceum.__all__) > 3)"
    assert run_python(code, root=root) == "True"
