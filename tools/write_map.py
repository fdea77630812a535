"""Write the map of modules in docs/architecture.md from the modules' own docstrings.

    python tools/write_map.py

The text between the map's two marks is replaced: a table for each package, lowest layer first, with a
row for each module: its path and the first line of its docstring.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

from importlinter import api

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "faceum"
PAGE = ROOT / "docs" / "architecture.md"
HEAD = ["| file | what it does |", "|---|---|"]
BEGIN, END = "<!-- map:start -->", "<!-- map:end -->"


def layers() -> list[list[str]]:
    """Return the names of each layer's modules and packages, lowest first, as pyproject.toml gives them."""
    contracts = api.read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"]
    rows = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [re.findall(r"\w+", row) for row in reversed(rows)]


def first_line(path: Path) -> str:
    """Return the first paragraph of a module's docstring on one line, without its full stop."""
    if not path.exists():
        return ""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    line = " ".join(text.split("\n\n")[0].split()).removesuffix(".")
    return line.replace("|", "\\|").replace("<", "&lt;")


def rows(names: list[str]) -> list[str]:
    """Return a table's rows for modules given by their names."""
    paths = [PACKAGE / f"{name}.py" for name in names]
    return [f"| `{path.relative_to(PACKAGE)}` | {first_line(path)} |" for path in paths if path.exists()]


def map_of_modules() -> str:
    """Return the map as Markdown."""
    parts = []
    alone: list[str] = ["__init__"]
    for name in [name for layer in layers() for name in layer]:
        if (PACKAGE / name).is_dir():
            files = sorted(path for path in (PACKAGE / name).glob("*.py") if path.stem != "__init__")
            if files:
                about = first_line(PACKAGE / name / "__init__.py")
                table = [f"| `{path.relative_to(PACKAGE)}` | {first_line(path)} |" for path in files]
                parts += [
                    "",
                    f"### `{name}/`",
                    "",
                    *([f"{about}.", ""] if about else []),
                    "| file | what it does |",
                    "|---|---|",
                ]
                parts += table
        else:
            alone.append(name)
    unlayered = sorted({path.stem for path in PACKAGE.glob("*.py")} - set(alone))
    head = ["### `src/faceum/`", "", *HEAD, *rows([*alone, *unlayered])]
    return "\n".join([*head, *parts])


def main() -> None:
    """Replace the map in the page."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    PAGE.write_text(f"{before}{BEGIN}\n\n{map_of_modules()}\n\n{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
