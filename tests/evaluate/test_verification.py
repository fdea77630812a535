"""Verification of faces whose embeddings are known: the fake network's is the mean colour."""

from dataclasses import replace

import numpy as np
import pytest

from faceum.data.pairs import Pairs
from faceum.errors import DataError
from faceum.evaluate.samples import cut_faces
from faceum.evaluate.verification import embed, evaluate_verification, mask_rows, turn_pairs

COLOURS = {"red1": (200, 10, 10), "red2": (220, 30, 20), "blue1": (10, 10, 200), "blue2": (30, 20, 220)}


def embeddings(toy, runner, rows=None, detector=None):
    rows = rows or [toy.row(name, colour) for name, colour in COLOURS.items()]
    return embed(runner, cut_faces(rows, runner, detector, task="recognition", tight=False))


def pairs(*entries: tuple[int, str, str, bool]) -> Pairs:
    fold, a, b, same = zip(*entries, strict=True)
    return Pairs(fold=np.array(fold), a=np.array(a, object), b=np.array(b, object), same=np.array(same, bool))


RIGHT = (
    (0, "red1", "red2", True),
    (0, "red1", "blue1", False),
    (1, "blue1", "blue2", True),
    (1, "red2", "blue2", False),
)


def test_embedding_is_the_sum_with_the_mirror(toy, runner):
    one = toy.row("a", 0)
    one.image[:, :50], one.image[:, 50:] = (200, 0, 0), (0, 100, 0)
    known = embeddings(toy, runner, [one])
    expected = np.array([200, 100, 0]) / np.hypot(200, 100)
    assert known.vectors["a"][:3] == pytest.approx(expected, abs=0.02)
    assert np.linalg.norm(known.vectors["a"]) == pytest.approx(1)
    turned = replace(one, image=np.ascontiguousarray(one.image[:, ::-1]))
    assert embeddings(toy, runner, [turned]).vectors["a"] == pytest.approx(known.vectors["a"], abs=0.02)


def test_pairs_that_colours_tell_apart(toy, runner):
    known = embeddings(toy, runner)
    result = evaluate_verification(known, known, pairs(*RIGHT), "toy")
    assert result.scores["accuracy"].value == 100
    assert result.scores["equal_error"].value == 0
    assert result.scores["roc_area"].value == pytest.approx(100)
    assert result.found == {"given": 4}
    assert "accuracy_with_set_box" not in result.scores
    assert result.scores["equal_error"].high == 0
    assert result.scores["roc_area"].low == pytest.approx(100)
    assert "tar_at_far_0.001" not in result.scores
    assert any("too few pairs of different people" in note for note in result.notes)
    assert len(result.tables[0].rows) == 2


def test_wrong_label_costs_its_pair(toy, runner):
    known = embeddings(toy, runner)
    wrong = (*RIGHT, (0, "red1", "red2", False), (1, "blue1", "blue2", False))
    result = evaluate_verification(known, known, pairs(*wrong), "toy")
    assert result.scores["accuracy"].value == pytest.approx(100 * 4 / 6)
    assert {example.caption[:10] for example in result.worst[:3]} == {"two people", "one person"}


def test_missed_faces_count_as_wrong_pairs(toy, runner):
    known = embeddings(toy, runner, detector=toy.Detector())
    result = evaluate_verification(known, known, pairs(*RIGHT), "toy")
    assert result.found == {"missed": 4}
    assert result.scores["accuracy"].value == 0
    assert result.scores["accuracy_with_set_box"].value == 100


def test_one_missed_face_costs_the_pairs_that_hold_it(toy, runner):
    known = embeddings(toy, runner)
    known.found["red2"] = "missed"
    more = (*RIGHT, (0, "blue1", "blue2", True), (1, "red1", "blue2", False))
    result = evaluate_verification(known, known, pairs(*more), "toy")
    assert result.found == {"given": 3, "missed": 1}
    assert next(iter(result.scores)) == "accuracy"
    assert result.scores["accuracy"].value == pytest.approx(200 / 3)
    assert result.scores["accuracy_with_set_box"].value == 100
    # One of three pairs of one person is never accepted, and one of three others never, either.
    assert result.scores["equal_error"].value == pytest.approx(100 / 3)
    assert any("2 of 6 pairs" in note for note in result.notes)


