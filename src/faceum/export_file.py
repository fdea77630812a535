"""Layer 5. A model and pictures of faces in; a checked ONNX file and its sidecar, or a refusal, out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from faceum.assets import resolve_model
from faceum.crop import CropSpec, crop_face
from faceum.detect.registry import load_detector
from faceum.errors import ModelError, PictureError
from faceum.export import crop_of_all, export_onnx, noise
from faceum.files import sha256_of, whole_file, write_text
from faceum.image import read_image
from faceum.model.checkpoint import load_checkpoint
from faceum.model.network import FaceUM
from faceum.parity import UNITS, distances, limits_for, too_far
from faceum.quantize import quantise
from faceum.runner import OnnxRunner, network_input
from faceum.tasks import TASKS
from faceum.threads import usable_threads

PRECISIONS = ("fp32", "fp16", "int8")

MOST_FACES = 100
"""Faces that the file is compared, and calibrated, on."""

FEWEST_TO_CALIBRATE = 8
"""Ranges that fewer faces show are too narrow for others."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What came of an export.

    file, sidecar: what was written. faces: how many real faces it was compared on; 0 means noise.
    distances: task -> how far its answers are from torch in float32, in the unit of `faceum.parity`.
    """

    file: Path
    sidecar: Path
    faces: int
    distances: Mapping[str, float] = field(default_factory=dict)


def export_file(
    model: str | Path,
    out: Path,
    *,
    tasks: Sequence[str] | None = None,
    precision: str = "fp32",
    pictures: Sequence[Path] = (),
    tolerance: Mapping[str, float] | None = None,
) -> Exported:
    """Write `out`, an ONNX file that answers as the model does, and beside it what it is, as JSON.

    model: a registered name or a .safetensors file. tasks: all by default; they must share a crop policy.
    precision: "fp32"; "fp16" for large weights stored in half precision and used in float32; "int8" for
    weights and activations, calibrated on the pictures. pictures: with faces, on which the file is compared
    with torch in float32; noise where there are none. tolerance: task -> the distance that is let pass.
    Raises ModelError, and writes nothing, where the answers are too far off.
    """
    if precision not in PRECISIONS:
        raise ModelError(f"There is no precision {precision!r}; use one of {', '.join(PRECISIONS)}.")
    if out.suffix != ".onnx":
        raise ModelError(f"The file to write is {str(out)!r}; give it the ending .onnx.")
    limits = limits_for(precision, tolerance)
    network, metadata = load_checkpoint(resolve_model(model, "safetensors"))
    chosen = tuple(tasks or network.config.tasks)
    spec = crop_of_all(network, chosen)
    crops, masks = faces_in(pictures, spec)
    if precision == "int8" and len(crops) < FEWEST_TO_CALIBRATE:
        raise ModelError(
            f"int8 is calibrated on real faces, and {len(crops)} were found in {len(pictures)} pictures; "
            f"give pictures with at least {FEWEST_TO_CALIBRATE}."
        )
    inputs = (network_input(crops), masks) if len(crops) else noise(spec)
    with whole_file(out) as beside:
        if precision == "int8":
            plain = beside.with_name(f"{beside.name}.fp32")
            try:
                export_onnx(network, metadata, plain, tasks=chosen, half=False)
                quantise(plain, beside, *inputs)
            finally:
                plain.unlink(missing_ok=True)
        else:
            export_onnx(network, metadata, beside, tasks=chosen, half=precision == "fp16")
        found = distances(
            _by_torch(network, inputs, chosen), _by_onnx(beside, inputs, chosen), size=spec.size
        )
        if wrong := too_far(found, limits):
            raise ModelError(f"The {precision} file would not answer as torch does: {wrong}.")
    sidecar = out.with_suffix(".json")
    about = _about(out, spec, metadata, precision, len(crops), found)
    write_text(sidecar, json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    return Exported(file=out, sidecar=sidecar, faces=len(crops), distances=found)


def faces_in(pictures: Sequence[Path], spec: CropSpec) -> tuple[np.ndarray, np.ndarray]:
    """Crops (n, S, S, 3) uint8 and masks (n, N) bool of the faces in pictures, `MOST_FACES` at most."""
    detector = load_detector()
    crops = []
    for path in pictures:
        try:
            image = read_image(path)
        except PictureError as error:
            raise ModelError(f"A picture to compare on cannot be read: {error}") from None
        crops += [crop_face(image, spec, face.box, face.points5) for face in detector.detect(image)]
        if len(crops) >= MOST_FACES:
            break
    if pictures and not crops:
        raise ModelError(f"There is no face in the {len(pictures)} pictures to compare on; give others.")
    shape = (0, spec.size, spec.size, 3)
    images = np.array([crop.image for crop in crops[:MOST_FACES]], np.uint8).reshape(-1, *shape[1:])
    masks = np.array([crop.face_mask_N for crop in crops[:MOST_FACES]], bool).reshape(-1, spec.grid**2)
    return images, masks


def _by_torch(
    network: FaceUM, inputs: tuple[np.ndarray, np.ndarray], tasks: Sequence[str]
) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        output = network(torch.from_numpy(inputs[0]), torch.from_numpy(inputs[1]), tasks)
        return {task: output[task].numpy() for task in tasks}


def _by_onnx(
    path: Path, inputs: tuple[np.ndarray, np.ndarray], tasks: Sequence[str]
) -> dict[str, np.ndarray]:
    return OnnxRunner(path, "cpu", usable_threads()).run_input(*inputs, tasks)


def _about(
    out: Path,
    spec: CropSpec,
    metadata: Mapping[str, Any],
    precision: str,
    faces: int,
    found: Mapping[str, float],
) -> dict[str, Any]:
    """What stands in the sidecar: all that somebody needs who runs the file without this package."""
    return {
        "schema": "faceum.export/1",
        "file": out.name,
        "sha256": sha256_of(out),
        "precision": precision,
        "licence": metadata.get("licence"),
        "provenance": metadata.get("provenance"),
        "inputs": {
            "crop_BCHW": f"float32 (B, 3, {spec.size}, {spec.size}), RGB in 0..1; normalised inside",
            "face_mask_BN": f"bool (B, {spec.grid**2}), row-major patches, True on the face",
        },
        "outputs": {
            task: {"kind": TASKS[task].kind, "labels": list(metadata["labels"].get(task, ()))}
            for task in found
        },
        "preprocessing": spec.to_dict(),
        "compared_with_torch": {
            "faces": faces,
            "distances": {
                task: {"distance": distance, "unit": UNITS[TASKS[task].kind]}
                for task, distance in found.items()
            },
        },
        "scores": metadata.get("scores", {}),
    }
