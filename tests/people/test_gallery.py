"""A gallery enrolls, finds, judges and removes people."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from faceum.errors import FaceumError, GalleryError, ModelError
from faceum.image import read_image, write_image
from faceum.people.gallery import Gallery, default_url, open_store
from faceum.people.sources import image_key, people_folders
from faceum.results import Face, Result
from faceum.weights.quality import QualityFit
from faceum.weights.thresholds import MatchRate, Thresholds

DIM = 48


class FakeAnalyzer:
    """Reads a person's number from an image's colour: red is the person, green turns the embedding a little.

    Blue counts the faces of the image.
    """

    model_id = "fake@1"

    def __init__(self, measured: Thresholds | None = None) -> None:
        self._measured = measured

    def thresholds(self) -> Thresholds:
        """The thresholds it was made with."""
        if self._measured is None:
            raise ModelError("This network has no thresholds.")
        return self._measured

    def analyze(self, source: object) -> Result:
        """The faces of one image."""
        image = read_image(source)
        red, green, blue = (int(value) for value in image[0, 0])
        faces = [self._face(red + n, green) for n in range(blue)]
        name = str(source) if isinstance(source, (str, Path)) else None
        return Result(source=name, width=image.shape[1], height=image.shape[0], faces=faces, image=image)

    def analyze_many(self, sources: Iterable[object], *, keep_images: bool = False) -> Iterator[Result]:
        """One result per image."""
        for source in sources:
            try:
                yield self.analyze(source)
            except FaceumError as error:
                yield Result(source=str(source), error=str(error))

    def _face(self, person: int, turn: int) -> Face:
        embedding = np.zeros(DIM, np.float32)
        angle = turn / 100
        embedding[person % 40] = math.cos(angle)
        embedding[40 + turn % 8] = math.sin(angle)
        points = np.array([[20, 20], [40, 20], [30, 32], [22, 42], [38, 42]], np.float32)
        return Face(
            box=np.array([10, 8, 50, 56], np.float32),
            points5=points,
            embedding=embedding,
            model=self.model_id,
            quality=None if self._measured is None or self._measured.quality is None else 0.4 + 0.2 * turn,
        )


@pytest.fixture
def measured() -> Thresholds:
    """A threshold of 0.5 at 1e-2 and 0.1 more a decade."""
    rates = tuple(
        MatchRate(fmr=10.0**-n, cosine=0.3 + 0.1 * n, tmr=0.9, tmr_low=0.8, tmr_high=1.0) for n in range(1, 5)
    )
    return Thresholds(set="drawn", people=9, same_pairs=10, different_pairs=10**6, rates=rates)


@pytest.fixture
def gallery(gallery_url: str, measured: Thresholds) -> Iterator[Gallery]:
    """An empty gallery in each kind of store."""
    with Gallery(gallery_url, analyzer=FakeAnalyzer(measured)) as opened:
        yield opened


def photo(person: int, turn: int = 0, faces: int = 1) -> np.ndarray:
    """An image in which the fake analyzer finds so many faces."""
    return np.full((64, 64, 3), (person, turn, faces), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of three people with two images each, one crowd, one wall and one file that is no image."""
    root = tmp_path / "people"
    for number, name in enumerate(("Ada", "Bob", "Cleo")):
        for turn in range(2):
            write_image(root / name / f"{turn}.png", photo(number, turn))
    write_image(root / "Bob" / "crowd.png", photo(1, faces=3))
    write_image(root / "Cleo" / "more" / "wall.png", photo(2, faces=0))
    (root / "Ada" / "broken.jpg").write_bytes(b"no image")
    (root / "Ada" / "notes.txt").write_text("not an image's name")
    write_image(root / ".hidden" / "x.png", photo(9))
    return root


def test_enrolled_people_are_found(gallery: Gallery) -> None:
    assert [one.added for one in gallery.enroll("Ada", [photo(0), photo(0, 10)])] == [True, True]
    gallery.enroll("Bob", photo(1))
    (found,) = gallery.search(photo(0, 20))
    assert found.name == "Ada"
    assert [one.name for one in found.candidates] == ["Ada", "Bob"]
    assert found.candidates[0].cosine == pytest.approx(math.cos(0.2), abs=2e-3)
    assert (found.people, found.samples) == (2, 3)
    assert found.box is not None


def test_stranger_is_unknown(gallery: Gallery) -> None:
    gallery.enroll("Ada", photo(0))
    (found,) = gallery.search(photo(7))
    assert found.name == "unknown"
    assert [(one.name, one.same) for one in found.candidates] == [("Ada", False)]


