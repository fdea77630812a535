"""Write evaluations to a folder: report.md, report.json, plots, and images of the best and worst faces."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from faceum.data.face import LEAST_IOU
from faceum.errors import count_noun
from faceum.evaluate.damage import SMALL, STRETCH
from faceum.evaluate.overlays import write_overlays
from faceum.evaluate.plots import write_expert_load, write_plots
from faceum.evaluate.protocols import OF_PAIRS
from faceum.evaluate.record import Evaluation, Score, Table, headline_scores
from faceum.evaluate.samples import SOURCES
from faceum.evaluate.thresholds import thresholds_of
from faceum.files import write_text

SCHEMA = "faceum.evaluation/1"
"""The name and version under "schema" in report.json."""

POLICY = (
    "Faces are found by our own detector: of its answers the one that overlaps the set's box most, by an "
    f"intersection over union of at least {LEAST_IOU:g}. Where there is none, the crop is cut by the set's "
    "own box and points; in a set whose images are cut too tightly to detect in, that face counts like any "
    "other, in all others it is a miss, counted and treated as each section says. Intervals are 95 % "
    "bootstrap intervals over the faces (for verification the pairs)."
)
"""How faces were found, in the words of the report."""

PROTOCOLS = {
    "verification": "Verification: embedding f(x) + f(mirror x), L2-normalized; squared distance; each fold "
    "judged by the threshold, in steps of 0.01, that is best on the other folds.",
    "masked": "Verification with a face mask painted on one face of each pair, on which one the seed "
    "decides, before it is detected; a face that was not found to paint one on is a miss.",
    "stretched": "Verification with one face of each pair, on which one the seed decides, in an image made "
    f"wider by {STRETCH:g}.",
    "small": "Verification with one face of each pair, on which one the seed decides, in a gray image shrunk "
    f"until the face is {SMALL} pixels high.",
    "quality": "Quality: one face of each pair of one person is made smaller, blurred, compressed or dark, "
    "or left as it is; the formula is fitted on half of the folds and scored on the other half by the false "
    "non-match rate at a false match rate of 1e-3 without the pairs of the lowest quality.",
    "age": "Age: expectation of the predicted distribution, in years.",
    "attributes": "Attributes: yes above a probability of 0.5; means over the attributes.",
    "expression": "Expression: majority of the votes, ties dropped.",
    "parsing": "Parsing: on the whole image after pasting the crop's map back; one confusion matrix "
    "over the set, F1 per class, means without background.",
    "identification": "Identification: half of the people are enrolled with one image each and all other "
    "images are searched; DIR is the share of enrolled people's images that find their person at a "
    "threshold that 1 % of strangers pass.",
    "landmarks": "Landmarks: 68 points in the image's pixels; NME by the outer eye corners (36, 45).",
}
"""What each protocol measures, in one sentence."""


def write_report(
    evaluations: Sequence[Evaluation],
    folder: str | Path,
    about: Mapping[str, Any],
    *,
    expert_load: Mapping[str, Any] | None = None,
    expert_note: str = "",
    overlays: bool = True,
) -> Path:
    """Write report.md, report.json and their images to `folder`, and return the path of report.md.

    about: what was evaluated with what (model, runtime, date ...), shown as it is.
    expert_load: set -> region -> task -> (E,) shares of tokens, drawn where given.
    expert_note: why there is no load, for the reader.
    overlays: whether to draw the best and worst faces; they show images of the sets.
    """
    folder = Path(folder)
    lines = ["# Evaluation", "", *(f"- {name}: {value}" for name, value in about.items()), "", POLICY, ""]
    lines += markdown_table(summary_table(evaluations))
    for evaluation in evaluations:
        prefix = f"{evaluation.dataset}-{evaluation.protocol}"
        images = write_plots(evaluation, folder / "plots", prefix)
        if overlays:
            shown = write_overlays(evaluation.best, evaluation.worst, folder / "overlays" / f"{prefix}.png")
            images += [] if shown is None else [shown]
        lines += ["", *_section(evaluation, [path.relative_to(folder) for path in images])]
    for name, load in (expert_load or {}).items():
        file = write_expert_load(load, folder / "plots", name).relative_to(folder)
        lines += ["", f"## Experts: {name}", "", "Share of each task's tokens that each expert takes.", ""]
        lines += [f"![expert load]({file.as_posix()})"]
    lines += ["", "## Experts", "", expert_note] if expert_note else []
    write_text(folder / "report.md", "\n".join(lines) + "\n")
    contents = {
        "schema": SCHEMA,
        "about": dict(about),
        "policy": POLICY,
        "scores": headline_scores(evaluations),
        "thresholds": thresholds_of(evaluations),
        "evaluations": [evaluation.to_dict() for evaluation in evaluations],
        "expert_load": {name: _plain_load(load) for name, load in (expert_load or {}).items()} or None,
        "expert_note": expert_note or None,
    }
    write_text(folder / "report.json", json.dumps(contents, indent=1) + "\n")
    return folder / "report.md"


def score_line(evaluation: Evaluation) -> str:
    """Return one line about an evaluation: set, protocol, how many, and its first three scores."""
    shown = ", ".join(_format_named_score(*item) for item in list(evaluation.scores.items())[:3])
    missed = evaluation.found.get("missed", 0)
    return f"{evaluation.dataset} {evaluation.protocol}: {shown} ({evaluation.count}, {missed} missed)"


def summary_table(evaluations: Sequence[Evaluation]) -> Table:
    """Return a table with one row per evaluation and at most three scores each."""
    return Table(
        title="Scores",
        columns=("set", "protocol", "count", "found", "given", "missed", "main score", "other scores"),
        rows=tuple(
            (
                one.dataset,
                one.protocol,
                one.count,
                *(one.found.get(source, 0) for source in SOURCES),
                _format_named_score(*next(iter(one.scores.items()))),
                ", ".join(_format_named_score(*item) for item in list(one.scores.items())[1:3]),
            )
            for one in evaluations
        ),
    )


def markdown_table(table: Table) -> list[str]:
    """Return a table as Markdown lines, its title in bold first."""
    lines = [f"**{table.title}**", "", "| " + " | ".join(table.columns) + " |"]
    lines.append("|" + "---|" * len(table.columns))
    lines += ["| " + " | ".join(_format_cell(cell) for cell in row) + " |" for row in table.rows]
    return lines


def _section(evaluation: Evaluation, images: Sequence[Path]) -> list[str]:
    lines = [f"## {evaluation.dataset}: {evaluation.protocol}", "", PROTOCOLS[evaluation.protocol], ""]
    rows = tuple(
        (name, _format_score(score), _format_interval(score)) for name, score in evaluation.scores.items()
    )
    title = count_noun(evaluation.count, "pair" if evaluation.protocol in OF_PAIRS else "face")
    lines += markdown_table(Table(title=title, columns=("score", "value", "95 % interval"), rows=rows))
    if evaluation.notes:
        lines += ["", *(f"- {note}" for note in evaluation.notes)]
    for table in evaluation.tables:
        lines += ["", *markdown_table(table)]
    for image in images:
        lines += ["", f"![{image.stem}]({image.as_posix()})"]
    return lines


def _format_cell(cell: str | int | float | None) -> str:
    if cell is None:
        return "-"
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell).replace("|", "\\|")


def _format_score(score: Score) -> str:
    if score.value is None:
        return "-"
    return f"{score.value:.4f}" if score.unit == "" else f"{score.value:.2f} {score.unit}"


def _format_interval(score: Score) -> str:
    return "" if score.low is None or score.high is None else f"{score.low:.2f} to {score.high:.2f}"


def _format_named_score(name: str, score: Score) -> str:
    return f"{name} {_format_score(score)}"


def _plain_load(load: Mapping[str, Any]) -> dict[str, dict[str, list[float]]]:
    return {
        region: {task: [float(share) for share in row] for task, row in tasks.items()}
        for region, tasks in load.items()
    }
