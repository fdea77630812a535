"""Drawn faces: always the same, every label there, and what the labels say is what can be seen."""

from __future__ import annotations

import numpy as np
import pytest

from faceum.data.face import read_face, training_labels
from faceum.data.sample import Sample, check_sample
from faceum.data.synthetic import draw_face, read_generated
from faceum.errors import DataError
from faceum.tasks import ATTRIBUTES, EXPRESSIONS, PARSING_CLASSES, TASKS

FACES = list(read_generated("60", "train"))


def has(sample: Sample, attribute: str) -> bool:
    return bool(sample.attributes[ATTRIBUTES.index(attribute)])


def part(sample: Sample, name: str) -> np.ndarray:
    """Where a part is, as (row, column) pairs."""
    return np.argwhere(sample.parsing() == PARSING_CLASSES.index(name))


def test_name_always_gives_the_same_face_and_splits_differ() -> None:
    again, other = draw_face("train-3"), draw_face("val-3")
    assert again.image == FACES[3].image and (again.landmarks68 == FACES[3].landmarks68).all()
    assert other.image != again.image


def test_every_face_has_every_label_and_all_are_right() -> None:
    for sample in FACES:
        check_sample(sample)
        known = {task.label for task in TASKS.values()} - {"embedding"} | {"identity"}
        assert set(training_labels(read_face(sample))) == known
    assert {int(sample.expression_votes.argmax()) for sample in FACES} == set(range(len(EXPRESSIONS)))
    assert len({sample.identity for sample in FACES}) > 10


@pytest.mark.parametrize(
    ("attribute", "name"), [("Eyeglasses", "eye_g"), ("Wearing_Hat", "hat"), ("Wearing_Necklace", "neck_l")]
)
def test_worn_things_are_in_the_parsing(attribute: str, name: str) -> None:
    worn = [has(sample, attribute) for sample in FACES]
    seen = [len(part(sample, name)) > 0 for sample in FACES]
    assert worn == seen and 3 < sum(worn) < 55


def test_masks_and_points_lie_in_one_place() -> None:
    for sample in FACES:
        for name, points in (("r_eye", slice(36, 42)), ("l_eye", slice(42, 48)), ("nose", slice(27, 36))):
            places = part(sample, name)[:, ::-1] + 0.5
            if name == "nose" or not has(sample, "Eyeglasses"):
                assert np.abs(places.mean(0) - sample.landmarks68[points].mean(0)).max() < 3.5, name


def test_smile_lifts_the_corners() -> None:
    def lift(sample: Sample) -> float:
        middle = sample.landmarks68[[51, 57]].mean(0)
        return float((middle - sample.landmarks68[[48, 54]].mean(0))[1])

    smiling = [lift(sample) for sample in FACES if has(sample, "Smiling")]
    sad = [lift(sample) for sample in FACES if sample.expression_votes[EXPRESSIONS.index("sadness")]]
    assert smiling and sad and min(smiling) > 0 > max(sad)


def test_hair_turns_gray_with_age() -> None:
    assert all(has(sample, "Gray_Hair") == (sample.age > 50) for sample in FACES)


def test_number_of_faces_is_required() -> None:
    with pytest.raises(DataError, match="path=512"):
        next(read_generated("some/folder"))