def test_empty_gallery_knows_nobody(gallery: Gallery) -> None:
    (found,) = gallery.search(photo(0))
    assert (found.name, found.candidates) == ("unknown", ())
    assert gallery.people() == []


def test_threshold_is_that_of_the_whole_gallery(gallery: Gallery, measured: Thresholds) -> None:
    gallery.enroll("Ada", [photo(0, turn) for turn in range(10)])
    (found,) = gallery.search(photo(1), fmr=0.01)
    assert found.pair_fmr == pytest.approx(0.001, rel=0.01)
    assert found.threshold == pytest.approx(0.6, abs=1e-3)
    assert 1 - (1 - found.pair_fmr) ** 10 == pytest.approx(0.01)


def test_every_face_of_an_image_is_searched(gallery: Gallery) -> None:
    gallery.enroll("Ada", photo(0))
    gallery.enroll("Cleo", photo(2))
    assert [one.name for one in gallery.search(photo(0, faces=3))] == ["Ada", "unknown", "Cleo"]
    assert gallery.search(photo(0, faces=0)) == []


def test_without_thresholds_nobody_is_judged(gallery_url: str) -> None:
    with Gallery(gallery_url, analyzer=FakeAnalyzer()) as gallery:
        gallery.enroll("Ada", photo(0))
        (found,) = gallery.search(photo(0))
    assert (found.name, found.threshold) == ("unknown", None)
    assert found.candidates[0].cosine == pytest.approx(1, abs=1e-3)


def test_folder_is_imported_and_bad_images_are_named(gallery: Gallery, folder: Path) -> None:
    enrolled = list(gallery.import_folder(folder))
    assert sum(one.added for one in enrolled) == 6
    problems = {Path(one.source or "").name: one.problem for one in enrolled if one.problem}
    assert set(problems) == {"broken.jpg", "crowd.png", "wall.png"}
    assert "3 faces" in str(problems["crowd.png"]) and "no face" in str(problems["wall.png"])
    assert [(one.name, one.samples) for one in gallery.people()] == [("Ada", 2), ("Bob", 2), ("Cleo", 2)]


def test_importing_again_adds_nothing(gallery: Gallery, folder: Path) -> None:
    list(gallery.import_folder(folder))
    again = list(gallery.import_folder(folder, largest=True))
    assert [Path(one.source or "").name for one in again if one.added] == ["crowd.png"]


def test_a_face_of_too_low_a_quality_is_refused(gallery: Gallery, measured: Thresholds, folder: Path) -> None:
    with pytest.raises(GalleryError, match="No quality was measured for fake@1"):
        gallery.enroll("Ada", [], min_quality=0.5)
    fit = QualityFit(fmr=1e-3, pairs=9, intercept=0.0, signals={})
    gallery.analyzer._measured = measured.with_quality(fit)  # type: ignore[attr-defined]
    images = [folder / "Ada" / "0.png", folder / "Ada" / "1.png"]
    blurred, clear = gallery.enroll("Ada", images, min_quality=0.5)
    assert not blurred.added and "quality is 0.40, below 0.5" in str(blurred.problem)
    assert clear.added and [one.quality for one in gallery.samples("Ada")] == [pytest.approx(0.6)]
    with pytest.raises(GalleryError, match="none reaches 2"):
        gallery.enroll("Ada", images, min_quality=2)


def test_folders_are_walked_by_name(folder: Path, tmp_path: Path) -> None:
    found = [(name, path.name) for name, path in people_folders(folder)]
    assert ("Cleo", "wall.png") in found and ("Ada", "broken.jpg") in found
    assert not {"notes.txt", "x.png"} & {name for _, name in found}
    for wrong in (tmp_path / "absent", folder / "Bob"):
        with pytest.raises(GalleryError):
            list(people_folders(wrong))


def test_another_network_is_refused(gallery: Gallery) -> None:
    gallery.enroll("Ada", photo(0))
    gallery.analyzer.model_id = FakeAnalyzer.model_id + "x"  # type: ignore[misc]
    with pytest.raises(GalleryError, match=r"fake@1 .*fake@1x"):
        gallery.search(photo(0))
    with pytest.raises(GalleryError, match="fake@1x"):
        gallery.enroll("Ada", photo(0, 5))
    assert [one.name for one in gallery.doctor() if not one.ok] == ["thresholds"]


