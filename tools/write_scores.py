"""Fill the tables of scores in README.md and MODEL_CARD.md from the shipped weights' own numbers.

    python tools/write_scores.py           writes the tables between the marks
    python tools/write_scores.py --check   exit code 1 where a table is not what the weights say

The numbers are the `scores` in `src/faceum/weights/registry.json`, name -> number, as
`faceum.evaluate.record.headline_scores` names them ("lfw_accuracy", "utkface_mae"): shares in per cent, ages
in years. Where the weights come as safetensors, their header must hold the same numbers.
"""

from __future__ import annotations

import argparse
import json
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MARKS = ("<!-- scores:start -->", "<!-- scores:end -->")
NOTHING = "Not measured yet."

SETS = {
    "lfw_masked": "LFW pairs, a mask painted on one side",
    "lfw": "LFW pairs",
    "utkface": "UTKFace",
    "celeba": "CelebA",
    "ferplus": "FERPlus",
    "celebamask": "CelebAMask-HQ",
    "helen_afw": "Helen and AFW",
}
"""A set's word in a score's name -> its name; a longer word before the shorter one that it begins with."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a score's name means: in words, its unit, and which way is better ("up", "down" or "")."""

    words: str
    unit: str = "%"
    better: str = "up"


MEASURES = {
    "accuracy": Measure(words="accuracy"),
    "accuracy_misses_wrong": Measure(words="accuracy, a face not found counting as wrong"),
    "equal_error": Measure(words="equal error rate", better="down"),
    "roc_area": Measure(words="area under the ROC curve"),
    "mae": Measure(words="mean absolute error", unit="years", better="down"),
    "cs5": Measure(words="within five years"),
    "bias": Measure(words="mean signed error", unit="years", better=""),
    "eps_error": Measure(words="eps-error", unit="", better="down"),
    "balanced_accuracy": Measure(words="balanced accuracy"),
    "average_precision": Measure(words="mean average precision"),
    "majority": Measure(words="accuracy of always giving the majority's answer", better=""),
    "calibration_error": Measure(words="expected calibration error", better="down"),
    "mean_class_accuracy": Measure(words="mean accuracy over the classes"),
    "f1_15": Measure(words="mean F1 over the 15 classes present in at least 20 pictures"),
    "f1_18": Measure(words="mean F1 over all 18 classes"),
    "pixel_accuracy": Measure(words="accuracy over pixels"),
    "nme": Measure(words="mean error by the distance of the outer eye corners", better="down"),
    "fr10": Measure(words="faces with an error above 10 %", better="down"),
    "auc10": Measure(words="area under the error curve up to 10 %"),
}

HEADLINES = (
    ("who: same person or not", "lfw_accuracy"),
    ("who, with a mask", "lfw_masked_accuracy"),
    ("age", "utkface_mae"),
    ("40 attributes", "celeba_accuracy"),
    ("the same, a blind guess", "celeba_majority"),
    ("expression, 8 classes", "ferplus_accuracy"),
    ("parsing", "celebamask_f1_15"),
    ("68 points", "helen_afw_nme"),
)
"""What README shows, in its order: the question in words, and the score's name."""

ARROWS = {"up": "higher is better", "down": "lower is better", "": ""}


def meaning(name: str) -> tuple[str, Measure]:
    """A score's set and measure, in words; a name that is not known stands for itself."""
    for word, dataset in SETS.items():
        if name.startswith(f"{word}_"):
            rest = name[len(word) + 1 :]
            return dataset, MEASURES.get(rest, Measure(words=rest.replace("_", " "), unit="", better=""))
    return "", Measure(words=name, unit="", better="")


def shown(value: Any, unit: str) -> str:
    """A number as people read it; anything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:.2f} {unit}".strip() if unit else f"{value:.4g}"


def readme_table(weights: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One row a question, one column for each model with scores."""
    scored = {name: entry["scores"] for name, entry in weights.items() if is_scored_model(entry)}
    rows = []
    for question, key in HEADLINES:
        if any(key in scores for scores in scored.values()):
            dataset, measure = meaning(key)
            values = [
                shown(scores[key], measure.unit) if key in scores else "-" for scores in scored.values()
            ]
            rows.append([question, dataset, measure.words, *values, ARROWS[measure.better]])
    if not rows:
        return [NOTHING]
    return markdown(
        ["question", "held-out pictures of", "measure", *(f"`{name}`" for name in scored), ""], rows
    )


def card_table(weights: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Every score of every model, the headlines first, a table a model."""
    first = [key for _, key in HEADLINES]
    lines: list[str] = []
    for name, entry in weights.items():
        if not is_scored_model(entry):
            continue
        scores = entry["scores"]
        order = sorted(scores, key=lambda key: (key not in first, first.index(key) if key in first else 0))
        rows = []
        for key in order:
            dataset, measure = meaning(key)
            rows.append([dataset, measure.words, shown(scores[key], measure.unit), ARROWS[measure.better]])
        lines += [f"`{name}`", "", *markdown(["held-out pictures of", "measure", "score", ""], rows), ""]
    return lines[:-1] or [NOTHING]


def is_scored_model(entry: Mapping[str, Any]) -> bool:
    """Whether a registry entry is a network with scores."""
    return entry["kind"] == "model" and bool(entry.get("scores"))


def markdown(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """A Markdown table as lines."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def with_table(text: str, table: list[str]) -> str:
    """`text` with the lines between the marks replaced by `table`."""
    start, end = MARKS
    if text.count(start) != 1 or text.count(end) != 1:
        raise SystemExit(
            f"The text needs the marks {start} and {end} once each, to tell where the table goes."
        )
    inside = re.compile(f"{re.escape(start)}\n.*?{re.escape(end)}", re.S)
    return inside.sub(lambda _: "\n".join([start, *table, end]), text)


def header_scores(path: Path) -> Any:
    """The scores in a safetensors file's header: eight bytes of length, then JSON."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return json.loads(header["__metadata__"]["faceum"]).get("scores", {})


def check_headers(weights: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """SystemExit where a file says other numbers than the registry."""
    for name, entry in weights.items():
        file = entry["files"].get("safetensors")
        if file and entry["kind"] == "model" and header_scores(folder / file["file"]) != entry["scores"]:
            raise SystemExit(
                f"The scores of {name} in the registry are not those in {file['file']}; write both anew."
            )


def main(arguments: list[str] | None = None) -> int:
    """Command line; 1 where --check finds a table that is not up to date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, only tell")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository's folder")
    options = parser.parse_args(arguments)
    folder = options.root / "src" / "faceum" / "weights"
    weights = json.loads((folder / "registry.json").read_text(encoding="utf-8"))["weights"]
    check_headers(weights, folder)
    stale = 0
    for name, table in (("README.md", readme_table(weights)), ("MODEL_CARD.md", card_table(weights))):
        path = options.root / name
        text = path.read_text(encoding="utf-8")
        filled = with_table(text, table)
        if filled != text:
            stale = 1
            print(f"{name}: {'out of date' if options.check else 'written'}")
            if not options.check:
                path.write_text(filled, encoding="utf-8")
    return stale if options.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
