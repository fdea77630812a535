"""Printing: sentences to stderr, JSON and tables to stdout, nothing that could steer a terminal."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

WIDE = 140
"""Columns of tables that do not go to a terminal."""

CONTROLS_IN_JSON = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""Characters that JSON leaves as they are and that a terminal may obey: C1 controls and text direction."""


def escape(text: str) -> str:
    """Escape every character that is not printable, such as line breaks and colour codes in a file's name."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def say(sentence: str) -> None:
    """Print one line to stderr."""
    typer.echo(f"faceum: {escape(sentence)}", err=True)


def print_json(value: Any) -> None:
    """Print a value as one line of JSON to stdout."""
    import json

    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    text = CONTROLS_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # the encoding of stdout lacks a letter of a name; JSON's escapes do not
        text = json.dumps(value, allow_nan=False)
    typer.echo(text)


def make_console() -> Console:
    """Return a rich console for stdout: the terminal's width, or `WIDE` columns if it is none."""
    from rich.console import Console

    plain = Console(highlight=False)
    return plain if plain.is_terminal else Console(highlight=False, width=WIDE)


def close_stdout() -> None:
    """Point stdout at nothing, so that Python does not report a broken pipe again when it flushes."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
