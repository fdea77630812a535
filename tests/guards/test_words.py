"""Plain English: banned words, docstrings that begin with a verb, and functions that are named by verbs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TEXT = {".py", ".md", ".toml", ".yaml", ".html", ".js", ".mjs", ".css", ".cff", ".ipynb", ""}

TELL_OF_THE_PAST = {"docs/log.md", "CHANGELOG.md", "src/faceum/old_names.py", "tests/guards/test_words.py"}
"""Files that may hold words of earlier versions."""

BANNED = re.compile(
    r"\b(?:anew|whoever|(?:was|were) wanted|beside|pictures?|(?:is|are|was|were) told|"
    r"(?:what|it) stands(?! for)|left alone and told|a line each)\b",
    re.IGNORECASE,
)
"""Words that readers had to read twice; in names, too, whose underscores count as spaces."""

OLD_NAMES = re.compile(r"\b(?:expert_PNK|taken_PNK|gate_PNK|wanted_TB|face_mask_BN)\b")
"""Names of earlier versions; only the map of old names and its test hold them."""

NOUN_STARTS = {
    "a", "an", "the", "what", "how", "why", "where", "whether", "which", "each", "every", "everyone", "all",
    "one", "plain", "at", "some", "another", "for", "if", "when", "same",
}  # fmt: skip
"""First words of a docstring that does not say what its function does."""

PARTICIPLE = re.compile(r"_?(?!embed$|feed$|ced$)(?:[a-z]+ed|known|found|given|taken|shown|told|held|said)")
"""Names of functions that are one past participle, and so do not say what the function does."""


def test_no_banned_word(files: list[Path], root: Path) -> None:
    found = []
    for path in files:
        name = path.relative_to(root).as_posix()
        if path.suffix not in TEXT or name in TELL_OF_THE_PAST:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if match := BANNED.search(line.replace("_", " ")) or OLD_NAMES.search(line):
                found.append(f"{name}:{number}: {match[0]!r} in {line.strip()[:90]}")
    assert not found, "\n".join(found)


def test_docstrings_of_functions_begin_with_a_verb(
    modules: dict[str, Path], trees: dict[Path, ast.Module]
) -> None:
    found = []
    for name, path in modules.items():
        for node in ast.walk(trees[path]):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name == "__init__":
                continue
            if any("property" in ast.unparse(one) for one in node.decorator_list):
                continue
            first = (ast.get_docstring(node) or "Do").split()[0].strip(",.;:").lower()
            if first in NOUN_STARTS:
                found.append(f"{name}.{node.name}: {first}")
    assert not found, "\n".join(found)


def test_functions_are_not_named_by_participles(
    modules: dict[str, Path], trees: dict[Path, ast.Module]
) -> None:
    found = [
        f"{name}.{node.name}"
        for name, path in modules.items()
        for node in trees[path].body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and PARTICIPLE.fullmatch(node.name)
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("name", "is_participle"),
    [("_told", True), ("known", True), ("_masked", True), ("embed", False), ("read_named", False)],
)
def test_participles_are_recognized(name: str, is_participle: bool) -> None:
    assert bool(PARTICIPLE.fullmatch(name)) is is_participle
