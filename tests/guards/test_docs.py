"""What README and docs/ promise: examples run, links lead somewhere, named files and functions exist."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

NOT_RUN = "not run in the tests"
"""A block behind `<!-- not run in the tests: why -->` installs, downloads, takes long or needs own data."""

ROOT = Path(__file__).resolve().parents[2]

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples" / "quickstart.ipynb"]

LONGEST_README = 130


class Block(NamedTuple):
    """A fenced block of a Markdown file: its language, its text, and whether a test may run it."""

    language: str
    text: str
    runs: bool


def blocks(path: Path) -> list[Block]:
    """Every fenced block of a Markdown file, or code cell of a notebook."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        return [Block("python", "".join(c["source"]), True) for c in cells if c["cell_type"] == "code"]
    found = []
    for match in re.finditer(r"(<!--[^>]*-->\s*\n)?^```(\w+)[^\n]*\n(.*?)^```", text, re.S | re.M):
        found.append(Block(match[2], match[3], NOT_RUN not in (match[1] or "")))
    return found


def shell_script(page: Path) -> str:
    """The page's shell blocks that a test may run, one after the other."""
    return "".join(block.text for block in blocks(page) if block.language in ("bash", "sh") and block.runs)


def python_script(page: Path) -> str:
    """The page's Python blocks that a test may run, as one program."""
    return "\n".join(block.text for block in blocks(page) if block.language == "python" and block.runs)


def pages_with(script: object) -> list[object]:
    """The pages whose script is not empty; README first, the others marked slow."""
    return [
        pytest.param(page, id=page.stem, marks=() if page.name == "README.md" else pytest.mark.slow)
        for page in PAGES
        if script(page)
    ]


def run_with_examples(command: list[str], folder: Path) -> str:
    """Run a command in a folder that holds a copy of the examples; fails with what it printed."""
    shutil.copytree(ROOT / "examples", folder / "examples")
    programs = folder / "programs"
    programs.mkdir()
    faceum = programs / "faceum"
    faceum.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m faceum "$@"\n', encoding="utf-8")
    faceum.chmod(0o755)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    source = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": source},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_readme_is_short_and_shows_how_to_start() -> None:
    readme = ROOT / "README.md"
    assert len(readme.read_text(encoding="utf-8").splitlines()) <= LONGEST_README
    assert "faceum analyze" in shell_script(readme) and "FaceAnalyzer" in python_script(readme)


@pytest.mark.parametrize("page", pages_with(shell_script))
def test_commands_on_the_page_run(page: Path, tmp_path: Path) -> None:
    assert run_with_examples(["bash", "-exuo", "pipefail", "-c", shell_script(page)], tmp_path).strip()


@pytest.mark.parametrize("page", pages_with(python_script))
def test_python_on_the_page_runs(page: Path, tmp_path: Path) -> None:
    assert run_with_examples([sys.executable, "-c", python_script(page)], tmp_path).strip()


def test_files_named_in_prose_exist(root: Path) -> None:
    folders = r"src|tests|tools|benchmarks|examples|docs|\.ci"
    missing = []
    for path in (*root.glob("*.md"), *(root / "docs").glob("*.md")):
        if path.name in ("CHANGELOG.md", "log.md"):  # these tell of files that have moved since
            continue
        text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.S | re.M)
        quoted = re.findall(rf"[`(]((?:{folders})/[\w./-]+)[`)]", text)
        missing += [f"{path.name}: {one}" for one in quoted if not (root / one).exists()]
    assert not missing


def test_names_in_contributing_are_where_it_says(root: Path) -> None:
    text = " ".join((root / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    named = re.findall(r"`(\w+)`(?: and `(\w+)`)? in `([\w./]+\.py)`", text)
    assert len(named) > 8
    for *names, path in named:
        source = (root / path).read_text(encoding="utf-8")
        assert not [name for name in names if name and not re.search(rf"\b{name}\b", source)], path


def test_links_lead_somewhere(root: Path) -> None:
    broken = []
    for path in (*root.glob("*.md"), *(root / "docs").glob("*.md")):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if "://" not in target and not (path.parent / target).exists():
                broken.append(f"{path.name}: {target}")
    assert not broken


def test_map_lists_every_module(modules: dict[str, Path], root: Path) -> None:
    text = (root / "docs" / "architecture.md").read_text(encoding="utf-8")
    text = text[text.index("<!-- map:start -->") : text.index("<!-- map:end -->")]
    listed = set(re.findall(r"^\| `([\w./]+)` \|", text, re.M))
    there = {str(path.relative_to(root / "src" / "faceum")) for path in modules.values()}
    there = {name for name in there if not name.endswith("/__init__.py")}
    assert there == listed, "run tools/write_map.py"
