"""Turn a trained network into the weights that the package ships: safetensors, ONNX and registry entry.

    python tools/ship_weights.py runs/x/network.safetensors --name compact --report eval/report.json \\
        --run runs/x/run.json --register tools/compact_data.json --licence "..." --source "..."

The ONNX file is compared with torch on crops of the example portrait before either file is replaced. Both
files' headers hold licence, source, scores, thresholds, the report's tables of groups and classes, the
recipes of the runs and the register of data. `tools/write_card.py` writes the model card from the header of
the safetensors file. `--after` names the weights that the first run started from, whose recipes come before
its own.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from faceum.crop import Crop, crop_face, network_input
from faceum.detect.base import load_detector
from faceum.export.onnx import export_onnx
from faceum.files import whole_file
from faceum.image import read_image
from faceum.model.checkpoint import load_checkpoint, read_metadata, save_checkpoint
from faceum.model.network import FaceUM
from faceum.weights.registry import WEIGHTS, Asset, describe_file, write_entry

PORTRAIT = Path(__file__).resolve().parents[1] / "examples" / "astronaut.png"
LOOKS = 16
"""Crops of the portrait that torch and the ONNX file are compared on."""


def ship(
    network: Path, about: Asset, folder: Path = WEIGHTS, record: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """Write NAME.safetensors, NAME.onnx and the registry entry; returns each task's difference from torch.

    about: name, licence, source, summary and scores; its files are ignored. record: what else the files'
    headers shall hold.
    """
    model, metadata = load_checkpoint(network)
    metadata |= {"licence": about.licence, "provenance": about.source, "scores": dict(about.scores)}
    if about.thresholds:
        metadata["thresholds"] = dict(about.thresholds)
    metadata |= record or {}
    weights, exported = folder / f"{about.name}.safetensors", folder / f"{about.name}.onnx"
    with whole_file(weights) as temporary:
        save_checkpoint(temporary, model, metadata)
        stored, _ = load_checkpoint(temporary)  # export the values that are rounded to half precision
        differences = export_onnx(stored, metadata, exported, check=_looks(stored))
    files = {"onnx": describe_file(exported), "safetensors": describe_file(weights)}
    entry = Asset(
        name=about.name,
        kind="model",
        files=files,
        licence=about.licence,
        source=about.source,
        summary=about.summary,
        scores=about.scores,
        thresholds=about.thresholds,
    )
    write_entry(entry, folder=folder)
    return differences


def tables_of(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tables by group and by class of a report of `faceum eval`, numbers rounded."""
    tables = []
    for evaluation in report["evaluations"]:
        for table in evaluation["tables"]:
            if table["title"].startswith("By ") and table["title"] != "By fold":
                rows = [[round(c, 2) if isinstance(c, float) else c for c in row] for row in table["rows"]]
                head = {"set": evaluation["dataset"], "protocol": evaluation["protocol"]}
                tables.append({**head, "title": table["title"], "columns": table["columns"], "rows": rows})
    return tables


def recipe_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's resolved recipe and the commit of its code; of paths only the last part."""
    recipe = {**run["recipe"], "git": run["git"]}
    for name in ("data", "out"):
        recipe[name] = Path(recipe[name]).name
    return recipe


def register_of(rows: Sequence[Mapping[str, Any]], run: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the register of data with the number of faces that a run trained on."""
    counts = {} if run is None else {source: data["faces"] for source, data in run["data"].items()}
    return [{**row, "train": counts.get(row["source"], 0)} for row in rows]


def _looks(model: FaceUM) -> tuple[np.ndarray, np.ndarray]:
    """Return crops of the portrait's face, each with slightly other points, and their face masks."""
    image = read_image(PORTRAIT)
    face = load_detector().detect(image)[0]
    spec, _ = model.config.crops[0]
    rng = np.random.default_rng(0)
    crops: list[Crop] = []
    for _ in range(LOOKS):
        points = face.points5 + rng.normal(size=(5, 2)).astype(np.float32) * 2
        crops.append(crop_face(image, spec, face.box, points))
    images = np.stack([crop.image for crop in crops])
    return network_input(images), np.stack([crop.face_tokens_N for crop in crops])


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def main() -> None:
    """Read the command line and ship."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", type=Path, help="a checkpoint that training wrote")
    parser.add_argument("--name", required=True)
    parser.add_argument("--licence", required=True)
    parser.add_argument("--source", required=True, help="where the weights come from: recipe, commit, data")
    parser.add_argument("--summary", default="")
    parser.add_argument("--report", type=Path, help="report.json of faceum eval")
    parser.add_argument("--run", type=Path, action="append", default=[], help="a stage's run.json; repeat")
    parser.add_argument("--after", type=Path, help="the weights that the first --run began from")
    parser.add_argument("--register", type=Path, help="a JSON file: the data sets, their labels and terms")
    parser.add_argument("--folder", type=Path, default=WEIGHTS)
    given = parser.parse_args()
    report = _read(given.report) if given.report else {"scores": {}, "evaluations": []}
    runs = [_read(path) for path in given.run]
    earlier = read_metadata(given.after).get("recipes", []) if given.after else []
    record: dict[str, Any] = {
        "tables": tables_of(report),
        "recipes": [*earlier, *(recipe_of(run) for run in runs)],
    }
    if given.register:
        record["data"] = register_of(_read(given.register), runs[-1] if runs else None)
    about = Asset(
        name=given.name,
        kind="model",
        files={},
        licence=given.licence,
        source=given.source,
        summary=given.summary,
        scores=report["scores"],
        thresholds=report.get("thresholds", {}),
    )
    for task, difference in ship(given.network, about, given.folder, record).items():
        print(f"{task}: ONNX differs from torch by {difference:.1e} of the largest value")


if __name__ == "__main__":
    main()
