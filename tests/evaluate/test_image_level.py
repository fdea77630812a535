"""Age, attributes and expression of faces whose answers are known beforehand."""

import json

import numpy as np
import pytest

from faceum.errors import DataError
from faceum.evaluate.age import evaluate_age
from faceum.evaluate.attributes import evaluate_attributes
from faceum.evaluate.expression import evaluate_expression
from faceum.evaluate.samples import cut_faces
from faceum.tasks import ATTRIBUTES, EXPRESSIONS


def samples(runner, rows, task, detector=None, tight=True):
    return cut_faces(rows, runner, detector, task=task, tight=tight)


def test_age(toy, runner):
    rows = [
        toy.row("a", 20, age=20, gender=0),
        toy.row("b", 35, age=31, gender=1),
        toy.row("c", 70, age=80, gender=1),
    ]
    result = evaluate_age(runner, samples(runner, rows, "age"), "toy")
    assert result.scores["mae"].value == pytest.approx((0 + 4 + 10) / 3, abs=1e-6)
    assert result.scores["cs5"].value == pytest.approx(200 / 3)
    assert result.scores["bias"].value == pytest.approx((0 + 4 - 10) / 3, abs=1e-6)
    assert result.scores["mae_21_60"].value == pytest.approx(4, abs=1e-6)
    assert (result.count, result.found) == (3, {"given": 3})
    assert [example.id for example in result.best] == ["a", "b", "c"]
    assert [example.id for example in result.worst] == ["c", "b", "a"]
    by_age, by_gender, by_both = result.tables
    assert [cells[:2] for cells in by_age.rows] == [("20-29", 1), ("30-39", 1), ("70+", 1)]
    assert [(cells[0], cells[1], round(cells[2], 3)) for cells in by_gender.rows] == [
        ("female", 2, 7.0),
        ("male", 1, 0.0),
    ]
    both = [cells[:2] for cells in by_both.rows]
    assert both == [("female, over 40", 1), ("female, up to 40", 1), ("male, up to 40", 1)]
    json.dumps(result.to_dict())


def test_eps_error_needs_a_deviation_for_every_face(toy, runner):
    with_sigma = [toy.row("a", 20, age=22, age_sigma=2.0), toy.row("b", 30, age=30, age_sigma=1.0)]
    result = evaluate_age(runner, samples(runner, with_sigma, "age"))
    assert result.scores["eps_error"].value == pytest.approx((1 - np.exp(-0.5)) / 2, abs=1e-6)
    some = [with_sigma[0], toy.row("b", 30, age=30)]
    assert evaluate_age(runner, samples(runner, some, "age")).scores["eps_error"].value is None


def test_a_missed_face_fails_cs5_and_is_counted(toy, runner):
    rows = [toy.row("a", 20, age=20), toy.row("b", 30, age=30)]
    result = evaluate_age(runner, samples(runner, rows, "age", toy.Detector(), tight=False))
    assert result.scores["cs5"].value == 0
    assert result.scores["mae"].value is None
    assert result.scores["mae_with_set_box"].value == pytest.approx(0, abs=1e-6)
    assert result.found == {"missed": 2}
    assert any("2 of 2 faces were not found" in note for note in result.notes)


def test_no_faces_is_a_sentence(runner):
    for evaluate in (evaluate_age, evaluate_attributes, evaluate_expression):
        with pytest.raises(DataError, match="There are no"):
            evaluate(runner, [])


def attributes(**yes: bool) -> np.ndarray:
    return np.array([yes.get(name, False) for name in ATTRIBUTES])


def test_attributes(toy, runner):
    rows = [
        toy.row("dark", 10, attributes=attributes(Male=True)),
        toy.row("bright", 250, attributes=attributes(Young=True, Smiling=True)),
    ]
    result = evaluate_attributes(runner, samples(runner, rows, "attributes"), "toy")
    # Dark: all answers no, one wrong. Bright: all answers yes, 38 wrong.
    assert result.scores["accuracy"].value == pytest.approx(100 * (39 + 2) / 80)
    smiling = next(cells for cells in result.tables[0].rows if cells[0] == "Smiling")
    assert smiling[1:] == (2, 50, 100, 100, 100, 100, 100, 100, 100)
    assert result.scores["balanced_accuracy"].low == pytest.approx(200 / 3)
    assert result.scores["calibration_error"].high >= result.scores["calibration_error"].value
    male = next(cells for cells in result.tables[0].rows if cells[0] == "Male")
    assert male[3:5] == (0, 0)
    # Three attributes have both a yes and a no: two are right, one is wrong.
    assert result.scores["balanced_accuracy"].value == pytest.approx(200 / 3)
    assert sum("none of 2 images has the answer yes" in note for note in result.notes) == 37
    assert [table.title for table in result.tables[1:]] == ["By perceived age", "By perceived gender"]
    assert result.worst[0].id == "bright"


