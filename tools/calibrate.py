"""Fit the calibration of a trained network on held-out faces, and write the network with it.

    python tools/calibrate.py runs/x/network.safetensors runs/x/calibrated.safetensors \\
        --set expression=CORPUS/ferplus.val.parquet --set attributes=CORPUS/celeba.val.parquet \\
        --set age=CORPUS/utkface.val.parquet --set age=CORPUS/appareal.val.parquet

Expressions and attributes get a temperature, ages a factor of their deviation. Each is fitted on every second
face of its sets, cut as `faceum eval` cuts them, and measured on the others. The file's header keeps them,
every export copies them, and decoding applies them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from faceum.data.face import read_face
from faceum.decode import decode_ages, sigmoid, softmax
from faceum.detect.base import load_detector
from faceum.evaluate.samples import batches, cut_faces, run
from faceum.evaluate.sets import load_set
from faceum.metrics.calibration import fit_spread, fit_temperature, reliability
from faceum.metrics.expression import majority_vote
from faceum.model.checkpoint import load_checkpoint, save_checkpoint
from faceum.runner import load_runner
from faceum.tasks import TASKS

CALIBRATED = ("expression", "attributes", "age")


def read_answers(network: Path, task: str, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the network's outputs (N, outputs) for the labelled faces of a set, and their labels."""
    runner = load_runner(network, "torch", threads=1)
    labelled = load_set(path.name.partition(".")[0], path)
    rows = (read_face(one, parsing=False) for one in labelled.faces() if one.has_label(task))
    detector = None if labelled.aligned else load_detector(threads=1)
    values, labels = [], []
    for group in batches(cut_faces(rows, runner, detector, task=task, tight=labelled.tight)):
        values.append(run(runner, [face.crop for face in group], task)[task])
        labels += [face.truth[TASKS[task].label] for face in group]
    return np.concatenate(values).astype(np.float64), np.stack(labels)


def fit(task: str, values: np.ndarray, labels: np.ndarray) -> tuple[float, str]:
    """Return the correction fitted on every second face, and a sentence on its effect on the others."""
    if task == "age":
        ages = decode_ages(values)
        errors = np.array([age.years for age in ages]) - labels
        deviations = np.array([age.std for age in ages])
        factor = fit_spread(deviations[::2], errors[::2])
        before, after = (np.mean(np.abs(errors[1::2]) <= one * deviations[1::2]) for one in (1, factor))
        return (
            factor,
            f"one deviation covers {100 * before:.1f} % of the true ages, {100 * after:.1f} % after",
        )
    if task == "expression":
        labels = majority_vote(labels)[0]
    temperature = fit_temperature(values[::2], labels[::2])
    before, after = (calibration_error(values[1::2] / one, labels[1::2]) for one in (1, temperature))
    return temperature, f"calibration error {100 * before:.2f} %, {100 * after:.2f} % after"


def calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the expected calibration error of the answers with a known label."""
    known = labels >= 0
    if labels.ndim == 1:
        p = softmax(logits)
        return reliability(p.max(1)[known], (p.argmax(1) == labels)[known]).expected_error
    p = sigmoid(logits)
    return reliability(np.maximum(p, 1 - p)[known], ((p > 0.5) == (labels == 1))[known]).expected_error


def main() -> None:
    """Read the command line, fit, and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--set", action="append", required=True, metavar="TASK=PATH", help="repeat")
    arguments = parser.parse_args()
    answers: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for entry in arguments.set:
        task, _, path = entry.partition("=")
        if task not in CALIBRATED:
            parser.error(f"--set takes TASK=PATH with a task of {', '.join(CALIBRATED)}; got {entry}")
        answers.setdefault(task, []).append(read_answers(arguments.network, task, Path(path)))
    calibration = {}
    for task, parts in answers.items():
        values, labels = (np.concatenate(part) for part in zip(*parts, strict=True))
        calibration[task], sentence = fit(task, values, labels)
        print(f"{task}: {calibration[task]:.3f}; {sentence}")
    model, metadata = load_checkpoint(arguments.network)
    dtype = next(model.parameters()).dtype
    save_checkpoint(arguments.out, model, {**metadata, "calibration": calibration}, dtype=dtype)


if __name__ == "__main__":
    main()
