"""Tables for the terminal: results, weights, findings and inspections as `rich` renderables."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from rich import box
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from faceum.cli.findings import Finding
from faceum.cli.terminal import escape
from faceum.errors import count_noun
from faceum.model.routing_stats import NOT_TAKEN, REGIONS, Inspection
from faceum.onnx_session import metadata_of
from faceum.render.palette import expert_colour
from faceum.render.panel import attribute_words, percent, select_notable
from faceum.results import Face, Result
from faceum.tasks import TASKS
from faceum.weights.registry import Asset, asset_path

STATES = {"ok": ("green", "ok"), "absent": ("yellow", "--"), "broken": ("red", "!!")}
"""A finding's state -> its colour and mark."""

MOST_ATTRIBUTES = 4
"""Attributes that fit into a line."""

MOST_MAPPED = 256
"""Maps with more tokens are left to the drawing."""


def result_table(result: Result) -> RenderableType:
    """Return one image's table: a line about the image, and a row per face with the answers."""
    faces = result.faces or []
    head = Text()
    head.append(escape(result.source or "image"), style="bold")
    head.append(f"  {result.width} x {result.height}", style="dim")
    count = count_noun(len(faces), "face") if faces else "no face"
    head.append(f"  {count}", style="" if faces else "yellow")
    if not faces:
        return head
    columns = {name: cell for name, cell in COLUMNS.items() if any(cell(face) for face in faces)}
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column("#", justify="right", style="dim", no_wrap=True)
    for name in columns:
        table.add_column(name, no_wrap=name not in WRAPPED, min_width=WRAPPED.get(name))
    for number, face in enumerate(faces, 1):
        table.add_row(str(number), *(Text(cell(face)) for cell in columns.values()))
    return Group(head, table)


def models_table(assets: Iterable[Asset]) -> Table:
    """Return a table of the registered weights, one row each."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("name", "tasks", "MB", "licence", "LFW %", "age ±", "NME %"):
        table.add_column(name, no_wrap=name != "tasks")
    for asset in assets:
        largest = max(file.bytes for file in asset.files.values()) / 1e6
        scores = (asset.scores.get(name) for name in ("lfw_accuracy", "utkface_mae", "helen_afw_nme"))
        table.add_row(
            Text(asset.name, style="bold"),
            _tasks_of(asset),
            f"{largest:.1f}",
            Text(re.split(r"[ ,(]", asset.licence)[0]),
            *("-" if score is None else f"{score:.2f}" for score in scores),
        )
    return table


def model_details(asset: Asset) -> Table:
    """Return everything that the registry says about one asset."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    files = "\n".join(
        f"{part}: {file.file}, {file.bytes / 1e6:.1f} MB, SHA-256 {file.sha256}"
        for part, file in asset.files.items()
    )
    rows = {
        "name": asset.name,
        "kind": asset.kind,
        "summary": asset.summary,
        "tasks": _tasks_of(asset),
        "licence": asset.licence,
        "source": asset.source,
        "files": files,
        "scores": "\n".join(score_lines(asset.scores)) or "-",
    }
    for name, words in rows.items():
        table.add_row(name, Text(words))
    return table


def _tasks_of(asset: Asset) -> str:
    """Return the tasks of a network as its ONNX file names them; detectors find faces."""
    if asset.kind != "model":
        return "detection"
    onnx = asset_path(asset.name, "onnx").read_bytes()
    offered = json.loads(metadata_of(onnx)["faceum"])["config"]["tasks"]
    return "all six" if set(offered) == set(TASKS) else ", ".join(offered)


def findings_table(findings: Sequence[Finding]) -> Table:
    """Return the findings of `faceum doctor`, one per row, with the cure if something is missing."""
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


def inspection_tables(inspection: Inspection) -> RenderableType:
    """Return maps of the expert that each token took first, and each expert's load by task and block."""
    parts: list[RenderableType] = []
    for moe_block in range(1, inspection.moe_blocks + 1):
        parts.append(Text(f"MoE block {moe_block}", style="bold"))
        if all(len(crop.face_tokens_N) <= MOST_MAPPED for crop in inspection.crops.values()):
            maps = [_expert_map(inspection, task, moe_block) for task in inspection.tasks]
            parts.append(Columns(maps, padding=(0, 4)))
        parts.append(_load_table(inspection, moe_block))
    if len(inspection.tasks) > 1:
        parts.append(_overlap_table(inspection))
    return Group(*parts)


