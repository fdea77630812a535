"""A recipe's sources: any reader, wrong labels named, persons numbered, pictures decoded now or later."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import faceum.data.sources as sources
from faceum.data.generated import draw_face, read_generated
from faceum.data.mixture import Share
from faceum.data.sample import Sample
from faceum.data.sources import read_sources
from faceum.errors import DataError

SHARE = Share(count=1, reader="generated", path="12")


def test_lazy_and_decoded_faces_are_the_same() -> None:
    now = read_sources({"drawn": SHARE}, "")
    later = read_sources({"drawn": replace(SHARE, lazy=True)}, "")
    assert now.fingerprint == later.fingerprint and now.fingerprint["drawn"]["faces"] == 12
    assert len(later.faces["drawn"][2:7]) == 5
    for one, other in zip(now.faces["drawn"], later.faces["drawn"], strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert one.labels.keys() == other.labels.keys() and "identity" not in one.labels


def test_people_are_numbered_over_all_sources() -> None:
    data = read_sources({"a": SHARE, "b": replace(SHARE, path="20")}, "", people=True)
    numbers = [int(face.labels["identity"]) for faces in data.faces.values() for face in faces]
    assert set(numbers) == set(range(data.people))
    drawn = [sample.identity for sample in read_generated("12")]
    assert len(set(zip(drawn, numbers, strict=False))) == len(set(drawn)), "one number a person"
    assert not set(numbers[:12]) & set(numbers[12:]), "sources name people apart"


def test_people_of_a_source_that_does_not_train_recognition_are_not_counted() -> None:
    shares = {"a": SHARE, "b": replace(SHARE, path="20", tasks=("age",))}
    data = read_sources(shares, "", people=True)
    assert data.people == read_sources({"a": SHARE}, "", people=True).people > 0
    assert all("identity" not in face.labels for face in data.faces["b"])


@pytest.fixture
def wrong(monkeypatch: pytest.MonkeyPatch) -> list[Sample]:
    """A reader of two good samples among ones that cannot be right."""
    good = draw_face("good")
    samples = [
        good,
        replace(good, id="old", age=300.0),
        replace(good, id="short", landmarks68=good.landmarks68[:67]),
        replace(good, id="class19", mask=lambda: np.full((96, 96), 19, np.uint8)),
        replace(good, id="silent", expression_votes=np.zeros(8)),
        replace(good, id="broken", picture=b"no picture"),
        replace(good, id="lost", picture=Path("no/such.png")),
        replace(good, id="last"),
    ]
    monkeypatch.setattr(sources, "read_dataset", lambda reader, path, split: iter(samples))
    return samples


def test_wrong_labels_are_named_and_skipped(wrong: list[Sample]) -> None:
    data = read_sources({"drawn": SHARE}, "")
    assert len(data.faces["drawn"]) == 2
    told = "\n".join(data.skipped)
    for said in (
        "old: its age is 300",
        "67 landmarks",
        "class 19",
        "all zero",
        "generated broken",
        "no/such.png",
    ):
        assert said in told
    assert len(data.skipped) == 6


def test_or_the_first_is_refused(wrong: list[Sample]) -> None:
    with pytest.raises(DataError, match="old: its age is 300"):
        read_sources({"drawn": SHARE}, "", refuse=True)
    del wrong[1:5]
    with pytest.raises(DataError, match="generated broken"):
        read_sources({"drawn": SHARE}, "", refuse=True)


def test_pictures_of_the_other_split_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = {"train": [draw_face("a"), draw_face("b"), draw_face("c")], "val": [draw_face("b")]}
    monkeypatch.setattr(sources, "read_dataset", lambda reader, path, split: iter(splits[split]))
    apart = read_sources({"drawn": SHARE}, "", apart_from="val")
    assert apart.fingerprint["drawn"]["faces"] == 2
    assert read_sources({"drawn": SHARE}, "").fingerprint["drawn"]["faces"] == 3


def test_the_fingerprint_tells_of_any_label() -> None:
    account, other = sources._Account(), sources._Account()
    list(account.told(iter([draw_face("a")])))
    list(other.told(iter([replace(draw_face("a"), age=31.5)])))
    assert account.to_dict()["sha256"] != other.to_dict()["sha256"]
    assert account.to_dict()["mask"] == 1
