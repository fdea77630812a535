"""All commands have one form: what a command reads is an argument, all else are options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from faceum.cli.app import app

ARGUMENTS = {
    "analyze": ["paths"],
    "compare": ["first", "second"],
    "convert farl": ["file"],
    "data pack": ["dataset", "root"],
    "inspect": ["image"],
    "models": ["name"],
    "train": ["recipe", "changes"],
}
"""Command -> its arguments, for some commands that once had others."""


def commands(group: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def test_models_and_outputs_are_options_of_every_command() -> None:
    known = dict(commands(typer.main.get_command(app)))
    assert set(ARGUMENTS) <= set(known)
    for name, command in known.items():
        arguments = [one.name for one in command.params if one.param_type_name == "argument"]
        assert not {"model", "out", "tasks", "detector"} & set(arguments), name
        assert arguments == ARGUMENTS.get(name, arguments), name
        assert all(one.help for one in command.params), name
