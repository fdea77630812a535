"""Which protocols run on a set, in which order, and what they do with the detector."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from faceum.data.pack import pack
from faceum.errors import DataError
from faceum.evaluate.protocols import (
    BY_FACE,
    OF_PAIRS,
    TASK_OF,
    WHEN_REQUESTED,
    LabelledSet,
    choose_protocols,
    evaluate_set,
)
from faceum.evaluate.report import PROTOCOLS
from faceum.evaluate.sets import load_set
from faceum.evaluate.verification import turn_pairs
from faceum.tasks import PARSING_CLASSES, TASKS


def test_every_protocol_is_known_everywhere():
    assert set(TASK_OF) == set(PROTOCOLS) == set(BY_FACE) | {*OF_PAIRS, *WHEN_REQUESTED}
    assert set(TASK_OF.values()) == set(TASKS)


def test_chosen_protocols():
    available = ("age", "verification", "masked")
    assert choose_protocols(available, (), tuple(TASKS), "toy") == ["age", "verification", "masked"]
    assert choose_protocols(available, ("masked",), tuple(TASKS), "toy") == ["masked"]
    assert choose_protocols(available, (), ("age",), "toy") == ["age"]
    with pytest.raises(DataError, match="no protocol ages; choose among verification, masked"):
        choose_protocols(available, ("ages",), tuple(TASKS), "toy")
    with pytest.raises(DataError, match="on toy: its labels allow age.*requested are parsing"):
        choose_protocols(available, ("parsing",), tuple(TASKS), "toy")
    with pytest.raises(DataError, match="the network answers landmarks"):
        choose_protocols(available, (), ("landmarks",), "toy")


def test_whole_set(corpus, runner, toy):
    labelled = load_set("toy", corpus)
    done = list(evaluate_set(labelled, runner, toy.Detector(toy.detection())))
    protocols = ["verification", "masked", "stretched", "small", "age", "attributes"]
    assert [one.protocol for one in done] == protocols
    verification, _, _, _, age, attributes = done
    assert verification.scores["accuracy"].value == 100
    assert verification.found == {"detector": 8}
    # Red of 9 is read as 9 years, red of 200 as no year, which is 50; true are 9, 29, 49 and 69.
    assert age.scores["mae"].value == pytest.approx((41 + 20 + 40 + 19) / 4)
    # Bright red is read as yes (red, pink), true is yes for red and blue.
    assert attributes.scores["accuracy"].value == 50
    assert age.count == attributes.count == 8


def test_eps_error_uses_packed_age_sigma(tmp_path, runner, toy):
    faces = [
        toy.sample("a", 20, age=22, age_sigma=2.0),
        toy.sample("b", 30, age=30, age_sigma=1.0),
    ]
    pack(faces, tmp_path / "lap.val.parquet")
    (result,) = evaluate_set(load_set("lap", tmp_path), runner, None)
    assert result.scores["eps_error"].value == pytest.approx((1 - np.exp(-0.5)) / 2, abs=1e-3)
    pack([replace(face, age_sigma=None) for face in faces], tmp_path / "plain.val.parquet")
    (result,) = evaluate_set(load_set("plain", tmp_path), runner, None)  # as written before there was one
    assert result.scores["eps_error"].value is None
    wrong = replace(faces[0], age_sigma=0.0)
    with pytest.raises(DataError, match="a: its annotators' deviation is 0 years"):
        list(evaluate_set(replace(load_set("lap", tmp_path), faces=lambda: iter([wrong])), runner, None))


def test_masks_change_one_side_alone(corpus, runner, toy):
    labelled = load_set("toy", corpus)
    points = {one.id: toy.landmarks68() for one in labelled.faces()}
    masked = LabelledSet(
        name="toy",
        faces=labelled.faces,
        protocols=("verification", "masked"),
        pairs=labelled.pairs,
        landmarks=points,
    )
    plain, painted = evaluate_set(masked, runner, toy.Detector(toy.detection()))
    assert (plain.protocol, painted.protocol) == ("verification", "masked")
    sides = turn_pairs(labelled.pairs)
    assert painted.found == {"detector": len(set(sides.a)) + len(set(sides.b))}
    assert 0 < sum(sides.a != labelled.pairs.a) < len(sides)
    shown = {one.id: one.image for one in (*painted.best, *painted.worst)}
    unmasked = {one.id: one.image for one in (*plain.best, *plain.worst)}
    for name in shown.keys() & unmasked.keys():
        assert (shown[name][:, :64] == unmasked[name][:, :64]).all()
        assert (shown[name][:, 64:] != unmasked[name][:, 64:]).any()


def test_rows_without_the_label_are_left_out(runner, toy):
    faces = [toy.sample("known", 30, age=30), toy.sample("unknown", 30)]
    labelled = LabelledSet(name="toy", faces=lambda: iter(faces), protocols=("age",))
    (result,) = evaluate_set(labelled, runner, None)
    assert result.count == 1


def test_landmarks_of_another_network_are_no_truth(runner, toy):
    drawn = toy.sample("drawn", 30, landmarks68=toy.landmarks68())
    faces = [drawn, replace(drawn, id="guessed", rough_landmarks=True)]
    labelled = LabelledSet(name="toy", faces=lambda: iter(faces), protocols=("landmarks",))
    (result,) = evaluate_set(labelled, runner, None)
    assert result.count == 1


def test_limit_spreads_faces_and_pairs(corpus, runner, toy):
    ages = [toy.sample("unknown", 30), *(toy.sample(str(age), age, age=age) for age in (10, 20, 30))]
    labelled = LabelledSet(name="toy", faces=lambda: iter(ages), protocols=("age",))
    (result,) = evaluate_set(labelled, runner, None, limit=2)
    assert sorted(example.id for example in result.best) == ["10", "30"]
    verification, _, _, _, age, _ = evaluate_set(load_set("toy", corpus), runner, None, limit=4)
    assert (verification.count, verification.found) == (4, {"given": 6})
    assert age.count == 4


def test_label_that_cannot_be_right_is_named(runner, toy):
    faces = [toy.sample("fine", 30, age=30), toy.sample("wrong", 30, age=300)]
    labelled = LabelledSet(name="toy", faces=lambda: iter(faces), protocols=("age",))
    with pytest.raises(DataError, match="toy wrong: its age is 300"):
        list(evaluate_set(labelled, runner, None))


def test_aligned_images_are_cut_by_their_own_points(corpus, runner, toy):
    labelled = replace(load_set("toy", corpus), aligned=True)
    done = list(evaluate_set(labelled, runner, toy.Detector(toy.detection((60, 60)))))
    assert {tuple(one.found) for one in done} == {("given",)}


def test_set_may_know_some_classes_only(runner, toy):
    label = np.zeros((100, 100), np.uint8)
    label[30:70, 30:70] = 1
    seen = label.copy()
    seen[40:64, 40:64] = 2
    image = cv2.imencode(".png", np.stack([seen * 0, seen * 0, seen * 10], axis=-1))[1].tobytes()
    made = replace(toy.sample("a", 0, parsing=lambda: label), image=image)
    right = 1600 - 24 * 24
    f1 = 100 * 2 * right / (right + 1600)
    for known, score, mean in ((None, "f1_18", f1 / 2), ((0, 1, 2), "f1_2", f1 / 2), ((0, 1), "f1_1", f1)):
        labelled = LabelledSet(name="toy", faces=lambda: iter([made]), protocols=("parsing",), classes=known)
        (result,) = evaluate_set(labelled, runner, None)
        assert result.scores[score].value == pytest.approx(mean)
        assert len(result.curves["confusion"]["names"]) == len(known or PARSING_CLASSES)


def test_masks_need_points_or_a_detector(corpus, runner, toy):
    labelled = load_set("toy", corpus)
    bare = [replace(one, points5=None) for one in labelled.faces()]
    without = replace(labelled, faces=lambda: iter(bare), pointed=False)
    seen = evaluate_set(without, runner, toy.Detector(toy.detection()), ("masked",))
    assert [tuple(one.found) for one in seen] == [("detector",)]
    (missed,) = evaluate_set(without, runner, toy.Detector(), ("masked",))
    assert missed.scores["accuracy"].value == 0 and set(missed.found) == {"missed"}
    assert "masked" not in [one.protocol for one in evaluate_set(without, runner, None)]
    with pytest.raises(DataError, match="no landmarks to paint a mask by"):
        list(evaluate_set(without, runner, None, ("masked",)))


def test_sets_notes_and_expressions_reach_the_report(runner, toy):
    faces = [
        toy.sample("a", 0, expression_votes=np.eye(8)[0]),
        toy.sample("b", 7, expression_votes=np.eye(8)[7]),
    ]
    labelled = LabelledSet(
        name="toy",
        faces=lambda: iter(faces),
        protocols=("expression",),
        expressions=("neutral", "fear"),
        notes=("Half of it.",),
    )
    (result,) = evaluate_set(labelled, runner, None)
    assert (result.count, result.notes[0]) == (1, "Half of it.")


def test_gender_is_scored_as_the_attribute_male(runner, toy):
    """Bright is answered with yes: the bright man is right, the bright woman is wrong."""
    faces = [toy.sample("a", 200, gender=0, age=50), toy.sample("b", 200, gender=1, age=30)]
    labelled = LabelledSet(name="toy", faces=lambda: iter(faces), protocols=("attributes",))
    (result,) = evaluate_set(labelled, runner, None)
    assert result.scores["accuracy"].value == 50
    rows = {row[0]: row[2] for table in result.tables for row in table.rows}
    assert rows["male, over 40"] == 100 and rows["female, up to 40"] == 0


def test_damage_changes_one_side_alone(corpus, runner, toy):
    labelled = load_set("toy", corpus)
    stretched, small = evaluate_set(labelled, runner, None, ("stretched", "small"))
    assert (stretched.protocol, small.protocol) == ("stretched", "small")
    assert stretched.scores["accuracy"].value == 100, "one colour stays one colour"
    assert small.scores["accuracy"].value < 100, "gray is none of the colours"
    assert stretched.found == small.found == {"given": 10}, "some faces are on one side only"


def test_verification_needs_pairs(runner, toy):
    labelled = LabelledSet(name="toy", faces=lambda: iter([toy.sample("a", 30)]), protocols=("verification",))
    with pytest.raises(DataError, match="toy needs its list of pairs"):
        list(evaluate_set(labelled, runner, None))
