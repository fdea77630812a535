"""Find the labelled faces of a set with the detector, cut them, and run the network on them.

A set's box only says which face of the image is labelled: the crop comes from the detector's box and points,
as in use. If the detector does not find the face, the crop comes from the set's box. That is a miss, except
in a set whose images are cut too tightly to detect in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from faceum.crop import Crop, CropSpec, are_spread_out, crop_face, points5_from_landmarks
from faceum.data.face import find_labelled
from faceum.decode import decode_answers
from faceum.errors import DataError

if TYPE_CHECKING:
    from faceum.data.face import LabelledFace
    from faceum.detect.base import Detector
    from faceum.runner import Runner

BATCH = 32
"""Faces in one call of the network."""

SOURCES = {
    "detector": "found by our detector",
    "given": "cut by the set's own box",
    "missed": "not found by our detector",
}
"""Value of `CutFace.found` -> what it means."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CutFace:
    """A face ready for the network, and what is known of it.

    id: its name in the set. crop: see `faceum.crop`. truth: its labels, as in `LabelledFace`.
    found: a key of `SOURCES`; the crop of a missed face is cut by the set's box or points, or is the image
    where the set has neither.
    image: (H, W, 3) uint8 RGB, the image, None where it is not kept (no example can be drawn then).
    """

    id: str
    crop: Crop
    truth: Mapping[str, Any]
    found: str = "given"
    image: np.ndarray | None = None


def cut_faces(
    rows: Iterable[LabelledFace], runner: Runner, detector: Detector | None, *, task: str, tight: bool
) -> Iterator[CutFace]:
    """Yield one face per row, in order, cut as the network takes faces for `task`.

    detector: None cuts every face by the set's box. tight: whether the set's images are cut too tightly to
    detect in, so that a face that is not found counts as "given", not as "missed".
    """
    spec = runner.card.crop_of(task)
    for row in rows:
        found = None if detector is None else find_labelled(detector, row.image, row.box)
        if found is not None:
            crop = crop_face(row.image, spec, found.box, found.points5)
        else:
            crop = _crop_by_label(row, runner, spec)
        yield CutFace(
            id=row.id,
            crop=crop,
            truth=row.labels,
            found="detector" if found else "given" if tight or detector is None else "missed",
            image=row.image,
        )


def answers(
    runner: Runner, samples: Iterable[CutFace], task: str, batch: int = BATCH
) -> Iterator[tuple[CutFace, Any]]:
    """Yield each sample with the network's decoded answer to `task`, a field of `faceum.results.Face`.

    Raises DataError naming the first face whose answer is not finite.
    """
    for group in batches(samples, batch):
        outputs = run(runner, [sample.crop for sample in group], task)
        finite = np.isfinite(outputs[task]).reshape(len(group), -1).all(axis=1)
        if not finite.all():
            raise DataError(
                f"The network's answer to {task} holds NaN or infinity for {group[int(finite.argmin())].id}; "
                "a score over it would mean nothing, so check the weights."
            )
        card = runner.card
        decoded = decode_answers(outputs, [one.crop for one in group], card.labels, card.calibration)
        for sample, answer in zip(group, decoded, strict=True):
            yield sample, next(iter(answer.values()))


def run(runner: Runner, crops: list[Crop], task: str) -> dict[str, np.ndarray]:
    """Return the network's raw output for one task on B crops."""
    images = np.stack([crop.image for crop in crops])
    return runner.run(images, np.stack([crop.face_tokens_N for crop in crops]), (task,))


def batches(samples: Iterable[CutFace], size: int = BATCH) -> Iterator[list[CutFace]]:
    """Yield lists of `size` samples, the last one as long as what is left."""
    left = iter(samples)
    while group := list(islice(left, size)):
        yield group


def mirror_crop(crop: Crop, spec: CropSpec) -> Crop:
    """Return the mirrored crop: its pixels and face tokens are flipped, its matrices are unchanged."""
    mask = crop.face_tokens_N.reshape(spec.grid, spec.grid)[:, ::-1]
    return Crop(
        image=np.ascontiguousarray(crop.image[:, ::-1]),
        matrix=crop.matrix,
        inverse=crop.inverse,
        face_tokens_N=mask.ravel(),
    )


def _crop_by_label(row: LabelledFace, runner: Runner, spec: CropSpec) -> Crop:
    """Cut by the set's points, or, if only the box is known, by the points that the network predicts."""
    if row.points5 is not None or "landmarks" not in runner.card.tasks or spec.policy == "box":
        return crop_face(row.image, spec, row.place, row.points5)
    rough = crop_face(row.image, runner.card.crop_of("landmarks"), row.place)
    (answer,) = decode_answers(run(runner, [rough], "landmarks"), [rough])
    points5 = points5_from_landmarks(answer["landmarks"])
    return crop_face(row.image, spec, row.place, points5 if are_spread_out(points5, row.place) else None)
