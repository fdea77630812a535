"""A model and images of faces in; a checked ONNX file and its sidecar, or a refusal, out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from faceum.crop import BOX_EYES, BOX_SCALE, TEMPLATE, Crop, CropSpec, crop_face, network_input
from faceum.detect.base import load_detector
from faceum.errors import ImageError, ModelError
from faceum.export.onnx import chosen_tasks, crop_of_all, export_onnx, noise
from faceum.export.parity import UNITS, distances, limits_for, too_far
from faceum.export.quantize import quantise
from faceum.files import sha256_of, whole_file
from faceum.image import read_image
from faceum.model.checkpoint import load_checkpoint
from faceum.model.network import FaceUM
from faceum.runner import OnnxRunner
from faceum.tasks import TASKS
from faceum.threads import usable_threads
from faceum.weights.registry import resolve_model

PRECISIONS = ("fp32", "fp16", "int8")

MOST_FACES = 100
"""Faces that the file is calibrated and compared on."""

MOST_TO_CHECK = 8
"""Faces among them on which the bare network in ONNX is compared with the same in torch."""

FEWEST_TO_CALIBRATE = 8
"""Ranges that fewer faces show are too narrow for others."""


MEANINGS: dict[str, tuple[tuple[str, ...], str]] = {
    "embedding": (
        ("face", "number"),
        "the face as a vector, not normalised: divided by its length, the dot product of two is their cosine",
    ),
    "number": (
        ("face", "year"),
        "logits of the ages 0, 1, 2 and so on; p = sigmoid(logit) / its sum over the years; the apparent age "
        "is the sum of p * year",
    ),
    "labels": (("face", "label"), "logits; sigmoid(logit) is the probability of each label by itself"),
    "classes": (("face", "class"), "logits; their softmax is the probability of each class"),
    "pixels": (
        ("face", "class", "row", "column"),
        "logits at this size; enlarged bilinearly (corners not aligned) to the crop's, the largest is the "
        "pixel's class",
    ),
    "points": (
        ("face", "point", "x, y"),
        "places in 0..1 of the crop from its upper left corner; times its size they are pixels of the crop; "
        "points in the order of iBUG's 300-W",
    ),
}
"""A task's kind -> the axes of its output, and what the numbers are."""

CROP_RULES = {
    "similarity": "The similarity (turn, scale, shift, no mirror) that brings the five points (left eye, "
    "right eye, nose tip, left and right mouth corner as seen in the image) nearest to points5_in_crop, in "
    "least squares. Eyes lie eye_distance of the side apart, at eye_height of it. Where only a box "
    f"x0 y0 x1 y1 is known, upright, with the eyes' middle at (x0 + x1) / 2, y0 + {BOX_EYES} height and the "
    f"eye distance (width + 0.74 height) / {2 * BOX_SCALE:g}. Bilinear, blocks averaged where it shrinks to "
    "half or less; outside the image its edge repeats.",
    "box": "The box x0 y0 x1 y1 of the face, widened by margin of its width and height on each side, "
    "truncated to whole pixels, clipped to the image and stretched to the square, bicubic with "
    "antialiasing.",
}
"""A crop policy -> how the crop comes about. The outer corner of an image's first pixel is (0, 0)."""

FACE_RULES = {
    "centre": "A patch is face where its centre, taken back to the image, lies in the face's box.",
    "touched": "A patch is face where the face's box, taken to the crop, touches it.",
}
"""A crop spec's face_tokens -> which patches are True in the face mask."""

