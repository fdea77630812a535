"""Mix labelled faces of many sources into one seeded stream of training batches that can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import Dataset

from faceum.crop import CropSpec
from faceum.data.augment import AugmentConfig, TrainingCrop, augment
from faceum.data.face import LabelledFace
from faceum.errors import DataError, count_noun
from faceum.tasks import TASKS, Task


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """How one source of a training run is used.

    batch_size: its number of faces in every batch, over all ranks. augment: how its crops are augmented.
    reader: a name in `faceum.datasets.registry`, such as "celeba" or "generated"; None for the corpus.
    path: the folder of the data set; the run's `data` if empty. split: the split to train on.
    tasks: the tasks that its labels may train.
    lazy: images stay encoded, in memory or on disk, and are decoded each time they are drawn.
    """

    batch_size: int
    augment: AugmentConfig = AugmentConfig()
    reader: str | None = None
    path: str = ""
    split: str = "train"
    tasks: tuple[str, ...] = tuple(TASKS)
    lazy: bool = False


@dataclass(frozen=True)
class Batch:
    """A training batch. The faces of a source are neighbours, in the order of the mixture.

    crop_BCHW: uint8 RGB. face_tokens_BN: bool. has_label: task -> (B,) bool, True if its label is known.
    labels: task -> the labels of its has_label faces, in order. Those of recognition are another network's
        embeddings, zero if only the person is known.
    identity: for the same faces, the number of the person, -1 if it is not known.
    eye_distance, landmark_weight: of the faces with landmarks, see TrainingCrop.
    """

    crop_BCHW: torch.Tensor
    face_tokens_BN: torch.Tensor
    has_label: dict[str, torch.Tensor]
    labels: dict[str, torch.Tensor]
    identity: torch.Tensor
    eye_distance: torch.Tensor
    landmark_weight: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """Return the batch on another device; `has_label` stays on the CPU, where its rows are counted."""
        return self._with(lambda one: one.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Return the batch in pinned memory; DataLoader calls this method by name."""
        return self._with(torch.Tensor.pin_memory)

    def _with(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        return Batch(
            crop_BCHW=change(self.crop_BCHW),
            face_tokens_BN=change(self.face_tokens_BN),
            has_label=self.has_label,
            labels={task: change(one) for task, one in self.labels.items()},
            identity=change(self.identity),
            eye_distance=change(self.eye_distance),
            landmark_weight=change(self.landmark_weight),
        )


class MixtureDataset(Dataset[Batch]):
    """Batch number -> Batch. Each source has its own epochs, each in a new random order.

    A batch depends on (seed, batch number) alone: any worker can make it, and a run resumed at batch n sees
    the batches of the uninterrupted run. Of R ranks, rank r makes every R-th face of a batch, starting with
    face r, so that together they make the batch of a single process.
    """

    def __init__(
        self,
        faces: Mapping[str, Sequence[LabelledFace]],
        sources: Mapping[str, SourceConfig],
        *,
        spec: CropSpec,
        seed: int,
        batches: int,
        tasks: Sequence[str] = tuple(TASKS),
        ranks: tuple[int, int] = (0, 1),
    ) -> None:
        """spec: the crop policy of `tasks`, the tasks to train. ranks: this rank, and the number of ranks."""
        for source in sources:
            if not faces.get(source):
                raise DataError(f"The source {source} has no faces; remove it from the recipe or add faces.")
        self.faces, self.sources, self.spec = faces, sources, spec
        self.seed, self.batches, self.ranks = seed, batches, ranks
        self.tasks = {source: set(config.tasks) & set(tasks) for source, config in sources.items()}
        self._orders: dict[str, tuple[int, np.ndarray]] = {}
        count = sum(config.batch_size for source, config in sources.items() if self.tasks[source])
        if count < ranks[1]:
            raise DataError(
                f"A batch of {count_noun(count, 'face')} cannot be split over {ranks[1]} ranks; "
                "raise a batch_size."
            )

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, number: int) -> Batch:
        crops, rank, ranks, seen = [], *self.ranks, 0
        for place, (source, config) in enumerate(self.sources.items()):
            if not self.tasks[source]:
                continue
            for slot in range(config.batch_size):
                index = number * config.batch_size + slot
                if seen % ranks == rank:
                    crops.append(self._crop(source, place, index))
                seen += 1
        return collate(crops)

    def _crop(self, source: str, place: int, index: int) -> TrainingCrop:
        face = self.faces[source][self._row(source, place, index)]
        rng = np.random.default_rng((self.seed, place, index))
        crop = augment(face, self.spec, self.sources[source].augment, rng)
        if len(self.tasks[source]) == len(TASKS):
            return crop
        columns = {column for task in self.tasks[source] for column in TASKS[task].label_columns}
        return replace(crop, labels={name: crop.labels[name] for name in crop.labels if name in columns})

    def _row(self, source: str, place: int, index: int) -> int:
        """Return the row of the index-th face that a source contributes: a new permutation in each epoch."""
        epoch, within = divmod(index, len(self.faces[source]))
        if source not in self._orders or self._orders[source][0] != epoch:
            order = np.random.default_rng((self.seed, place, epoch, 1)).permutation(len(self.faces[source]))
            self._orders[source] = (epoch, order)
        return int(self._orders[source][1][within])


