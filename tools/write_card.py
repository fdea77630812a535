"""Write MODEL_CARD.md and README's table of scores from the header of the shipped weights.

    python tools/write_card.py           write both
    python tools/write_card.py --check   exit with 1 if one of them is out of date

The card is `tools/model_card.md` with its marks replaced. `tools/ship_weights.py` put the numbers into the
header of the network's safetensors file: `scores` (name -> number, named as in
`faceum.evaluate.record.headline_scores`: "lfw_accuracy", "utkface_mae"; percentages, and years for ages),
`tables` of groups and classes, `recipes` and `data`. The registry must hold the same scores.
"""

from __future__ import annotations

import argparse
import json
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from faceum.old_names import rename_run_config

ROOT = Path(__file__).resolve().parents[1]
MARKS = ("<!-- scores:start -->", "<!-- scores:end -->")
NOTHING = "Not measured yet."
NOT_RECORDED = "Not recorded in these weights."
TEMPLATE = Path("tools") / "model_card.md"

SETS = {
    "lfw_masked": "LFW pairs, a mask painted on one side",
    "lfw_stretched": "LFW pairs, one side stretched to 1.25 times its width",
    "lfw_small": "LFW pairs, one side gray, its face shrunk to 32 pixels",
    "lfw": "LFW pairs",
    "utkface": "UTKFace",
    "appareal": "APPA-REAL",
    "fgnet": "FG-NET, which no training saw",
    "celebawild": "CelebA, whole heads",
    "celeba": "CelebA",
    "ferplus": "FERPlus",
    "celebamask2": "CelebAMask-HQ, whole heads",
    "celebamask": "CelebAMask-HQ",
    "helen_afw": "Helen and AFW",
}
"""A set's word in a score's name -> its name; a longer word before the shorter one that it begins with."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """The words for a score, its unit, and which direction is better ("up", "down" or "")."""

    words: str
    unit: str = "%"
    better: str = "up"


MISSED = "pairs of one person missed where 1 in 1,000 others is accepted"
LOWEST_LEFT_OUT = "without the tenth of the pairs with the lowest quality"

MEASURES = {
    "accuracy": Measure(words="accuracy"),
    "equal_error": Measure(words="equal error rate", better="down"),
    "tar_at_far_0.001": Measure(words="same person accepted where 1 in 1,000 others is"),
    "roc_area": Measure(words="area under the ROC curve"),
    "rank1": Measure(words="the nearest of the enrolled people is the right one"),
    "dir_at_far_0.01": Measure(words="found and right where 1 in 100 strangers is taken for somebody"),
    "mae": Measure(words="mean absolute error", unit="years", better="down"),
    "mae_21_60": Measure(words="mean absolute error, ages 21 to 60", unit="years", better="down"),
    "cs5": Measure(words="within five years"),
    "bias": Measure(words="mean signed error", unit="years", better=""),
    "eps_error": Measure(words="eps-error", unit="", better="down"),
    "balanced_accuracy": Measure(words="balanced accuracy"),
    "average_precision": Measure(words="mean average precision"),
    "majority": Measure(words="accuracy of always giving the majority's answer", better=""),
    "calibration_error": Measure(words="expected calibration error", better="down"),
    "mean_class_accuracy": Measure(words="mean accuracy over the classes"),
    "f1_15": Measure(words="mean F1 over the 15 classes present in at least 20 images"),
    "f1_18": Measure(words="mean F1 over all 18 classes"),
    "pixel_accuracy": Measure(words="accuracy over pixels"),
    "nme": Measure(words="mean error by the distance of the outer eye corners", better="down"),
    "fr10": Measure(words="faces with an error above 10 %", better="down"),
    "auc10": Measure(words="area under the error curve up to 10 %"),
    "accuracy_with_set_box": Measure(words="accuracy, faces not found cut by the set's own box"),
    "mae_with_set_box": Measure(
        words="the same, faces not found cut by the set's own box", unit="years", better="down"
    ),
    "nme_with_set_box": Measure(words="the same, faces not found cut by the set's own box", better="down"),
    "faces_found": Measure(words="faces found by our detector", unit="", better=""),
    "faces_given": Measure(words="faces too tight to detect, cut by the set's box", unit="", better="down"),
    "faces_missed": Measure(words="faces not found", unit="", better="down"),
    "quality_fnmr": Measure(words=f"{MISSED}, one face weakened", better="down"),
    "quality_fnmr_without_lowest_tenth": Measure(words=f"the same, {LOWEST_LEFT_OUT}", better="down"),
    "quality_fnmr_fall": Measure(words="the difference", unit="points"),
    "quality_bare_fnmr": Measure(words=f"{MISSED}, faces as they are", better="down"),
    "quality_bare_fnmr_without_lowest_tenth": Measure(words=f"the same, {LOWEST_LEFT_OUT}", better="down"),
    "quality_bare_fnmr_fall": Measure(words="the difference", unit="points"),
}

OF_MALE = ("accuracy", "balanced_accuracy", "average_precision", "majority", "calibration_error")
"""Scores of UTKFace's one attribute, which is its label of gender."""

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
"""The rows of README's table, in order: the question in words, and the score's name."""

