"""Every kind of task has its entry in each stage's dict, so that a new kind cannot be half added."""

from __future__ import annotations

import ast
from pathlib import Path

from faceum.tasks import KINDS, TASKS

STAGES = ("faceum.model.heads", "faceum.train", "faceum.decode", "faceum.render")
"""The stages that treat each kind of task in their own way."""


def dicts_by_kind(path: Path) -> dict[int, set[str]]:
    """The keys of each literal dict that speaks of at least two kinds of task, by its line."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Dict):
            keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
            if len(keys & set(KINDS)) >= 2:
                found[node.lineno] = keys
    return found


def test_each_stage_treats_every_kind(modules: dict[str, Path]) -> None:
    for stage in STAGES:
        parts = [name for name in modules if name == stage or name.startswith(f"{stage}.")]
        found = {(name, line): keys for name in parts for line, keys in dicts_by_kind(modules[name]).items()}
        assert found, f"{stage} has no literal dict keyed by the kinds of task"
        assert {place: keys for place, keys in found.items() if keys != set(KINDS)} == {}


def test_every_task_is_of_a_known_kind() -> None:
    assert {task.kind for task in TASKS.values()} == set(KINDS)


def test_labels_are_as_many_as_outputs() -> None:
    for task in TASKS.values():
        assert len(set(task.labels)) in (0, task.outputs), task.name
