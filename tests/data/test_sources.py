"""A recipe's sources: any reader, wrong labels named, persons numbered, images decoded now or later."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import faceum.data.sources as sources
from faceum.data.mixture import SourceConfig
from faceum.data.pack import pack
from faceum.data.sample import Sample
from faceum.data.sources import has_split, read_sources
from faceum.data.synthetic import draw_face, read_generated
from faceum.datasets.recordio import Record
from faceum.datasets.registry import read_dataset
from faceum.errors import DataError

SHARE = SourceConfig(batch_size=1, reader="generated", path="12")


def test_lazy_and_decoded_faces_are_the_same() -> None:
    now = read_sources({"drawn": SHARE}, "", read_dataset)
    later = read_sources({"drawn": replace(SHARE, lazy=True)}, "", read_dataset)
    assert now.fingerprint == later.fingerprint and now.fingerprint["drawn"]["faces"] == 12
    assert len(later.faces["drawn"][2:7]) == 5
    for one, other in zip(now.faces["drawn"], later.faces["drawn"], strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        assert one.labels.keys() == other.labels.keys() and "identity" not in one.labels


def test_people_are_numbered_over_all_sources() -> None:
    data = read_sources({"a": SHARE, "b": replace(SHARE, path="20")}, "", read_dataset, people=True)
    numbers = [int(face.labels["identity"]) for faces in data.faces.values() for face in faces]
    assert set(numbers) == set(range(data.people))
    drawn = [sample.identity for sample in read_generated("12")]
    assert len(set(zip(drawn, numbers, strict=False))) == len(set(drawn)), "one number a person"
    assert not set(numbers[:12]) & set(numbers[12:]), "sources name people apart"


def test_people_of_a_source_that_does_not_train_recognition_are_not_counted() -> None:
    shares = {"a": SHARE, "b": replace(SHARE, path="20", tasks=("age",))}
    data = read_sources(shares, "", read_dataset, people=True)
    assert data.people == read_sources({"a": SHARE}, "", read_dataset, people=True).people > 0
    assert all("identity" not in face.labels for face in data.faces["b"])


def reader_of(**splits: list[Sample]) -> sources.ReadDataset:
    """A function that reads these samples, by split, whatever the data set."""
    return lambda name, path, split: iter(splits[split])


@pytest.fixture
def wrong() -> list[Sample]:
    """Two good samples among ones that cannot be right."""
    good = draw_face("good")
    return [
        good,
        replace(good, id="old", age=300.0),
        replace(good, id="short", landmarks68=good.landmarks68[:67]),
        replace(good, id="class19", parsing=lambda: np.full((96, 96), 19, np.uint8)),
        replace(good, id="silent", expression_votes=np.zeros(8)),
        replace(good, id="broken", image=b"no image"),
        replace(good, id="lost", image=Path("no/such.png")),
        replace(good, id="last"),
    ]


def test_wrong_labels_are_named_and_skipped(wrong: list[Sample]) -> None:
    data = read_sources({"drawn": SHARE}, "", reader_of(train=wrong))
    assert len(data.faces["drawn"]) == 2
    reported = "\n".join(data.skipped)
    for said in (
        "old: its age is 300",
        "67 landmarks",
        "class 19",
        "all zero",
        "generated broken",
        "no/such.png",
    ):
        assert said in reported
    assert len(data.skipped) == 6


def test_or_the_first_is_refused(wrong: list[Sample]) -> None:
    with pytest.raises(DataError, match="old: its age is 300"):
        read_sources({"drawn": SHARE}, "", reader_of(train=wrong), refuse=True)
    del wrong[1:5]
    with pytest.raises(DataError, match="generated broken"):
        read_sources({"drawn": SHARE}, "", reader_of(train=wrong), refuse=True)


def test_images_of_the_other_split_are_left_out() -> None:
    splits = {"train": [draw_face("a"), draw_face("b"), draw_face("c")], "val": [draw_face("b")]}
    apart = read_sources({"drawn": SHARE}, "", reader_of(**splits), apart_from="val")
    assert apart.fingerprint["drawn"]["faces"] == 2
    assert read_sources({"drawn": SHARE}, "", reader_of(**splits)).fingerprint["drawn"]["faces"] == 3


def test_source_without_the_other_split_is_taken_whole(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    pack(read_generated("6"), tmp_path / "drawn.train.parquet")
    config = SourceConfig(batch_size=1)
    assert has_split("drawn", config, tmp_path, "train") and not has_split("drawn", config, tmp_path, "val")
    data = read_sources({"drawn": config}, tmp_path, read_dataset, apart_from="val")
    assert data.fingerprint["drawn"]["faces"] == 6


def test_fingerprint_tells_of_any_label() -> None:
    account, other = sources._Fingerprint(), sources._Fingerprint()
    list(account.follow(iter([draw_face("a")])))
    list(other.follow(iter([replace(draw_face("a"), age=31.5)])))
    assert account.to_dict()["sha256"] != other.to_dict()["sha256"]
    assert account.to_dict()["parsing"] == 1


def test_fingerprint_tells_of_images_in_files(tmp_path: Path) -> None:
    def print_of(*images: Path | Record) -> str:
        account = sources._Fingerprint()
        list(account.follow(replace(draw_face("a"), image=one) for one in images))
        return account.to_dict()["sha256"]

    paths = [tmp_path / "one" / "a.jpg", tmp_path / "moved" / "a.jpg", tmp_path / "one" / "b.jpg"]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"image")
    first, moved, other = map(print_of, paths)
    assert first == moved, "the folder may move"
    assert first != other
    paths[0].write_bytes(b"other")
    assert print_of(paths[0]) == first, "files are not opened"
    paths[0].write_bytes(b"a larger one")
    larger = print_of(paths[0])
    paths[0].unlink()
    assert len({first, other, larger, print_of(paths[0])}) == 4
    records = [Record(tmp_path / "train.rec", offset, 1) for offset in (0, 64)]
    assert print_of(records[0]) != print_of(records[1])


@pytest.fixture
def folder(tmp_path: Path, put: Callable[..., Path]) -> Path:
    """Faces of five ages, of which the second's image is missing, the third's empty, the fourth's none."""
    for name in ("1_0_0_a.jpg", "2_0_0_b.jpg", "3_0_0_c.jpg", "4_0_0_d.jpg", "5_0_0_e.jpg"):
        put(tmp_path / name)
    (tmp_path / "2_0_0_b.jpg").unlink()
    (tmp_path / "2_0_0_b.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "3_0_0_c.jpg").write_bytes(b"")
    (tmp_path / "4_0_0_d.jpg").write_bytes(b"no image")
    return tmp_path


def utkface(folder: Path) -> dict[str, SourceConfig]:
    return {"made": SourceConfig(batch_size=1, reader="utkface", path=str(folder), split="all", lazy=True)}


def test_images_of_lazy_shares_are_missed_at_the_start(folder: Path) -> None:
    data = read_sources(utkface(folder), "", read_dataset)
    assert len(data.faces["made"]) == data.fingerprint["made"]["faces"] == 3
    missing, empty = data.skipped
    assert "2_0_0_b.jpg cannot be read (No such file or directory); bring the image back" in missing
    assert "3_0_0_c.jpg is empty; bring the image back" in empty
    with pytest.raises(DataError, match=r"2_0_0_b\.jpg cannot be read"):
        read_sources(utkface(folder), "", read_dataset, refuse=True)


def test_bytes_of_lazy_sources_are_missed_at_the_start() -> None:
    samples = [draw_face("a"), replace(draw_face("b"), image=b"")]
    data = read_sources({"drawn": replace(SHARE, lazy=True)}, "", reader_of(train=samples))
    assert len(data.faces["drawn"]) == 1 and "generated b is empty" in data.skipped[0]


def test_undecodable_image_is_replaced_by_next(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    faces = read_sources(utkface(folder), "", read_dataset).faces["made"]
    ages = [int(faces[index].labels["age"]) for index in (1, 1, -2, 2, 1)]
    assert ages == [5, 5, 5, 5, 5]
    assert [record.name for record in caplog.records] == ["faceum"], "one warning an image"
    assert "4_0_0_d.jpg" in caplog.text and "The next image that can be read replaces it" in caplog.text
    (folder / "5_0_0_e.jpg").write_bytes(b"no image")
    assert int(faces[1].labels["age"]) == int(faces[2].labels["age"]) == 1, "after the last comes the first"
    assert int(faces[1:2][0].labels["age"]) == 1, "of a part of the faces, too"
    assert len(caplog.records) == 2
    (folder / "1_0_0_a.jpg").unlink()
    with pytest.raises(DataError, match=r"1_0_0_a\.jpg on \(3 tried\)"):
        faces[0]
    with pytest.raises(IndexError):
        faces[3]


def test_disk_that_is_gone_ends_the_drawing(caplog: pytest.LogCaptureFixture) -> None:
    lost = [replace(draw_face("a"), id=str(place), image=Path(f"no/{place}.png")) for place in range(300)]
    with pytest.raises(DataError, match=r"no/250\.png on \(100 tried\)"):
        sources.LazyFaces(lost)[250]
    assert len(caplog.records) == 100


def test_or_it_is_refused(folder: Path) -> None:
    for name in ("2_0_0_b.jpg", "3_0_0_c.jpg"):
        (folder / name).unlink()
    faces = read_sources(utkface(folder), "", read_dataset, refuse=True).faces["made"]
    with pytest.raises(DataError, match=r"4_0_0_d\.jpg"):
        faces[1]
    with pytest.raises(DataError, match=r"4_0_0_d\.jpg"):
        faces[1:][0]