Inputs = tuple[np.ndarray, np.ndarray]
"""Crops (n, 3, S, S) float32 in 0..1 and masks (n, N) bool."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """What a file is compared on.

    compared: where it is compared with torch. calibration: where int8 finds its ranges, None without int8.
    faces: how many of the compared are real; 0 means noise. on: what they are, in words for the sidecar.
    """

    compared: Inputs
    calibration: Inputs | None
    faces: int
    on: str


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What came of an export.

    file, sidecar: what was written. faces: how many real faces it was compared on; 0 means noise.
    distances: task -> how far its answers are from torch in float32, in the unit of `faceum.export.parity`.
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
    """Write `out`, an ONNX file that answers as the model does, and beside it what it is, as JSON.

    model: a registered name or a .safetensors file. tasks: all by default; they must share a crop policy.
    precision: "fp32"; "fp16" for large weights stored in half precision and used in float32; "int8" for
    weights and activations. images: with faces, on which the file is compared with torch in float32; noise
    where there are none. int8 is calibrated on every other one and compared on the rest, or does both on the
    only one. tolerance: task -> the distance that is let pass.
    Raises ModelError, and writes nothing, where the answers are too far off.
    """
    if precision not in PRECISIONS:
        raise ModelError(f"There is no precision {precision!r}; use one of {', '.join(PRECISIONS)}.")
    if out.suffix != ".onnx":
        raise ModelError(f"The file to write is {str(out)!r}; give it the ending .onnx.")
    limits = limits_for(precision, tolerance)
    network, metadata = load_checkpoint(resolve_model(model, "safetensors"))
    chosen = chosen_tasks(network, tasks)
    spec = crop_of_all(network, chosen)
    evidence = evidence_in(images, spec, calibrate=precision == "int8")
    sidecar = out.with_suffix(".json")
    # The sidecar takes its place first, so that no file stands without one.
    with whole_file(out) as beside, whole_file(sidecar) as beside_sidecar:
        _write_network(beside, network, metadata, chosen, precision, evidence)
        answers = _by_onnx(beside, evidence.compared, chosen)
        found = distances(_by_torch(network, evidence.compared, chosen), answers, size=spec.size)
        if wrong := too_far(found, limits):
            raise ModelError(f"The {precision} file would not answer as torch does: {wrong}.")
        about = {
            "schema": "faceum.export.onnx/1",
            "file": out.name,
            "sha256": sha256_of(beside),
            "precision": precision,
            "licence": metadata.get("licence"),
            "provenance": metadata.get("provenance"),
            **_inputs(spec),
            "outputs": _outputs(answers, metadata["labels"]),
            "compared_with_torch": _compared(evidence, found, limits),
            "scores": metadata.get("scores", {}),
        }
        beside_sidecar.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return Exported(file=out, sidecar=sidecar, faces=evidence.faces, distances=found)


def evidence_in(images: Sequence[Path], spec: CropSpec, *, calibrate: bool) -> Evidence:
    """The faces of the images, or noise where there are no images.

    calibrate: keep the faces of every other image for that; of one image, all serve for both. ModelError
    where they are too few, or an image cannot be read.
    """
    crops, masks, image_n = faces_in(images, spec)
    if calibrate:
        turn_n = np.unique(image_n, return_inverse=True)[1] % 2
        first_n, rest_n = turn_n == 0, turn_n == 1
        if first_n.sum() < FEWEST_TO_CALIBRATE:
            raise ModelError(
                f"int8 is calibrated on the faces of every other image, and of {len(images)} images "
                f"these have {first_n.sum()}; give images with at least {FEWEST_TO_CALIBRATE} there."
            )
        compared_n, on = rest_n, "faces it was not calibrated on"
        if not rest_n.any():
            compared_n, on = first_n, "the faces it was calibrated on, of one image"
        return Evidence(
            compared=(network_input(crops[compared_n]), masks[compared_n]),
            calibration=(network_input(crops[first_n]), masks[first_n]),
            faces=int(compared_n.sum()),
            on=on,
        )
    if len(crops):
        inputs, on = (network_input(crops), masks), "faces"
    else:
        inputs, on = noise(spec), "noise, as no images were given"
    return Evidence(compared=inputs, calibration=None, faces=len(crops), on=on)


def faces_in(images: Sequence[Path], spec: CropSpec) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The faces in images, `MOST_FACES` at most: crops, masks, and the place of each one's image.

    Crops are (n, S, S, 3) uint8, masks (n, N) bool, places (n,) int. ModelError where an image cannot be
    read, or none of them has a face.
    """
    detector = load_detector()
    crops: list[Crop] = []
    places: list[int] = []
    for place, path in enumerate(images):
        try:
            image = read_image(path)
        except ImageError as error:
            raise ModelError(f"An image to compare on cannot be read: {error}") from None
        found = [crop_face(image, spec, face.box, face.points5) for face in detector.detect(image)]
        crops += found
        places += [place] * len(found)
        if len(crops) >= MOST_FACES:
            break
    if images and not crops:
        raise ModelError(f"There is no face in the {len(images)} images to compare on; give others.")
    shape = (0, spec.size, spec.size, 3)
    pixels = np.array([crop.image for crop in crops[:MOST_FACES]], np.uint8).reshape(-1, *shape[1:])
    masks = np.array([crop.face_tokens_N for crop in crops[:MOST_FACES]], bool).reshape(-1, spec.grid**2)
    return pixels, masks, np.array(places[:MOST_FACES], int)


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
        quantise(plain, path, *evidence.calibration)
    finally:
        plain.unlink(missing_ok=True)


def _by_torch(network: FaceUM, inputs: Inputs, tasks: Sequence[str]) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        output = network(torch.from_numpy(inputs[0]), torch.from_numpy(inputs[1]), tasks)
        return {task: output[task].numpy() for task in tasks}


def _by_onnx(path: Path, inputs: Inputs, tasks: Sequence[str]) -> dict[str, np.ndarray]:
    return OnnxRunner(path, "cpu", usable_threads()).run_input(*inputs, tasks)


def _compared(evidence: Evidence, found: Mapping[str, float], limits: Mapping[str, float]) -> dict[str, Any]:
    return {
        "on": evidence.on,
        "faces": evidence.faces,
        "calibrated_on_faces": None if evidence.calibration is None else len(evidence.calibration[0]),
        "distances": {
            task: {"distance": distance, "accepted": limits[task], "unit": UNITS[TASKS[task].kind]}
            for task, distance in found.items()
        },
    }


def _inputs(spec: CropSpec) -> dict[str, Any]:
    """What the file takes, and how a face becomes that."""
    rule: dict[str, Any] = {"rule": CROP_RULES[spec.policy], "face_mask": FACE_RULES[spec.face_tokens]}
    if spec.policy == "similarity":
        middle = np.array([spec.size / 2, spec.size * spec.eye_height])
        points = TEMPLATE * spec.size * spec.eye_distance + middle
        rule["points5_in_crop"] = points.round(6).tolist()
    return {
        "inputs": {
            "crop_BCHW": f"float32 (B, 3, {spec.size}, {spec.size}), RGB in 0..1; normalised inside",
            "face_tokens_BN": f"bool (B, {spec.grid**2}), row-major patches, True on the face",
        },
        "preprocessing": {**spec.to_dict(), **rule},
    }


def _outputs(answers: Mapping[str, np.ndarray], labels: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Each output's shape, axes, meaning and words; somebody without this package needs no more."""
    about = {}
    for task, values in answers.items():
        axes, meaning = MEANINGS[TASKS[task].kind]
        assert len(axes) == values.ndim, f"{task} has {values.ndim} axes"
        about[task] = {
            "kind": TASKS[task].kind,
            "shape": ["B", *values.shape[1:]],
            "axes": list(axes),
            "meaning": meaning,
            "labels": list(labels.get(task, ())),
        }
    return about