def test_groups_are_those_that_both_faces_share(toy, runner):
    genders = {"red1": 0, "red2": 0, "blue1": 1, "blue2": 0}
    rows = [toy.row(name, colour, gender=genders[name]) for name, colour in COLOURS.items()]
    known = embeddings(toy, runner, rows)
    result = evaluate_verification(known, known, pairs(*RIGHT), "toy")
    assert [cells[:3] for cells in result.tables[2].rows] == [("male", 2, 100.0)]


def test_unknown_faces_and_lost_embeddings_give_sentences(toy, runner):
    known = embeddings(toy, runner)
    with pytest.raises(DataError, match="lacks 1 face .*green1"):
        evaluate_verification(known, known, pairs(*RIGHT, (0, "red1", "green1", False)))
    with pytest.raises(DataError, match="The embedding of black is NaN or zero"):
        embeddings(toy, runner, [toy.row("black", 0)])


def test_masks_are_painted_the_same_way_each_time(toy):
    rows = [toy.row("b", 120), toy.row("c", 120)]
    points = {name: toy.landmarks68() for name in "abc"}
    first, second = (list(mask_rows(rows, points, seed=3)) for _ in range(2))
    assert [one.id for one in first] == ["b", "c"]
    assert all((one.image == two.image).all() for one, two in zip(first, second, strict=True))
    assert (first[0].image != rows[0].image).any()
    assert (first[0].image != first[1].image).any()
    (alone,) = mask_rows(rows[1:], points, seed=3)
    assert (alone.image == first[1].image).all()
    (other,) = mask_rows(rows[1:], points, seed=4)
    assert (other.image != first[1].image).any()


def test_masks_hang_on_what_points_there_are(toy):
    labelled = toy.row("b", 120, landmarks68=toy.landmarks68())
    (by_file,) = mask_rows([toy.row("b", 120)], {"b": toy.landmarks68()})
    (by_label,) = mask_rows([labelled], {})
    (by_five,) = mask_rows([toy.row("b", 120)], {})
    assert (by_label.image == by_file.image).all()
    assert (by_five.image != by_label.image).any() and (by_five.image != labelled.image).any()
    with pytest.raises(DataError, match="b has no landmarks"):
        list(mask_rows([replace(labelled, points5=None, labels={})], {}))


def test_masks_are_painted_by_detected_points(toy):
    bare = replace(toy.row("b", 120), points5=None)
    (by_five,) = mask_rows([toy.row("b", 120)], {})
    (by_detector,) = mask_rows([bare], {}, 0, toy.Detector(toy.detection()))
    assert np.abs(by_detector.image.astype(int) - by_five.image).max() <= 8  # float32 points
    unpainted: list[str] = []
    (missed,) = mask_rows([bare], {}, 0, toy.Detector(), unpainted)
    assert unpainted == ["b"] and (missed.image == bare.image).all()


def test_seed_and_the_faces_choose_the_masked_side(toy):
    many = pairs(*((fold, f"a{n}", f"b{n}", n % 2 == 0) for n, fold in enumerate([0, 1] * 50)))
    sides = turn_pairs(many, seed=1)
    turned = sides.a != many.a
    assert 30 < turned.sum() < 70
    assert (sides.b[turned] == many.a[turned]).all() and (sides.b[~turned] == many.b[~turned]).all()
    assert (sides.same == many.same).all() and (sides.fold == many.fold).all()
    assert (turn_pairs(many, seed=2).a != sides.a).any()
    few = pairs(*((0, f"a{n}", f"b{n}", True) for n in (7, 3)))
    assert turn_pairs(few, seed=1).a.tolist() == sides.a[[7, 3]].tolist()
