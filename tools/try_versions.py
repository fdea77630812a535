"""Run the base tests with the oldest declared versions of all dependencies, or with the newest.

    python3.10 tools/try_versions.py minimums
    python3 tools/try_versions.py newest

The tests run in a fresh environment of the Python that runs this script, build/venv-minimums or
build/venv-newest, without torch. Tests that need an extra are skipped. The exit code is pytest's.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

TEST_TOOLS = ("pytest", "pytest-xdist", "hypothesis", "jsonschema", "pillow")
"""What the tests themselves need, always in its newest version."""

BASE_TESTS = ("tests/test_*.py", "tests/cli", "tests/detect", "tests/render", "tests/weights")
"""The tests of what the base install does."""


def requirements(extra: str | None = None) -> list[str]:
    """Return the base dependencies in pyproject.toml, or those of an extra."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    name = "dependencies" if extra is None else extra
    found = re.search(rf"^{name} = \[([^\]]*)\]$", text, re.M)
    if found is None:
        raise SystemExit(f"pyproject.toml has no list {name!r}.")
    return re.findall(r'"([^"]+)"', found[1])


def chosen(versions: str) -> list[str]:
    """Return the requirements to install: exact lower bounds, or whatever is newest."""
    declared = [*requirements(), *requirements("cpu")]
    if versions == "minimums":
        return [requirement.replace(">=", "==") for requirement in declared]
    return [re.split(r"[><=]", requirement)[0] for requirement in declared]


def main() -> int:
    """Install and test; return the exit code of pytest."""
    if sys.argv[1:] not in (["minimums"], ["newest"]):
        raise SystemExit(__doc__)
    folder = ROOT / "build" / f"venv-{sys.argv[1]}"
    venv.create(folder, with_pip=True, clear=True)
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, *chosen(sys.argv[1]), *TEST_TOOLS], check=True)
    subprocess.run([*pip, "--no-deps", "-e", str(ROOT)], check=True)
    subprocess.run([python, "-m", "pip", "list", "--disable-pip-version-check"], check=True)
    tests = [str(path) for pattern in BASE_TESTS for path in sorted(ROOT.glob(pattern))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [python, "-m", "pytest", "-q", "-n", "auto", "--dist", "loadfile", *tests]
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
