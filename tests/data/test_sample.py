from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from faceum.data.sample import Sample, check_sample, keep_valid
from faceum.errors import DataError
from faceum.tasks import ATTRIBUTES

GOOD = Sample(
    id="a1",
    source="made",
    image=Path("folder/a1.jpg"),
    box=np.array([1.0, 2.0, 30.0, 40.0]),
    points5=np.ones((5, 2)),
    age=30,
    gender=1,
    attributes=np.zeros(40, bool),
    expression_votes=np.eye(8)[0],
    parsing=lambda: np.full((4, 4), 18, np.uint8),
    landmarks68=np.ones((68, 2)),
    identity="someone",
)


def test_right_labels_and_missing_ones_pass():
    check_sample(GOOD)
    check_sample(Sample(id="a2", source="made", image=b""))
    for kind in (np.uint8, np.float32, object):
        check_sample(replace(GOOD, attributes=np.array([0, 1] * 20, kind)))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"age": 300}, "age is 300"),
        ({"age": float("nan")}, "age is nan"),
        ({"age": -1}, "age is -1"),
        ({"gender": 2}, "gender is 2"),
        ({"attributes": np.zeros(39, bool)}, "39 attributes; expected 40"),
        ({"attributes": np.full(40, 7)}, "attributes hold values other than 0 and 1"),
        ({"attributes": np.array([-1] + [1] * 39)}, "attributes hold values other"),
        ({"attributes": np.array([np.nan] + [1] * 39)}, "attributes hold values other"),
        ({"attributes": np.array([None] + [True] * 39)}, "attributes hold values other"),
        ({"expression_votes": np.zeros(8)}, "all zero"),
        ({"expression_votes": np.zeros(7)}, "7 expressions; expected 8"),
        ({"expression_votes": np.array([1, -1, 0, 0, 0, 0, 0, 0])}, "negative"),
        ({"landmarks68": np.ones((67, 2))}, "67 landmarks; expected 68"),
        ({"landmarks68": np.full((68, 2), np.nan)}, "landmarks hold NaN"),
        ({"points5": np.ones((4, 2))}, "4 points; expected 5"),
        ({"embedding": np.ones(255)}, "255 numbers; expected 256"),
        ({"embedding": np.full(256, np.nan)}, "holds NaN"),
        ({"embedding": np.zeros(256, np.int8)}, "only zeros"),
        ({"box": np.array([30, 2, 1, 40])}, "reversed"),
        ({"box": np.array([1, 2, np.inf, 40])}, "not four finite"),
        ({"parsing": lambda: np.full((4, 4), 19, np.uint8)}, "class 19; classes are 0 to 18"),
        ({"parsing": lambda: np.zeros((4, 4, 3), np.uint8)}, "one class id"),
    ],
)
def test_wrong_labels_are_named_with_their_file(wrong, sentence):
    with pytest.raises(DataError, match=rf"^folder/a1\.jpg: (its|it).*{re.escape(sentence)}.*\.$"):
        check_sample(replace(GOOD, **wrong))


@pytest.mark.parametrize(
    ("labels", "known"),
    [
        ({}, None),
        ({"gender": 0}, {"Male": 1}),
        ({"gender": 1, "smile": True}, {"Male": 0, "Smiling": 1}),
        ({"smile": False}, {"Smiling": 0}),
    ],
)
def test_gender_and_smile_are_attributes(labels, known):
    sample = Sample(id="a", source="made", image=b"", **labels)
    assert sample.has_label("attributes") == (known is not None)
    if known is None:
        assert sample.partial_attributes is None
    else:
        values = zip(ATTRIBUTES, sample.partial_attributes, strict=True)
        assert {name: value for name, value in values if value >= 0} == known


def test_all_attributes_are_taken_before_gender():
    sample = Sample(id="a", source="made", image=b"", attributes=np.ones(40, bool), gender=1)
    assert (sample.partial_attributes == 1).all()


def test_wrong_samples_are_skipped_or_refused_as_asked():
    samples = [GOOD, replace(GOOD, age=300), GOOD]
    skipped: list[str] = []
    assert list(keep_valid(samples, refuse=False, skipped=skipped)) == [GOOD, GOOD]
    assert len(skipped) == 1 and "300" in skipped[0]
    with pytest.raises(DataError, match="300"):
        list(keep_valid(samples, refuse=True, skipped=[]))


def test_read_returns_rgb_or_names_file(tmp_path, put):
    red = np.zeros((8, 9, 3), np.uint8)
    red[..., 2] = 255  # OpenCV writes blue first
    path = put(tmp_path / "red.png", red)
    assert (replace(GOOD, image=path).read() == [255, 0, 0]).all()
    assert (replace(GOOD, image=path.read_bytes()).read() == [255, 0, 0]).all()
    with pytest.raises(DataError, match="made a1"):
        replace(GOOD, image=b"no image").read()
    with pytest.raises(DataError, match="gone.jpg"):
        replace(GOOD, image=tmp_path / "gone.jpg").read()
