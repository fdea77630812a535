"""Layer 3. Labelled faces of many sources -> one seeded stream of training batches that can be resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from faceum.crop import CropSpec
from faceum.data.augment import AugmentConfig, TrainingCrop, augment
from faceum.data.corpus import LabelledFace
from faceum.errors import DataError
from faceum.tasks import TASKS

LABEL_OF_TASK = {
    "recognition": "embedding",
    "age": "age",
    "attributes": "attributes",
    "expression": "expression_votes",
    "parsing": "parsing",
    "landmarks": "landmarks",
}
"""Which label of a face trains which task."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """How one source takes part: faces of it in every batch, and how its crops are augmented."""

    count: int
    augment: AugmentConfig = AugmentConfig()


@dataclass(frozen=True)
class Batch:
    """A training batch; every source's faces stand together, in the order of the mixture.

    crop_BCHW: uint8 RGB. face_mask_BN: bool. wanted: task -> (B,) bool, True where its label is known.
    labels: task -> the labels of its wanted faces, in order. eye_distance, landmark_weight: of the
    faces with landmarks, see TrainingCrop.
    """

    crop_BCHW: torch.Tensor
    face_mask_BN: torch.Tensor
    wanted: dict[str, torch.Tensor]
    labels: dict[str, torch.Tensor]
    eye_distance: torch.Tensor
    landmark_weight: torch.Tensor


class Mixture(Dataset[Batch]):
    """Batch number -> Batch. Each source is walked in a new random order each epoch of its own.

    What a batch holds depends on (seed, batch number) alone: any worker can make it, and a run resumed at
    batch n sees what the uninterrupted one saw.
    """

    def __init__(
        self,
        faces: Mapping[str, Sequence[LabelledFace]],
        shares: Mapping[str, Share],
        *,
        spec: CropSpec,
        seed: int,
        batches: int,
    ) -> None:
        for source in shares:
            if not faces.get(source):
                raise DataError(f"The mixture asks for {source}, which has no faces; drop it or fill it.")
        self.faces, self.shares, self.spec = faces, shares, spec
        self.seed, self.batches = seed, batches
        self._orders: dict[str, tuple[int, np.ndarray]] = {}

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, number: int) -> Batch:
        crops = []
        for place, (source, share) in enumerate(self.shares.items()):
            for slot in range(share.count):
                index = number * share.count + slot
                face = self.faces[source][self._row(source, place, index)]
                rng = np.random.default_rng((self.seed, place, index))
                crops.append(augment(face, self.spec, share.augment, rng))
        return collate(crops)

    def _row(self, source: str, place: int, index: int) -> int:
        """The index-th face that a source gives: a fresh permutation every time it is used up."""
        epoch, within = divmod(index, len(self.faces[source]))
        if source not in self._orders or self._orders[source][0] != epoch:
            order = np.random.default_rng((self.seed, place, epoch, 1)).permutation(len(self.faces[source]))
            self._orders[source] = (epoch, order)
        return int(self._orders[source][1][within])


def collate(crops: Sequence[TrainingCrop]) -> Batch:
    """Training crops -> one Batch."""
    wanted, labels = {}, {}
    for task in TASKS:
        known = [LABEL_OF_TASK[task] in crop.labels for crop in crops]
        if any(known):
            wanted[task] = torch.tensor(known)
            values = [crop.labels[LABEL_OF_TASK[task]] for crop, k in zip(crops, known, strict=True) if k]
            labels[task] = torch.from_numpy(np.stack(values))
    pointed = [crop for crop in crops if "landmarks" in crop.labels]
    images = torch.from_numpy(np.stack([crop.image for crop in crops]))
    return Batch(
        crop_BCHW=images.permute(0, 3, 1, 2),
        face_mask_BN=torch.from_numpy(np.stack([crop.face_mask_N for crop in crops])),
        wanted=wanted,
        labels=labels,
        eye_distance=torch.tensor([crop.eye_distance for crop in pointed], dtype=torch.float32),
        landmark_weight=torch.tensor([crop.landmark_weight for crop in pointed], dtype=torch.float32),
    )
