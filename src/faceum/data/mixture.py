"""Labelled faces of many sources -> one seeded stream of training batches that can be resumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch.utils.data import Dataset

from faceum.crop import CropSpec
from faceum.data.augment import AugmentConfig, TrainingCrop, augment
from faceum.data.corpus import LabelledFace
from faceum.data.sample import EMBEDDING
from faceum.errors import DataError
from faceum.tasks import ATTRIBUTES, EXPRESSIONS, TASKS

LABEL_OF_TASK = {
    "recognition": "embedding",
    "age": "age",
    "attributes": "attributes",
    "expression": "expression_votes",
    "parsing": "parsing",
    "landmarks": "landmarks",
}
"""Which label of a face trains which task; recognition learns from `identity`, too."""

NO_TEACHER = np.zeros(EMBEDDING, np.int8)
"""Stands for a teacher's embedding where there is none."""


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """How one source takes part.

    batch_size: faces of it in every batch, of all ranks together. augment: how its crops are augmented.
    reader: a name in data.registry, "generated" among them; None for the corpus.
    path: the data set's folder; the recipe's `data` where empty. split: which part of it trains.
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
    """A training batch; every source's faces stand together, in the order of the mixture.

    crop_BCHW: uint8 RGB. face_tokens_BN: bool. has_label: task -> (B,) bool, True where its label is known.
    labels: task -> the labels of its has_label faces, in order; recognition's are a teacher's embeddings, zero
    where only the person is known. identity: the number of the person of those faces, -1 where it is not
    known. eye_distance, landmark_weight: of the faces with landmarks, see TrainingCrop.
    """

    crop_BCHW: torch.Tensor
    face_tokens_BN: torch.Tensor
    has_label: dict[str, torch.Tensor]
    labels: dict[str, torch.Tensor]
    identity: torch.Tensor
    eye_distance: torch.Tensor
    landmark_weight: torch.Tensor

    def to(self, device: torch.device) -> Batch:
        """The same on another device, but for `has_label`, from which the network counts its rows on the CPU."""
        return self._with(lambda one: one.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """The same in memory that a GPU can fetch from by itself; DataLoader asks for it by this name."""
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
    """Batch number -> Batch. Each source is walked in a new random order each epoch of its own.

    What a batch holds depends on (seed, batch number) alone: any worker can make it, and a run resumed at
    batch n sees what the uninterrupted one saw. Of R ranks, rank r makes every R-th face of it, from the
    r-th on, so that no two have the same and all together have what one alone would have had.
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
        """spec: the crop policy, of the tasks that are trained. ranks: this one's number, and how many."""
        for source in sources:
            if not faces.get(source):
                raise DataError(f"The mixture asks for {source}, which has no faces; drop it or fill it.")
        self.faces, self.sources, self.spec = faces, sources, spec
        self.seed, self.batches, self.ranks = seed, batches, ranks
        self.tasks = {source: set(share.tasks) & set(tasks) for source, share in sources.items()}
        self._orders: dict[str, tuple[int, np.ndarray]] = {}
        count = sum(share.batch_size for source, share in sources.items() if self.tasks[source])
        if count < ranks[1]:
            raise DataError(f"{count} faces a batch cannot be shared by {ranks[1]} ranks; raise the sources.")

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, number: int) -> Batch:
        crops, rank, ranks, seen = [], *self.ranks, 0
        for place, (source, share) in enumerate(self.sources.items()):
            if not self.tasks[source]:
                continue
            for slot in range(share.batch_size):
                index = number * share.batch_size + slot
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
        has_label = {LABEL_OF_TASK[task] for task in self.tasks[source]}
        has_label |= {"identity"} if "recognition" in self.tasks[source] else set()
        return replace(crop, labels={name: crop.labels[name] for name in crop.labels if name in has_label})

    def _row(self, source: str, place: int, index: int) -> int:
        """The index-th face that a source gives: a fresh permutation every time it is used up."""
        epoch, within = divmod(index, len(self.faces[source]))
        if source not in self._orders or self._orders[source][0] != epoch:
            order = np.random.default_rng((self.seed, place, epoch, 1)).permutation(len(self.faces[source]))
            self._orders[source] = (epoch, order)
        return int(self._orders[source][1][within])


class Parts(Dataset[tuple[Batch, ...]]):
    """Batch number -> a batch a crop policy: one part for `compact`, two for `base`."""

    def __init__(self, datasets: Sequence[MixtureDataset]) -> None:
        self.datasets = datasets

    def __len__(self) -> int:
        return len(self.datasets[0])

    def __getitem__(self, number: int) -> tuple[Batch, ...]:
        return tuple(dataset[number] for dataset in self.datasets)


def collate(crops: Sequence[TrainingCrop]) -> Batch:
    """Training crops -> one Batch."""
    has_label, labels = {}, {}
    for task, label in LABEL_OF_TASK.items():
        known = [_trains(task, crop) for crop in crops]
        if any(known):
            has_label[task] = torch.tensor(known)
            values = [crop.labels.get(label, NO_TEACHER) for crop, k in zip(crops, known, strict=True) if k]
            labels[task] = torch.from_numpy(np.stack(values))
    people = [int(crop.labels.get("identity", -1)) for crop in crops if _trains("recognition", crop)]
    pointed = [crop for crop in crops if "landmarks" in crop.labels]
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


def _trains(task: str, crop: TrainingCrop) -> bool:
    return LABEL_OF_TASK[task] in crop.labels or (task == "recognition" and "identity" in crop.labels)


def with_tasks(batch: Batch, tasks: Sequence[str]) -> Batch:
    """The batch with exactly these tasks; those that it has no label of get labels of no rows.

    Ranks that share a batch must ask for the same tasks, or they would wait for each other for ever.
    """
    size = batch.crop_BCHW.shape[-1]
    shapes = {
        "recognition": NO_TEACHER.shape,
        "age": (),
        "attributes": (len(ATTRIBUTES),),
        "expression": (len(EXPRESSIONS),),
        "parsing": (size, size),
        "landmarks": (68, 2),
    }
    nobody = torch.zeros(len(batch.crop_BCHW), dtype=torch.bool, device=batch.crop_BCHW.device)
    has_label = {task: batch.has_label.get(task, nobody) for task in tasks}
    labels = {
        task: batch.labels.get(task, torch.zeros((0, *shapes[task]), device=nobody.device)) for task in tasks
    }
    return replace(batch, has_label=has_label, labels=labels)
