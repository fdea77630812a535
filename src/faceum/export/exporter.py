"""Export a model to an ONNX file whose answers were compared with torch, and describe the file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from faceum.errors import ModelError
from faceum.export.evidence import Evidence, Inputs, evidence_in
from faceum.export.onnx import choose_tasks, crop_of_all, export_onnx
from faceum.export.parity import UNITS, describe_excess, distances, limits_for
from faceum.export.quantize import quantize
from faceum.export.sidecar import describe_inputs, describe_outputs
from faceum.files import sha256_of, whole_file
from faceum.model.checkpoint import load_checkpoint
from faceum.model.network import FaceUM
from faceum.runner import OnnxRunner, read_calibration
from faceum.tasks import TASKS
from faceum.threads import usable_threads
from faceum.weights.registry import resolve_model

PRECISIONS = ("fp32", "fp16", "int8")

MOST_TO_CHECK = 8
"""Number of these faces on which the float ONNX graph is compared with torch first."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """The result of an export.

    file: the ONNX file.
    sidecar: the JSON file that describes it.
    faces: number of real faces it was compared on; 0 means noise.
    distances: task -> distance of its answers from torch in float32, in the units of `faceum.export.parity`.
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
    images: Sequence[Path] = (),
    tolerance: Mapping[str, float] | None = None,
) -> Exported:
    """Write the ONNX file `out`, and a .json file next to it that describes it.

    model: a registered name or a .safetensors file.
    tasks: all by default; they must share a crop policy.
    precision: "fp32"; "fp16" stores large weights in half precision and computes in float32; "int8" is for
        weights and activations.
    images: images with faces, on which the file is compared with torch in float32; noise if there are none.
        int8 is calibrated on every other image and compared on the rest; a single image serves for both.
    tolerance: task -> largest distance from torch that is accepted.
    Raises ModelError, and writes nothing, if the distance is larger.
    """
    if precision not in PRECISIONS:
        raise ModelError(f"There is no precision {precision!r}; use one of {', '.join(PRECISIONS)}.")
    if out.suffix != ".onnx":
        raise ModelError(f"The file to write is {str(out)!r}; its name must end in .onnx.")
    limits = limits_for(precision, tolerance)
    network, metadata = load_checkpoint(resolve_model(model, "safetensors"))
    chosen = choose_tasks(network, tasks)
    spec = crop_of_all(network, chosen)
    evidence = evidence_in(images, spec, calibrate=precision == "int8")
    sidecar = out.with_suffix(".json")
    # The description is moved into place first, so that no file is without one.
    with whole_file(out) as partial, whole_file(sidecar) as partial_sidecar:
        _write_network(partial, network, metadata, chosen, precision, evidence)
        answers = _run_onnx(partial, evidence.compared, chosen)
        found = distances(_run_torch(network, evidence.compared, chosen), answers, size=spec.size)
        if wrong := describe_excess(found, limits):
            raise ModelError(
                f"The answers of the {precision} file are too far from torch: {wrong}; nothing was written."
            )
        about = {
            "schema": "faceum.export.onnx/1",
            "file": out.name,
            "sha256": sha256_of(partial),
            "precision": precision,
            "licence": metadata.get("licence"),
            "provenance": metadata.get("provenance"),
            **describe_inputs(spec),
            "outputs": describe_outputs(answers, metadata["labels"], read_calibration(metadata)),
            "compared_with_torch": _compare_with_torch(evidence, found, limits),
            "scores": metadata.get("scores", {}),
        }
        partial_sidecar.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Exported(file=out, sidecar=sidecar, faces=evidence.faces, distances=found)


def _write_network(
    path: Path,
    network: FaceUM,
    metadata: Mapping[str, Any],
    tasks: Sequence[str],
    precision: str,
    evidence: Evidence,
) -> None:
    crops, masks = evidence.compared
    check = (crops[:MOST_TO_CHECK], masks[:MOST_TO_CHECK])
    if evidence.calibration is None:
        export_onnx(network, metadata, path, tasks=tasks, half=precision == "fp16", check=check)
        return
    plain = path.with_name(f"{path.name}.fp32")
    try:
        export_onnx(network, metadata, plain, tasks=tasks, half=False, check=check)
        quantize(plain, path, *evidence.calibration)
    finally:
        plain.unlink(missing_ok=True)


def _run_torch(network: FaceUM, inputs: Inputs, tasks: Sequence[str]) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        output = network(torch.from_numpy(inputs[0]), torch.from_numpy(inputs[1]), tasks)
        return {task: output[task].numpy() for task in tasks}


def _run_onnx(path: Path, inputs: Inputs, tasks: Sequence[str]) -> dict[str, np.ndarray]:
    return OnnxRunner(path, "cpu", usable_threads()).run_input(*inputs, tasks)


def _compare_with_torch(
    evidence: Evidence, found: Mapping[str, float], limits: Mapping[str, float]
) -> dict[str, Any]:
    return {
        "on": evidence.on,
        "faces": evidence.faces,
        "calibrated_on_faces": None if evidence.calibration is None else len(evidence.calibration[0]),
        "distances": {
            task: {"distance": distance, "accepted": limits[task], "unit": UNITS[TASKS[task].kind]}
            for task, distance in found.items()
        },
    }