def score_lines(scores: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return a line "measure value (low to high)" per score; nested scores begin with their group's name."""
    lines: list[str] = []
    for name, value in scores.items():
        if isinstance(value, Mapping):
            lines += score_lines(value, f"{prefix}{name} ")
        elif not any(name.endswith(end) and name.removesuffix(end) in scores for end in ("_low", "_high")):
            spoken = f"{value:.4g}" if isinstance(value, float) else str(value)
            if f"{name}_low" in scores and f"{name}_high" in scores:
                spoken += f" ({scores[f'{name}_low']:.4g} to {scores[f'{name}_high']:.4g})"
            lines.append(f"{prefix}{name} {spoken}".replace("_", " "))
    return lines


def _load_table(inspection: Inspection, moe_block: int) -> Table:
    load, weight = inspection.load(moe_block), inspection.weight(moe_block)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("% of choices")
    table.add_column("region", style="dim")
    for expert in range(inspection.num_experts):
        table.add_column(Text(str(expert), style=_expert_style(expert)), justify="right", min_width=3)
    table.add_column("weight", justify="right")
    for row, task in enumerate(inspection.tasks):
        for region in (1, 0):
            shares = [f"{100 * share:.0f}" if share >= 0.005 else "." for share in load[row, region]]
            spoken = "-" if np.isnan(weight[row, region]) else f"{weight[row, region]:.2f}"
            table.add_row(task if region else "", REGIONS[region], *shares, spoken)
    return table


def _overlap_table(inspection: Inspection) -> Table:
    overlap = inspection.overlap()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("% shared")
    for task in inspection.tasks:
        table.add_column(task, justify="right")
    for task, shares in zip(inspection.tasks, overlap, strict=True):
        table.add_row(task, *(f"{100 * share:.0f}" for share in shares))
    return table


def _expert_map(inspection: Inspection, task: str, moe_block: int) -> Text:
    """Return a map with one digit per token, its first expert; face tokens are shown in reverse."""
    mask_N = inspection.crops[task].face_tokens_N
    grid = round(len(mask_N) ** 0.5)
    first_N = inspection.route(task, moe_block).topk_experts_NK[:, 0]
    words = Text(task, style="bold", no_wrap=True)
    for token, (expert, face) in enumerate(zip(first_N.tolist(), mask_N, strict=True)):
        if token % grid == 0:
            words.append("\n")
        digit = "." if expert == NOT_TAKEN else str(expert)
        words.append(f"{digit:>2}", style=f"{_expert_style(expert)}{' reverse' if face else ''}")
    return words


def _expert_style(expert: int) -> str:
    return "not bold rgb({},{},{})".format(*expert_colour(expert))


def _box(face: Face) -> str:
    x0, y0, x1, y1 = face.box.tolist()
    return f"{round(x0)},{round(y0)} {round(x1 - x0)}x{round(y1 - y0)}"


def _score(face: Face) -> str:
    return "" if face.score is None else f"{face.score:.2f}"


def _age(face: Face) -> str:
    return "" if face.age is None else f"{face.age.years:.0f} ± {face.age.std:.0f}"


def _expression(face: Face) -> str:
    said = face.expression
    return "" if said is None else f"{said.label} {percent(said.probabilities[said.label])}"


def _attributes(face: Face) -> str:
    if face.attributes is None:
        return ""
    seen = select_notable(face.attributes)[:MOST_ATTRIBUTES]
    return ", ".join(attribute_words(name) for name, _ in seen) or "none above 50 %"


def _describe_rest(face: Face) -> str:
    """Return the sizes of the answers that are too long for a table."""
    said = []
    if face.landmarks is not None:
        said.append(count_noun(len(face.landmarks), "point"))
    if face.parsing is not None:
        present = np.unique(face.parsing.class_map)
        said.append(count_noun(int(np.count_nonzero(present)), "part"))
    if face.embedding is not None:
        said.append(f"{len(face.embedding)}-d")
    return ", ".join(said)


COLUMNS: dict[str, Callable[[Face], str]] = {
    "box": _box,
    "score": _score,
    "age": _age,
    "expression": _expression,
    "attributes": _attributes,
    "also": _describe_rest,
}
"""Heading -> the text of a face's cell; a column without any text is left out."""

WRAPPED = {"attributes": len("cheekbones,"), "also": len("68 points,")}
"""Column that may wrap between words on a narrow terminal -> its least width."""
