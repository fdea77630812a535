"""Tool: a trained network in, the weights that the package ships out: safetensors, ONNX and registry entry.

    python tools/ship_weights.py runs/x/network.safetensors --name compact --scores scores.json \\
        --licence "..." --source "..." --summary "..."

The ONNX file is compared with torch on crops of the example portrait before either file takes its place.
scores.json holds measure -> number, as `faceum eval` writes its headline scores; licence, source and scores
also stand in both files' own headers.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from faceum.assets import WEIGHTS, Asset, describe_file, write_entry
from faceum.crop import Crop, crop_face
from faceum.detect.registry import load_detector
from faceum.export import export_onnx
from faceum.files import whole_file
from faceum.image import read_image
from faceum.model.checkpoint import load_checkpoint, save_checkpoint
from faceum.model.network import FaceUM
from faceum.runner import network_input

PORTRAIT = Path(__file__).resolve().parents[1] / "examples" / "astronaut.png"
LOOKS = 16
"""Crops of the portrait that torch and the ONNX file are compared on."""


def ship(network: Path, about: Asset, folder: Path = WEIGHTS) -> dict[str, float]:
    """Write NAME.safetensors, NAME.onnx and the registry entry; returns each task's difference from torch.

    about: name, licence, source, summary and scores; its files are ignored.
    """
    model, metadata = load_checkpoint(network)
    metadata |= {"licence": about.licence, "provenance": about.source, "scores": dict(about.scores)}
    weights, exported = folder / f"{about.name}.safetensors", folder / f"{about.name}.onnx"
    with whole_file(weights) as beside:
        save_checkpoint(beside, model, metadata)
        stored, header = load_checkpoint(beside)  # what was rounded to half precision is what is exported
        differences = export_onnx(stored, header, exported, check=_looks(stored))
    files = {"onnx": describe_file(exported), "safetensors": describe_file(weights)}
    entry = Asset(
        name=about.name,
        kind="model",
        files=files,
        licence=about.licence,
        source=about.source,
        summary=about.summary,
        scores=about.scores,
    )
    write_entry(entry, folder=folder)
    return differences


def _looks(model: FaceUM) -> tuple[np.ndarray, np.ndarray]:
    """Crops of the portrait's face, each with slightly other points, and their face masks."""
    image = read_image(PORTRAIT)
    face = load_detector().detect(image)[0]
    spec, _ = model.config.crops[0]
    rng = np.random.default_rng(0)
    crops: list[Crop] = []
    for _ in range(LOOKS):
        points = face.points5 + rng.normal(size=(5, 2)).astype(np.float32) * 2
        crops.append(crop_face(image, spec, face.box, points))
    images = np.stack([crop.image for crop in crops])
    return network_input(images), np.stack([crop.face_mask_N for crop in crops])


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
    parser.add_argument("--scores", type=Path, help="a JSON file: measure -> number")
    parser.add_argument("--folder", type=Path, default=WEIGHTS)
    given = parser.parse_args()
    about = Asset(
        name=given.name,
        kind="model",
        files={},
        licence=given.licence,
        source=given.source,
        summary=given.summary,
        scores=json.loads(given.scores.read_text(encoding="utf-8")) if given.scores else {},
    )
    for task, difference in ship(given.network, about, given.folder).items():
        print(f"{task}: ONNX differs from torch by {difference:.1e} of the largest value")


if __name__ == "__main__":
    main()
