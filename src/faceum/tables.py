"""Layer 5. Records as text for a terminal: results, weights or findings in, `rich` tables out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from faceum.assets import Asset
from faceum.doctor import Finding
from faceum.faces import Face, Result
from faceum.render.panel import attribute_words, notable, percent

STATES = {"ok": ("green", "ok"), "absent": ("yellow", "--"), "broken": ("red", "!!")}
"""A finding's state -> its colour and mark."""

MOST_ATTRIBUTES = 4
"""So many attributes fit into a line."""


def result_table(result: Result) -> RenderableType:
    """One picture: a line about it, and a row a face with the answers that were asked for."""
    faces = result.faces or []
    head = Text()
    head.append(result.source or "picture", style="bold")
    head.append(f"  {result.width} x {result.height}", style="dim")
    count = "no face" if not faces else "1 face" if len(faces) == 1 else f"{len(faces)} faces"
    head.append(f"  {count}", style="" if faces else "yellow")
    if not faces:
        return head
    columns = {name: cell for name, (field, cell) in COLUMNS.items() if _known(faces, field)}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("#", justify="right", style="dim")
    for name in columns:
        table.add_column(name, overflow="fold")
    for number, face in enumerate(faces, 1):
        table.add_row(str(number), *(Text(cell(face)) for cell in columns.values()))
    return Group(head, table)


def models_table(assets: Iterable[Asset]) -> Table:
    """The registered weights, with what they may be used for and how good they are."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("name", "kind", "formats", "licence", "scores"):
        table.add_column(name, overflow="fold")
    for asset in assets:
        formats = "\n".join(f"{part} {file.bytes / 1e6:.1f} MB" for part, file in asset.files.items())
        table.add_row(
            Text(asset.name, style="bold"),
            asset.kind,
            Text(formats),
            Text(asset.licence),
            Text("\n".join(score_lines(asset.scores)) or "-"),
        )
    return table


def findings_table(findings: Sequence[Finding]) -> Table:
    """A doctor's findings, one a row, with the cure where something is missing."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(width=2)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        colour, mark = STATES[finding.state]
        words = Text(finding.words)
        if finding.cure:
            words.append(f"  ->  {finding.cure}", style="cyan")
        table.add_row(Text(mark, style=colour), finding.topic, words)
    return table


def score_lines(scores: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Scores, nested or not, as lines of "measure value"."""
    lines: list[str] = []
    for name, value in scores.items():
        if isinstance(value, Mapping):
            lines += score_lines(value, f"{prefix}{name} ")
        else:
            spoken = f"{value:.4g}" if isinstance(value, float) else str(value)
            lines.append(f"{prefix}{name} {spoken}")
    return lines


def _known(faces: Sequence[Face], field: str) -> bool:
    return any(getattr(face, field) is not None for face in faces)


def _box(face: Face) -> str:
    x0, y0, x1, y1 = face.box
    return f"{x0:.0f},{y0:.0f} {x1 - x0:.0f}x{y1 - y0:.0f}"


def _score(face: Face) -> str:
    return "" if face.score is None else f"{face.score:.2f}"


def _age(face: Face) -> str:
    return "" if face.age is None else f"{face.age.years:.0f} ± {face.age.std:.0f}"


def _expression(face: Face) -> str:
    said = face.expression
    return "" if said is None else f"{said.label} {percent(said.probabilities[said.label])}"


def _attributes(face: Face) -> str:
    seen = notable(face.attributes or {})[:MOST_ATTRIBUTES]
    return ", ".join(f"{attribute_words(name)} {percent(value)}" for name, value in seen)


def _landmarks(face: Face) -> str:
    return "" if face.landmarks is None else f"{len(face.landmarks)}"


def _parsing(face: Face) -> str:
    if face.parsing is None:
        return ""
    present = set(face.parsing.class_map.ravel().tolist()) - {0}
    return f"{len(present)} parts"


def _embedding(face: Face) -> str:
    return "" if face.embedding is None else f"{len(face.embedding)}-d"


COLUMNS: dict[str, tuple[str, Callable[[Face], str]]] = {
    "box": ("box", _box),
    "score": ("score", _score),
    "age": ("age", _age),
    "expression": ("expression", _expression),
    "attributes": ("attributes", _attributes),
    "points": ("landmarks", _landmarks),
    "parsing": ("parsing", _parsing),
    "embedding": ("embedding", _embedding),
}
"""Heading -> the field of `Face` that it needs, and what its cell says."""