class PolicyBatches(Dataset[tuple[Batch, ...]]):
    """Batch number -> one batch per crop policy: one for `compact`, two for `base`."""

    def __init__(self, datasets: Sequence[MixtureDataset]) -> None:
        self.datasets = datasets

    def __len__(self) -> int:
        return len(self.datasets[0])

    def __getitem__(self, number: int) -> tuple[Batch, ...]:
        return tuple(dataset[number] for dataset in self.datasets)


def collate(crops: Sequence[TrainingCrop]) -> Batch:
    """Stack training crops into one batch."""
    has_label, labels = {}, {}
    for name, task in TASKS.items():
        known = [_teaches(crop, task) for crop in crops]
        if any(known):
            has_label[name] = torch.tensor(known)
            labels[name] = torch.from_numpy(
                np.stack([_label(crop, task) for crop, k in zip(crops, known, strict=True) if k])
            )
    recognition = TASKS["recognition"]
    people = [int(crop.labels.get("identity", -1)) for crop in crops if _teaches(crop, recognition)]
    pointed = [crop for crop in crops if TASKS["landmarks"].label in crop.labels]
    images = torch.from_numpy(np.stack([crop.image for crop in crops]))
    return Batch(
        crop_BCHW=images.permute(0, 3, 1, 2),
        face_tokens_BN=torch.from_numpy(np.stack([crop.face_tokens_N for crop in crops])),
        has_label=has_label,
        labels=labels,
        identity=torch.tensor(people, dtype=torch.long),
        eye_distance=torch.tensor([crop.eye_distance for crop in pointed], dtype=torch.float32),
        landmark_weight=torch.tensor([crop.landmark_weight for crop in pointed], dtype=torch.float32),
    )


def with_tasks(batch: Batch, tasks: Sequence[str]) -> Batch:
    """Return the batch with exactly these tasks; those that it has no label of get labels of zero rows.

    Ranks that share a batch must ask for the same tasks, or they would wait for each other for ever.
    """
    device, size = batch.crop_BCHW.device, batch.crop_BCHW.shape[-1]
    no_face = torch.zeros(len(batch.crop_BCHW), dtype=torch.bool, device=device)
    has_label = {task: batch.has_label.get(task, no_face) for task in tasks}
    labels = {}
    for name in tasks:
        shape = [size if side is None else side for side in TASKS[name].label_shape]
        labels[name] = batch.labels.get(name, torch.zeros((0, *shape), device=device))
    return replace(batch, has_label=has_label, labels=labels)


def _teaches(crop: TrainingCrop, task: Task) -> bool:
    return any(column in crop.labels for column in task.label_columns)


def _label(crop: TrainingCrop, task: Task) -> np.ndarray:
    """Return the label; zeros if only the person is known, since there is no embedding to learn."""
    if task.label in crop.labels:
        return crop.labels[task.label]
    return np.zeros([side or crop.image.shape[0] for side in task.label_shape], task.label_dtype)
