"""Validate a network on held-out faces: losses, simple metrics, and the score that chooses the best network.

Faces are cut by their labelled boxes and points. See `faceum.evaluate` for published protocols.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from faceum.data.augment import NO_AUGMENTATION
from faceum.data.mixture import Batch, MixtureDataset
from faceum.data.sources import Data
from faceum.decode import decode_ages, decode_class_map, sigmoid
from faceum.metrics.age import age_scores
from faceum.metrics.attributes import attribute_scores
from faceum.metrics.expression import class_scores
from faceum.metrics.landmarks import landmark_scores
from faceum.metrics.parsing import image_confusion, parsing_scores
from faceum.metrics.verification import roc
from faceum.model.network import FaceUM
from faceum.tasks import ATTRIBUTES, EXPRESSIONS, PARSING_CLASSES
from faceum.train.config import RunConfig
from faceum.train.objective import ROUTING, Objective

ROWS = 32
"""Faces per batch."""


class HeldOut:
    """Held-out faces; calling it with a network returns its numbers.

    "score", the higher the better, is minus the mean of the tasks' losses with the recipe's weights. A task
    without a loss there (recognition without a teacher) has its metric only.
    """

    def __init__(self, config: RunConfig, data: Data, network: FaceUM, parsing_weight_C: Tensor) -> None:
        self.config = replace(config, weighting="fixed", margin=None)
        self.objective = Objective(self.config, parsing_weight_C)
        self.batches: list[Batch] = []
        for spec, tasks in network.config.crops:
            answered = [task for task in tasks if task in network.config.tasks]
            for source, faces in data.faces.items():
                settings = config.sources[source]
                if not len(faces) or not set(settings.tasks) & set(answered):
                    continue
                for start in range(0, len(faces), ROWS):
                    rows = faces[start : start + ROWS]
                    alone = {source: replace(settings, batch_size=len(rows), augment=NO_AUGMENTATION)}
                    self.batches.append(
                        MixtureDataset({source: rows}, alone, spec=spec, seed=0, batches=1, tasks=answered)[0]
                    )

    @torch.no_grad()
    def __call__(self, network: FaceUM, projection: Mapping[str, Tensor] | None = None) -> dict[str, float]:
        """Return a network's losses, metrics and score; projection: that of the run's distillation loss."""
        device = next(network.parameters()).device
        self.objective.to(device)
        if projection is not None:
            self.objective.distillation.load_state_dict(projection)
        losses: dict[str, list[tuple[float, int]]] = {}
        answers: dict[str, list[np.ndarray]] = {}
        labels: dict[str, list[np.ndarray]] = {}
        for batch in self.batches:
            here = batch.to(device)
            tasks = tuple(here.has_label)
            if not tasks:
                continue
            has_label_TB = torch.stack([here.has_label[task] for task in tasks])
            output = network(here.crop_BCHW.float() / 255, here.face_tokens_BN, tasks, has_label_TB)
            for name, loss in self.objective(output, here).items():
                if name in ROUTING or (name == "recognition" and not here.labels[name].any()):
                    continue
                losses.setdefault(name, []).append((float(loss), len(here.labels[name])))
            for task in tasks:
                answers.setdefault(task, []).append(_answer(task, output[task], here.labels[task]))
                label = here.identity if task == "recognition" else here.labels[task]
                labels.setdefault(task, []).append(label.cpu().numpy())
        values = {
            name: sum(loss * rows for loss, rows in each) / sum(rows for _, rows in each)
            for name, each in losses.items()
        }
        values["score"] = -float(
            self.objective.total({k: torch.tensor(v) for k, v in values.items()}, values)
        )
        for task in answers:
            values |= METRICS[task](np.concatenate(answers[task]), np.concatenate(labels[task]))
        return values


def _answer(task: str, answer: Tensor, label: Tensor) -> np.ndarray:
    """Return the decoded answer, as the task's metric expects it."""
    values = answer.float().cpu().numpy()
    if task == "age":
        return np.array([age.years for age in decode_ages(values)])
    if task == "attributes":
        return sigmoid(values)
    if task == "parsing":
        return np.stack([decode_class_map(logits, label.shape[-1]) for logits in values])
    return values


def _recognition(embedding_BD: np.ndarray, person_B: np.ndarray) -> dict[str, float]:
    """Return the area under the ROC over all pairs of faces with a known identity."""
    known_B = person_B >= 0
    unit_BD = embedding_BD[known_B] / np.linalg.norm(embedding_BD[known_B], axis=1, keepdims=True)
    a, b = np.triu_indices(len(unit_BD), 1)
    same = person_B[known_B][a] == person_B[known_B][b]
    if not same.any() or same.all():
        return {}
    return {"verification_auc": float(roc(2 - 2 * (unit_BD @ unit_BD.T)[a, b], same).area)}


def _parsing(class_Bhw: np.ndarray, label_Bhw: np.ndarray) -> dict[str, float]:
    pairs = zip(class_Bhw, label_Bhw, strict=True)
    confusions = np.stack([image_confusion(ours, true, len(PARSING_CLASSES)) for ours, true in pairs])
    return {"parsing_f1": float(parsing_scores(confusions, PARSING_CLASSES).mean_f1 or 0.0)}


METRICS = {
    "recognition": _recognition,
    "age": lambda years, true: {"age_mae": age_scores(years, true).mae},
    "attributes": lambda p, true: {"attributes_accuracy": attribute_scores(p, true, ATTRIBUTES).accuracy},
    "expression": lambda logits, votes: {
        "expression_accuracy": class_scores(logits.argmax(1), votes.argmax(1), EXPRESSIONS).accuracy
    },
    "parsing": _parsing,
    "landmarks": lambda points, true: {"landmarks_nme": landmark_scores(points, true).nme},
}
"""Task -> function that returns its simple metric."""
