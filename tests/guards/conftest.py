"""Fixtures that the guards share: the repository's files and the package's modules."""

from __future__ import annotations

import ast
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


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's folder."""
    return ROOT


@pytest.fixture(scope="session")
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    return module_files()


@pytest.fixture(scope="session")
def python_files() -> list[Path]:
    """Every Python file of the package, its tests, tools, benchmarks and examples."""
    found = [path for folder in PYTHON_FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    return [*found, *sorted(ROOT.glob("*.py"))]


@pytest.fixture(scope="session")
def trees(python_files: list[Path]) -> dict[Path, ast.Module]:
    """The syntax tree of every Python file."""
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in python_files}


@pytest.fixture(scope="session")
def files() -> list[Path]:
    """Every file that git tracks or would; skips outside a git checkout."""
    listed = project_files()
    if not listed:
        pytest.skip("needs a git checkout to tell the project's files from others")
    return listed
