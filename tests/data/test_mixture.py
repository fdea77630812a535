"""The stream of batches: seeded, every row once an epoch, the same from any worker and after any break."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from faceum.crop import CropSpec
from faceum.data.augment import NO_AUGMENTATION
from faceum.data.face import LabelledFace
from faceum.data.mixture import Batch, MixtureDataset, SourceConfig
from faceum.errors import DataError
from faceum.tasks import TASKS
from faceum.train.loop import batches

SPEC = CropSpec(policy="similarity", size=32, grid=2)


def numbered(source: str, count: int, first: int = 0) -> list[LabelledFace]:
    """Faces whose age is their number, on images of that gray."""
    return [
        LabelledFace(
            id=str(number),
            source=source,
            image=np.full((40, 40, 3), first + number, np.uint8),
            box=np.array([5, 5, 35, 38], np.float32),
            points5=None,
            labels={"age": np.array(first + number, np.float32)},
        )
        for number in range(count)
    ]


FACES = {"few": numbered("few", 5), "many": numbered("many", 12, 100)}
SHARES = {"few": SourceConfig(batch_size=2), "many": SourceConfig(batch_size=3, augment=NO_AUGMENTATION)}


def mixture(seed: int = 1, count: int = 40) -> MixtureDataset:
    return MixtureDataset(FACES, SHARES, spec=SPEC, seed=seed, batches=count)


def ages(batch: Batch) -> list[int]:
    return [int(age) for age in batch.labels["age"]]


def same(one: Batch, other: Batch) -> bool:
    """Whether two batches hold the same values throughout."""
    tensors = [
        [
            b.crop_BCHW,
            b.face_tokens_BN,
            b.identity,
            b.eye_distance,
            b.landmark_weight,
            *b.labels.values(),
            *b.has_label.values(),
        ]
        for b in (one, other)
    ]
    return list(one.labels) == list(other.labels) and all(map(torch.equal, *tensors))


def test_every_row_comes_once_an_epoch_and_each_epoch_in_another_order() -> None:
    stream = mixture()
    seen = [age for number in range(len(stream)) for age in ages(stream[number])]
    for source, faces, every in (("few", FACES["few"], 80), ("many", FACES["many"], 120)):
        expected = {int(face.labels["age"]) for face in faces}
        of_source = [age for age in seen if age in expected]
        assert len(of_source) == every
        epochs = [of_source[at : at + len(faces)] for at in range(0, every - len(faces) + 1, len(faces))]
        assert all(set(epoch) == expected and len(epoch) == len(expected) for epoch in epochs), source
        assert len({tuple(epoch) for epoch in epochs}) > 1


def test_batch_depends_on_the_seed_and_its_number_alone() -> None:
    forwards, backwards = mixture(), mixture()
    expected = [forwards[number] for number in range(20)]
    for number in reversed(range(20)):
        assert same(backwards[number], expected[number])
    assert same(mixture(count=7)[5], expected[5]), "nor on how many there are"
    assert not same(mixture(seed=2)[5], expected[5])


def test_face_is_augmented_differently_each_time() -> None:
    stream = MixtureDataset(
        {"one": numbered("one", 1, 90)}, {"one": SourceConfig(batch_size=2)}, spec=SPEC, seed=0, batches=3
    )
    batch = stream[0]
    assert not torch.equal(batch.crop_BCHW[0], batch.crop_BCHW[1])
    assert not torch.equal(batch.crop_BCHW, stream[1].crop_BCHW)


def test_sources_are_together_in_the_order_of_the_mixture() -> None:
    batch = mixture()[3]
    assert batch.crop_BCHW.shape == (5, 3, 32, 32) and batch.crop_BCHW.dtype == torch.uint8
    assert batch.face_tokens_BN.shape == (5, 4) and batch.face_tokens_BN.dtype == torch.bool
    assert [age >= 100 for age in ages(batch)] == [False, False, True, True, True]
    assert batch.crop_BCHW[2:, :, 16, 16].tolist() == [[age] * 3 for age in ages(batch)[2:]], (
        "their own images"
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_the_stream_that_one_process_gives(workers: int) -> None:
    order = range(4, 12)
    for alone, together in zip(batches(mixture(), order, 0), batches(mixture(), order, workers), strict=True):
        assert same(alone, together)


def test_streams_start_leaves_torchs_random_numbers_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    next(batches(mixture(), range(3), 0))
    assert torch.equal(torch.get_rng_state(), before)


def test_labels_are_gathered_for_the_faces_that_have_them(landmarks68: np.ndarray) -> None:
    labels = {
        "age": np.array(30, np.float32),
        "attributes": np.arange(40) % 2 == 0,
        "expression_votes": np.arange(8, dtype=np.float32),
        "parsing": np.ones((200, 200), np.uint8),
        "landmarks68": landmarks68,
        "embedding": np.frombuffer(bytes(range(256)), np.int8),
        "identity": np.array(7),
    }
    base = {"image": np.zeros((200, 200, 3), np.uint8), "box": np.array([40, 40, 160, 180], np.float32)}
    faces = {
        "all": [LabelledFace(id="0", source="all", points5=None, labels=labels, **base)],
        "taught": [
            LabelledFace(
                id="1",
                source="taught",
                points5=None,
                labels={"landmarks68": landmarks68},
                rough_landmarks=True,
                **base,
            )
        ],
        "none": [LabelledFace(id="2", source="none", points5=None, labels={}, **base)],
    }
    batch = MixtureDataset(
        faces, {name: SourceConfig(batch_size=1) for name in faces}, spec=SPEC, seed=0, batches=1
    )[0]
    assert tuple(batch.has_label) == tuple(batch.labels) == tuple(TASKS)
    for task, expected in batch.has_label.items():
        assert expected.tolist() == [True, task == "landmarks", False]
    shapes = {task: tuple(value.shape) for task, value in batch.labels.items()}
    assert shapes == {
        "recognition": (1, 256),
        "age": (1,),
        "attributes": (1, 40),
        "expression": (1, 8),
        "parsing": (1, 32, 32),
        "landmarks": (2, 68, 2),
    }
    assert batch.landmark_weight.tolist() == pytest.approx([1, 0.3])
    assert batch.eye_distance.shape == (2,)


def test_task_without_labels_in_a_batch_is_not_asked() -> None:
    assert tuple(mixture()[0].has_label) == ("age",)


def test_empty_source_gives_a_sentence() -> None:
    for faces in ({"few": []}, {}):
        with pytest.raises(DataError, match="few"):
            MixtureDataset(faces, {"few": SourceConfig(batch_size=1)}, spec=SPEC, seed=0, batches=1)


def test_all_rows_take_part_where_a_batch_is_larger_than_its_source() -> None:
    stream = MixtureDataset(
        {"few": FACES["few"]}, {"few": SourceConfig(batch_size=12)}, spec=SPEC, seed=0, batches=5
    )
    counts = Counter(age for number in range(5) for age in ages(stream[number]))
    assert set(counts.values()) == {12}