ERRORS = ("MAE", "NME")
"""The first words of a column's heading where less is better."""

ARROWS = {"up": "higher is better", "down": "lower is better", "": ""}


def meaning(name: str) -> tuple[str, Measure]:
    """Return a score's data set and measure in words; an unknown name is returned as it is."""
    for word, dataset in SETS.items():
        if name.startswith(f"{word}_"):
            rest = name[len(word) + 1 :]
            # A later protocol of the set stands in front of the counts that all protocols have.
            measure = MEASURES.get(rest) or MEASURES.get(re.sub("^[a-z]+_(?=faces_)", "", rest))
            measure = measure or Measure(words=rest.replace("_", " "), unit="", better="")
            if (protocol := re.match("([a-z]+)_faces_", rest)) is not None:
                measure = replace(measure, words=f"{protocol[1]}: {measure.words}")
            if word == "utkface" and rest in OF_MALE:
                measure = replace(measure, words=f"`Male`: {measure.words}")
            return dataset, measure
    return "", Measure(words=name, unit="", better="")


def shown(value: Any, unit: str) -> str:
    """Format a number with its unit; return anything else as text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int) and not unit:
        return f"{value:,}"
    return f"{value:.2f} {unit}".strip() if unit else f"{value:.4g}"


def bounds(scores: Mapping[str, Any], key: str) -> str:
    """Format a score's 95 % interval; empty if it has none."""
    low, high = scores.get(f"{key}_low"), scores.get(f"{key}_high")
    return "" if low is None or high is None else f"{low:.2f} to {high:.2f}"


def is_bound(scores: Mapping[str, Any], key: str) -> bool:
    """Return whether this number is one end of another score's interval."""
    return any(key.endswith(end) and key.removesuffix(end) in scores for end in ("_low", "_high"))


