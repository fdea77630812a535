"""What README and its neighbours promise: commands run, files named are there, the map is whole."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

NOT_RUN = "not run in the tests"
"""A block stands behind `<!-- not run in the tests: why -->` when it installs, downloads or takes long."""

ROOT = Path(__file__).resolve().parents[2]


class Block(NamedTuple):
    """A fenced block of a Markdown file: its language, its text, and whether a test may run it."""

    language: str
    text: str
    runs: bool


def blocks(path: Path) -> list[Block]:
    """Every fenced block of a Markdown file."""
    text = path.read_text(encoding="utf-8")
    found = []
    for match in re.finditer(r"(<!--[^>]*-->\s*\n)?^```(\w+)\n(.*?)^```", text, re.S | re.M):
        found.append(Block(match[2], match[3], NOT_RUN not in (match[1] or "")))
    return found


def commands() -> list[str]:
    """Each command line of README's shell blocks that a test may run."""
    return [
        line.strip()
        for block in blocks(ROOT / "README.md")
        if block.language in ("bash", "sh", "console") and block.runs
        for line in block.text.replace("\\\n", " ").splitlines()
        if line.strip() and not line.strip().startswith("#")
    ]


def scripts() -> list[str]:
    """README's Python blocks that a test may run."""
    return [block.text for block in blocks(ROOT / "README.md") if block.language == "python" and block.runs]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the examples, where results may be left."""
    folder = tmp_path_factory.mktemp("readme")
    shutil.copytree(ROOT / "examples", folder / "examples")
    return folder


def run_there(command: list[str], place: Path) -> str:
    """What a command prints in `place`; fails with its errors."""
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command,
        cwd=place,
        env={**os.environ, "PATH": programs},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_readme_shows_commands() -> None:
    assert any(command.startswith("faceum analyze") for command in commands())
    assert scripts()


@pytest.mark.parametrize("command", commands())
def test_readme_command_runs(command: str, place: Path) -> None:
    assert run_there(["bash", "-euo", "pipefail", "-c", command], place).strip()


@pytest.mark.parametrize("script", scripts())
def test_readme_python_runs(script: str, place: Path) -> None:
    assert run_there([sys.executable, "-c", script], place).strip()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "MODEL_CARD.md", "NOTICE.md"])
def test_files_named_are_there(name: str, root: Path) -> None:
    text = re.sub(r"^```.*?^```", "", (root / name).read_text(encoding="utf-8"), flags=re.S | re.M)
    folders = r"src|tests|tools|recipes|benchmarks|examples|docs|\.ci"
    quoted = re.findall(rf"[`(]((?:{folders})/[\w./-]+)[`)]", text)
    assert not [one for one in quoted if not (root / one).exists()]


def test_names_that_contributing_tells_of_are_where_it_says(root: Path) -> None:
    text = " ".join((root / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    told = re.findall(r"`(\w+)`(?: and `(\w+)`)? in `([\w./]+\.py)`", text)
    assert len(told) > 8
    for *names, path in told:
        source = (root / path).read_text(encoding="utf-8")
        assert not [name for name in names if name and not re.search(rf"\b{name}\b", source)], path


def test_links_lead_somewhere(root: Path) -> None:
    for path in (*root.glob("*.md"), *(root / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name} leads to {target}"


def map_of_the_house() -> list[str]:
    """The paths of README's tree, folders with a slash at the end."""
    tree = next(block.text for block in blocks(ROOT / "README.md") if block.language == "text")
    paths, folders = [], [""]
    for line in tree.splitlines():
        found = re.match(r"^( *)([\w./-]+)(?:  |$)", line)
        if not found:
            continue
        depth = len(found[1]) // 2
        path = folders[depth] + found[2]
        paths.append(path)
        if path.endswith("/"):
            folders[depth + 1 :] = [path]
    return paths


def test_the_map_shows_what_is_there(files: list[Path]) -> None:
    shown = map_of_the_house()
    there = [str(path.relative_to(ROOT)) for path in files]
    assert not [path for path in shown if not any(file.startswith(path) for file in there)]
    assert len(shown) == len(set(shown))


def test_the_map_shows_every_module(modules: dict[str, Path]) -> None:
    shown = set(map_of_the_house())
    there = {str(path.relative_to(ROOT)) for path in modules.values() if path.name != "__init__.py"}
    there.add("src/faceum/__init__.py")
    assert not there - shown, "README's map lacks these"


def test_a_line_of_the_map_says_what_for() -> None:
    tree = next(block.text for block in blocks(ROOT / "README.md") if block.language == "text")
    silent = [line for line in tree.splitlines() if line.strip() and len(line.strip().split(maxsplit=1)) < 2]
    assert not silent