def test_crops_are_kept_only_when_asked(gallery_url: str, measured: Thresholds) -> None:
    for keep in (False, True):
        with Gallery(gallery_url, analyzer=FakeAnalyzer(measured), keep_crops=keep) as gallery:
            gallery.enroll("Ada", photo(0, turn=int(keep)))
    with Gallery(gallery_url, analyzer=FakeAnalyzer(measured)) as gallery:
        first, second = gallery.samples("Ada", crops=True)
    assert first.crop is None
    image = cv2.imdecode(np.frombuffer(second.crop or b"", np.uint8), cv2.IMREAD_COLOR)
    assert image is not None and image.shape == (160, 160, 3)


def test_gallery_moves_by_a_file(gallery: Gallery, folder: Path, tmp_path: Path) -> None:
    list(gallery.import_folder(folder))
    file = tmp_path / "out" / "people.npz"
    assert gallery.export(file) == 6
    assert file.stat().st_mode & 0o077 == 0
    with Gallery(tmp_path / "other.sqlite", analyzer=FakeAnalyzer()) as other:
        assert sum(one.added for one in other.import_file(file)) == 6
        assert sum(one.added for one in other.import_file(file)) == 0
        for person in gallery.people():
            here, there = gallery.samples(person.name), other.samples(person.name)
            assert [one.to_dict() | {"id": 0} for one in here] == [one.to_dict() | {"id": 0} for one in there]
            assert all(np.array_equal(a.vector, b.vector) for a, b in zip(here, there, strict=True))


def test_file_that_was_not_exported_is_refused(gallery: Gallery, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"nothing")
    with pytest.raises(GalleryError, match=r"x\.npz"):
        list(gallery.import_file(tmp_path / "x.npz"))
    with pytest.raises(GalleryError, match="npz"):
        gallery.export(tmp_path / "x.csv")


def test_doctor_finds_a_sound_gallery_sound(gallery: Gallery) -> None:
    gallery.enroll("Ada", photo(0))
    gallery.enroll("Bob", photo(1))
    gallery.merge("Bob", "Ada")
    gallery.rename("Ada", "Ada Lovelace")
    assert gallery.remove("Ada Lovelace") == 2
    assert [one for one in gallery.doctor(repair=True) if not one.ok] == []


@pytest.mark.parametrize("name", ["", "  ", "a\nb", None])
def test_person_needs_a_name(gallery: Gallery, name: object) -> None:
    with pytest.raises(GalleryError, match="name"):
        gallery.enroll(name, photo(0))  # type: ignore[arg-type]


@pytest.mark.parametrize(("k", "fmr"), [(0, 0.01), (1, 0.0), (1, 1.0)])
def test_search_that_cannot_be_is_refused(gallery: Gallery, k: int, fmr: float) -> None:
    gallery.enroll("Ada", photo(0))
    with pytest.raises(FaceumError):
        gallery.search(photo(0), k, fmr=fmr)


def test_environment_names_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FACEUM_GALLERY", "named.sqlite")
    assert default_url() == "named.sqlite"
    monkeypatch.delenv("FACEUM_GALLERY")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_url() == str(tmp_path / "faceum" / "people.sqlite")


def test_addresses_of_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GalleryError, match="mysql"):
        open_store("mysql://host/people")
    store = open_store(f"sqlite:///{tmp_path}/a.sqlite")
    assert store.url == f"{tmp_path}/a.sqlite"
    store.close()


def test_image_has_one_key_whatever_its_name(tmp_path: Path) -> None:
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in paths:
        write_image(path, photo(1))
    assert image_key(paths[0]) == image_key(paths[1]) == image_key(paths[0].read_bytes())
    assert image_key(photo(1)) != image_key(photo(2)) != image_key(photo(2).reshape(32, 128, 3))


def test_two_faces_of_one_network_are_judged(
    measured: Thresholds, unit_vectors: Callable[..., np.ndarray]
) -> None:
    from faceum.match import match_faces

    vectors = unit_vectors(2).astype(np.float32)
    a, b = (Face(box=np.zeros(4), embedding=vector, model="x@1") for vector in vectors)
    other = match_faces(a, b, measured, 1e-3)
    assert (match_faces(a, a, measured, 1e-3).same, other.same) == (True, False)
    assert (other.threshold, other.fmr, other.tmr) == (pytest.approx(0.6), 1e-3, pytest.approx(0.9))
    assert "Different people" in str(other) and "1 in 1,000" in str(other) and "10.0 %" in str(other)
    with pytest.raises(ModelError):
        match_faces(a, Face(box=np.zeros(4), embedding=vectors[1], model="y@1"), measured)
