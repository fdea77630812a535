"""The JSON file that describes an ONNX file to users without this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from faceum.crop import BOX_EYES, BOX_SCALE, TEMPLATE, CropSpec
from faceum.tasks import TASKS

MEANINGS: dict[str, tuple[tuple[str, ...], str]] = {
    "embedding": (
        ("face", "number"),
        "the face as a vector, not normalized: divided by its length, the dot product of two is their cosine",
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

CALIBRATION_RULES = {
    "number": "Multiply the deviation of the age by factor; the age itself stays as it is.",
    "labels": "Divide the logits by factor before the sigmoid.",
    "classes": "Divide the logits by factor before the softmax.",
}
"""A task's kind -> how to apply the calibration that was measured on held-out faces."""

CROP_RULES = {
    "similarity": "The similarity (turn, scale, shift, no mirror) that brings the five points (left eye, "
    "right eye, nose tip, left and right mouth corner as seen in the image) nearest to points5_in_crop, in "
    "least squares. Eyes lie eye_distance of the side apart, at eye_height of it. Where only a box "
    f"x0 y0 x1 y1 is known, upright, with the eyes' middle at (x0 + x1) / 2, y0 + {BOX_EYES} height and the "
    f"eye distance (width + 0.74 height) / {2 * BOX_SCALE:g}. Bilinear, blocks averaged where it shrinks to "
    "half or less; outside the image its edge repeats.",
    "arcface": "The similarity (turn, scale, shift, no mirror) that brings the five points nearest to the "
    "ArcFace template (arXiv 1801.07698) of 112 x 112 pixels, in least squares.",
    "box": "The box x0 y0 x1 y1 of the face, widened by margin of its width and height on each side, "
    "truncated to whole pixels, clipped to the image and stretched to the square, bicubic with "
    "antialiasing.",
}
"""A crop policy -> how the crop comes about. The outer corner of an image's first pixel is (0, 0)."""

FACE_RULES = {
    "centre": "A patch is face where its centre, taken back to the image, lies in the face's box.",
    "touched": "A patch is face where the face's box, taken to the crop, touches it.",
}
"""A crop spec's face_tokens -> which patches are face tokens."""


def describe_inputs(spec: CropSpec) -> dict[str, Any]:
    """Return the inputs of the file, and how to make them from a face."""
    rule: dict[str, Any] = {"rule": CROP_RULES[spec.policy], "face_tokens_rule": FACE_RULES[spec.face_tokens]}
    if spec.policy == "similarity":
        middle = np.array([spec.size / 2, spec.size * spec.eye_height])
        points = TEMPLATE * spec.size * spec.eye_distance + middle
        rule["points5_in_crop"] = points.round(6).tolist()
    return {
        "inputs": {
            "crop_BCHW": f"float32 (B, 3, {spec.size}, {spec.size}), RGB in 0..1; normalized inside",
            "face_tokens_BN": f"bool (B, {spec.grid**2}), row-major patches, True on the face",
        },
        "preprocessing": {**spec.to_dict(), **rule},
    }


def describe_outputs(
    answers: Mapping[str, np.ndarray],
    labels: Mapping[str, Sequence[str]],
    calibration: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return the shape, axes, meaning and labels of each output, and its calibration if it has one."""
    about: dict[str, dict[str, Any]] = {}
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
        correction = (calibration or {}).get(task, 1.0)
        if correction != 1.0 and (rule := CALIBRATION_RULES.get(TASKS[task].kind)):
            about[task]["calibration"] = {"factor": correction, "rule": rule}
    return about