def readme_table(weights: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return README's table: a row per question, a column per model with scores."""
    scored = {name: entry["scores"] for name, entry in weights.items() if is_scored_model(entry)}
    rows = []
    for question, key in HEADLINES:
        if any(key in scores for scores in scored.values()):
            dataset, measure = meaning(key)
            values = [
                f"{shown(scores[key], measure.unit)} ({bounds(scores, key)})".removesuffix(" ()")
                if key in scores
                else "-"
                for scores in scored.values()
            ]
            rows.append([question, dataset, measure.words, *values, ARROWS[measure.better]])
    if not rows:
        return [NOTHING]
    return markdown(
        [
            "question",
            "held-out images of",
            "measure",
            *(f"`{name}` (95 % interval)" for name in scored),
            "",
        ],
        rows,
    )


def score_table(scores: Mapping[str, Any]) -> list[str]:
    """Return the table of all scores with 95 % intervals, the headlines first."""
    if not scores:
        return [NOTHING]
    first = [key for _, key in HEADLINES]
    own = [key for key in scores if not is_bound(scores, key)]
    order = sorted(own, key=lambda key: (key not in first, first.index(key) if key in first else 0))
    rows = []
    for key in order:
        dataset, measure = meaning(key)
        value = shown(scores[key], measure.unit)
        rows.append([dataset, measure.words, value, bounds(scores, key), ARROWS[measure.better]])
    return markdown(["held-out images of", "measure", "score", "95 % interval", ""], rows)


def group_tables(tables: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return one table per data set and kind of group or class."""
    lines: list[str] = []
    for table in tables:
        rows = [[cell(value) for value in row] for row in table["rows"]]
        lines += [
            f"**{SETS.get(table['set'], table['set'])}, {table['title'][0].lower()}{table['title'][1:]}**"
        ]
        lines += ["", *markdown(table["columns"], rows), ""]
    return lines[:-1] or [NOT_RECORDED]


def worst_lines(tables: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line per table: where its first score is best and worst."""
    lines = []
    for table in tables:
        score = table["columns"][2]
        rows = sorted((row for row in table["rows"] if row[2] is not None), key=lambda row: row[2])
        if len(rows) < 2:
            continue
        low, high = rows[0], rows[-1]
        best, worst = (low, high) if score.startswith(ERRORS) else (high, low)
        name = SETS.get(table["set"], table["set"])
        lines.append(
            f"  - {name}, {score}: best {cell(best[2])} ({table['columns'][0]} {best[0]}, {best[1]} faces), "
            f"worst {cell(worst[2])} ({worst[0]}, {worst[1]})."
        )
    return lines or [f"  - {NOT_RECORDED}"]


def data_table(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the table of data sets."""
    head = [
        "data set",
        "images for training",
        "held out",
        "labels",
        "teachers' answers",
        "terms",
    ]
    keys = ("name", "train", "held_out", "labels", "teachers", "terms")
    lines = markdown(head, [[cell(row.get(key) or "none") for key in keys] for row in rows])
    return lines if len(lines) > 2 else [NOT_RECORDED]


def recipe_lines(recipes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return one line per stage of training; the whole recipe is in the header of the weights file."""
    lines = []
    for number, recipe in enumerate(map(rename_run_config, recipes), 1):
        shares = {name: source["batch_size"] for name, source in recipe["sources"].items()}
        begun = f"from {recipe['initial']}" if recipe.get("initial") else "from nothing"
        lines.append(
            f"{number}. {recipe['out']}: {begun}, {recipe['steps']:,} steps of {sum(shares.values())} faces "
            f"({', '.join(f'{name} {number}' for name, number in shares.items())}), "
            f"peak rate {recipe['lr']}, {recipe['precision']}, seed {recipe['seed']}."
        )
    return lines or [NOT_RECORDED]


def cell(value: Any) -> str:
    """Format a table's cell."""
    if isinstance(value, float):
        return f"{value:.2f}"
    return f"{value:,}" if isinstance(value, int) else "-" if value is None else str(value)


def card(template: str, header: Mapping[str, Any]) -> str:
    """Return the card's text. Raises SystemExit if the template lacks a mark."""
    tables = header.get("tables", ())
    grouped = [table for table in tables if table["columns"][-1] == "to"]
    parts = {
        "scores": score_table(header.get("scores", {})),
        "tables": group_tables(tables),
        "worst": worst_lines(grouped),
        "data": data_table(header.get("data", ())),
        "recipes": recipe_lines(header.get("recipes", ())),
    }
    for name, lines in parts.items():
        mark = f"<!-- {name} -->"
        if template.count(mark) != 1:
            raise SystemExit(f"The card's template needs the mark {mark} once, to tell where they go.")
        template = template.replace(mark, "\n".join(lines))
    return template


def is_scored_model(entry: Mapping[str, Any]) -> bool:
    """Return whether a registry entry is a network with scores."""
    return entry["kind"] == "model" and bool(entry.get("scores"))


def markdown(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def with_table(text: str, table: list[str]) -> str:
    """Return `text` with the lines between the marks replaced by `table`."""
    start, end = MARKS
    if text.count(start) != 1 or text.count(end) != 1:
        raise SystemExit(
            f"The text needs the marks {start} and {end} once each, to tell where the table goes."
        )
    inside = re.compile(f"{re.escape(start)}\n.*?{re.escape(end)}", re.S)
    return inside.sub(lambda _: "\n".join([start, *table, end]), text)


def header_of(path: Path) -> dict[str, Any]:
    """Read our metadata from a safetensors file: eight bytes of length, then JSON."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return dict(json.loads(header["__metadata__"]["faceum"]))


def header_of_network(weights: Mapping[str, Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """Return the header of the network that has scores. Raises SystemExit if the registry disagrees."""
    for name, entry in weights.items():
        file = entry["files"].get("safetensors")
        if file and is_scored_model(entry):
            header = header_of(folder / file["file"])
            if header.get("scores", {}) != entry["scores"]:
                raise SystemExit(
                    f"The scores of {name} in the registry are not those in {file['file']}; "
                    "run tools/ship_weights.py again."
                )
            return header
    return {}


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 1 if --check finds a text that is out of date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing, only report")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository's folder")
    options = parser.parse_args(arguments)
    folder = options.root / "src" / "faceum" / "weights"
    weights = json.loads((folder / "registry.json").read_text(encoding="utf-8"))["weights"]
    header = header_of_network(weights, folder)
    readme = (options.root / "README.md").read_text(encoding="utf-8")
    texts = {
        "README.md": with_table(readme, readme_table(weights)),
        "MODEL_CARD.md": card((options.root / TEMPLATE).read_text(encoding="utf-8"), header),
    }
    stale = 0
    for name, text in texts.items():
        path = options.root / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale = 1
            print(f"{name}: {'out of date' if options.check else 'written'}")
            if not options.check:
                path.write_text(text, encoding="utf-8")
    return stale if options.check else 0


if __name__ == "__main__":
    raise SystemExit(main())