def test_all_answers_for_a_missed_face_are_wrong(toy, runner):
    rows = [toy.row("dark", 10, attributes=attributes())]
    result = evaluate_attributes(runner, samples(runner, rows, "attributes", toy.Detector(), tight=False))
    assert result.scores["accuracy"].value == 0
    found = evaluate_attributes(runner, samples(runner, rows, "attributes", toy.Detector(toy.detection())))
    assert found.scores["accuracy"].value == 100


def votes(*counts: int) -> np.ndarray:
    return np.array([*counts, *[0] * (8 - len(counts))], float)


def test_expression(toy, runner):
    rows = [
        toy.row("calm", 0, expression_votes=votes(9, 1)),
        toy.row("calm, said glad", 1, expression_votes=votes(6, 4)),
        toy.row("glad", 1, expression_votes=votes(0, 10)),
        toy.row("tied", 1, expression_votes=votes(5, 5)),
    ]
    result = evaluate_expression(runner, samples(runner, rows, "expression"), "toy")
    assert result.count == 3
    assert result.scores["accuracy"].value == pytest.approx(200 / 3)
    assert result.scores["mean_class_accuracy"].value == 75
    assert result.notes[0] == "1 faces whose votes are tied were dropped."
    assert result.curves["confusion"]["counts"][0][:2] == [1, 1]
    assert result.worst[0].id == "calm, said glad"
    assert result.tables[0].rows[0] == ("neutral", 2, 50.0, 0.0, 100.0)
    assert result.tables[0].rows[7] == ("contempt", 0, None, None, None)


def test_a_missed_expression_is_wrong(toy, runner):
    rows = [toy.row("calm", 0, expression_votes=votes(9, 1))]
    result = evaluate_expression(runner, samples(runner, rows, "expression", toy.Detector(), tight=False))
    assert result.scores["accuracy"].value == 0
    assert result.tables[0].rows[0] == ("neutral", 1, 0.0, 0.0, 0.0)


class Torn:
    """A network whose logits say contempt first, then, by the image's red, happiness or fear."""

    def __init__(self, runner):
        self.card, self.calls = runner.card, []

    def run(self, crops, masks, tasks):
        logits = np.zeros((len(crops), 8), np.float32)
        logits[:, EXPRESSIONS.index("contempt")] = 9
        seen = crops[:, 16, 16, 0] > 127
        logits[seen, EXPRESSIONS.index("happiness")] = np.log(18)
        logits[~seen, EXPRESSIONS.index("fear")] = np.log(18)
        return {"expression": logits}


def test_only_the_expressions_that_a_set_labels_are_chosen_among(toy, runner):
    seven = tuple(name for name in EXPRESSIONS if name != "contempt")
    rows = [
        toy.row("glad", 200, expression_votes=votes(0, 1)),
        toy.row("calm", 200, expression_votes=votes(1)),
        toy.row("proud", 0, expression_votes=votes(0, 0, 0, 0, 0, 0, 0, 1)),
        toy.row("afraid", 0, expression_votes=votes(0, 0, 0, 0, 0, 0, 1)),
    ]
    torn = Torn(runner)
    eight = evaluate_expression(torn, samples(torn, rows, "expression"), "toy")
    assert (eight.count, eight.scores["accuracy"].value) == (4, 25)
    result = evaluate_expression(torn, samples(torn, rows, "expression"), "toy", classes=seven)
    assert result.count == 3
    assert result.scores["accuracy"].value == pytest.approx(200 / 3)
    assert result.curves["confusion"]["names"] == list(seven)
    # Of the seven the chosen one has 18 of 24 parts.
    assert result.curves["reliability"]["confidence"] == [0.75]
    assert len(result.tables[0].rows) == 7
    assert any("7 expressions" in note and "1 faces labelled so" in note for note in result.notes)
