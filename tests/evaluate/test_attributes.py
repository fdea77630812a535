"""Scores of attributes for faces whose predictions are known."""

import numpy as np
import pytest

from faceum.errors import DataError
from faceum.evaluate.attributes import evaluate_attributes
from faceum.tasks import ATTRIBUTES


def attributes(**yes: bool) -> np.ndarray:
    return np.array([yes.get(name, False) for name in ATTRIBUTES])


def test_attributes(toy, runner):
    rows = [
        toy.row("dark", 10, attributes=attributes(Male=True)),
        toy.row("bright", 250, attributes=attributes(Young=True, Smiling=True)),
    ]
    result = evaluate_attributes(runner, toy.cut(runner, rows, "attributes"), "toy")
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
    assert sum("of 2 images none has the answer yes" in note for note in result.notes) == 37
    assert [table.title for table in result.tables[1:]] == ["By perceived age", "By perceived gender"]
    assert result.worst[0].id == "bright"


def test_missed_faces(toy, runner):
    rows = [toy.row("dark", 10, attributes=attributes())]
    result = evaluate_attributes(runner, toy.cut(runner, rows, "attributes", toy.Detector(), tight=False))
    assert result.scores["accuracy"].value == 0
    found = evaluate_attributes(runner, toy.cut(runner, rows, "attributes", toy.Detector(toy.detection())))
    assert found.scores["accuracy"].value == 100


def test_no_faces(runner):
    with pytest.raises(DataError, match="There are no"):
        evaluate_attributes(runner, [])
