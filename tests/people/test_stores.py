"""Both stores of a gallery keep, find, change and remove the same records."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from faceum.errors import GalleryError
from faceum.people.records import Binding, Sample
from faceum.people.store import Store

Vectors = Callable[..., np.ndarray]
MakeSample = Callable[..., Sample]


@pytest.fixture
def fill(store: Store, unit_vectors: Vectors, make_sample: MakeSample) -> Vectors:
    """The function `fill(people, each=2)` enrolls people and returns their vectors (people, each, D)."""

    def fill_store(people: int, each: int = 2) -> np.ndarray:
        vectors = unit_vectors(people * each)
        store.add(
            [
                make_sample(f"person {row // each:03d}", f"key {row}", vector, source=f"{row}.jpg")
                for row, vector in enumerate(vectors)
            ]
        )
        return vectors.reshape(people, each, -1)

    return fill_store


def test_empty_gallery_answers(
    open_store: Callable[[], Store], unit_vectors: Vectors, binding: Binding
) -> None:
    store = open_store()
    assert store.binding() is None
    assert store.counts() == (0, 0)
    assert store.people() == []
    assert store.nearest(unit_vectors(2), 3) == [[], []]
    assert all(finding.ok for finding in store.check())


def test_samples_come_back_as_they_were(
    store: Store, make_sample: MakeSample, unit_vectors: Vectors, binding: Binding
) -> None:
    vector = unit_vectors(1)[0]
    assert store.add(
        [make_sample("Ada", "a", vector, source="ada.jpg", quality=0.25, crop=b"\xff\xd8\x00")]
    ) == [True]
    (sample,) = store.samples("Ada", crops=True)
    assert (sample.person, sample.key, sample.source, sample.quality) == ("Ada", "a", "ada.jpg", 0.25)
    assert (sample.model, sample.crop) == (binding.model, b"\xff\xd8\x00")
    assert np.array_equal(sample.vector, vector)
    assert store.samples("Ada")[0].crop is None


def test_first_binding_holds(store: Store, binding: Binding) -> None:
    assert store.bind(Binding(model="other@2", dim=64)) == binding
    assert store.binding() == binding


@pytest.mark.parametrize("dim", [63, 65])
def test_vector_of_another_length_is_refused(
    store: Store, dim: int, make_sample: MakeSample, unit_vectors: Vectors
) -> None:
    with pytest.raises(GalleryError, match="test@1"):
        store.add([make_sample("Ada", "a", unit_vectors(1, dim=dim)[0])])


def test_one_sample_that_does_not_fit_keeps_its_whole_batch_out(
    store: Store, make_sample: MakeSample, unit_vectors: Vectors
) -> None:
    good, bad = unit_vectors(1)[0], unit_vectors(1)[0][:3]
    with pytest.raises(GalleryError):
        store.add([make_sample("Ada", "a", good), make_sample("Ada", "b", bad)])
    assert store.counts() == (0, 0)


def test_sample_is_kept_once(store: Store, make_sample: MakeSample, unit_vectors: Vectors) -> None:
    vector = unit_vectors(1)[0]
    assert store.add([make_sample("Ada", "a", vector)] * 2) == [True, False]
    assert store.add([make_sample("Ada", "a", vector), make_sample("Bob", "a", vector)]) == [False, True]
    assert store.counts() == (2, 2)


def test_nearest_people_are_those_of_the_slow_way(store: Store, fill: Vectors, unit_vectors: Vectors) -> None:
    vectors = fill(40, each=3).astype(np.float64)
    probes = unit_vectors(5, seed=9)
    cosines = np.einsum("pd,ned->pne", probes.astype(np.float64), vectors).max(axis=2)
    for row, found in zip(cosines, store.nearest(probes, 4), strict=True):
        best = np.argsort(-row)[:4]
        assert [one.name for one in found] == [f"person {number:03d}" for number in best]
        assert [one.cosine for one in found] == pytest.approx(row[best], abs=2e-3)


def test_more_people_may_be_asked_for_than_there_are(
    store: Store, fill: Vectors, unit_vectors: Vectors
) -> None:
    fill(3, each=4)
    (found,) = store.nearest(unit_vectors(1, seed=3), 10)
    assert sorted(one.name for one in found) == ["person 000", "person 001", "person 002"]


def test_changes_of_another_connection_are_seen(
    open_store: Callable[[], Store],
    store: Store,
    fill: Vectors,
    make_sample: MakeSample,
    unit_vectors: Vectors,
) -> None:
    vectors = fill(3)
    other = open_store()
    assert other.nearest(vectors[1, :1], 1)[0][0].name == "person 001"
    store.rename("person 001", "Ada")
    assert other.nearest(vectors[1, :1], 1)[0][0].name == "Ada"
    store.add([make_sample("Bob", "new", unit_vectors(1, seed=5)[0])])
    assert other.nearest(unit_vectors(1, seed=5), 1)[0][0].name == "Bob"
    store.remove("Ada")
    assert "Ada" not in {one.name for one in other.nearest(vectors[1, :1], 9)[0]}


def test_people_are_listed_by_name(store: Store, fill: Vectors) -> None:
    fill(3)
    assert [(one.name, one.samples) for one in store.people()] == [
        ("person 000", 2), ("person 001", 2), ("person 002", 2)
    ]  # fmt: skip


def test_person_gets_another_name(store: Store, fill: Vectors) -> None:
    fill(2)
    store.rename("person 000", "Ada")
    assert [one.name for one in store.people()] == ["Ada", "person 001"]
    with pytest.raises(GalleryError, match="merge"):
        store.rename("Ada", "person 001")


def test_removed_person_is_gone(store: Store, fill: Vectors) -> None:
    vectors = fill(3)
    assert store.remove("person 001") == 2
    store.erase()
    assert store.counts() == (2, 4)
    assert "person 001" not in {one.name for one in store.nearest(vectors[1, :1], 9)[0]}
    assert all(finding.ok for finding in store.check())


def test_merging_moves_samples_and_drops_repeats(
    store: Store, make_sample: MakeSample, unit_vectors: Vectors
) -> None:
    first, second, third = unit_vectors(3)
    store.add([make_sample("Ada", "a", first), make_sample("Ada L.", "a", first)])
    store.add([make_sample("Ada L.", "b", second), make_sample("Bob", "c", third)])
    assert store.merge("Ada L.", "Ada") == 1
    assert [(one.name, one.samples) for one in store.people()] == [("Ada", 2), ("Bob", 1)]
    assert store.nearest(second[None], 1)[0][0].name == "Ada"
    with pytest.raises(GalleryError):
        store.merge("Ada", "Ada")


@pytest.mark.parametrize("call", ["samples", "remove", "rename", "merge"])
def test_unknown_person_is_named_with_the_nearest(
    store: Store, call: str, make_sample: MakeSample, unit_vectors: Vectors
) -> None:
    store.add([make_sample("Ada", "a", unit_vectors(1)[0])])
    with pytest.raises(GalleryError, match="'Ada'"):
        getattr(store, call)("Adda", *(["Bob"] if call in ("rename", "merge") else []))
