"""What the guards share: the repository's files and the package's modules, as fixtures to run over."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src"
PYTHON_FOLDERS = ("src", "tests", "tools", "benchmarks", "examples")


def module_files() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    files = {}
    for path in sorted((SOURCE / "faceum").rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def project_files() -> list[Path]:
    """Every file that is committed or would be: what git tracks and what it does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        return []
    return sorted(ROOT / name for name in set(listed.stdout.split("\0")) if name and (ROOT / name).is_file())


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the argument `module` runs once a module, one with `python_file` once a Python file."""
    if "module" in metafunc.fixturenames:
        metafunc.parametrize("module", list(module_files()))
    if "python_file" in metafunc.fixturenames:
        files = [path for folder in PYTHON_FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
        metafunc.parametrize("python_file", files, ids=lambda path: str(path.relative_to(ROOT)))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder."""
    return ROOT


@pytest.fixture(scope="session")
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    return module_files()


@pytest.fixture(scope="session")
def files() -> list[Path]:
    """Every file that git tracks or would; skips outside a git checkout."""
    listed = project_files()
    if not listed:
        pytest.skip("needs a git checkout to tell the project's files from others")
    return listed
