"""Scores of expressions for faces whose predictions are known."""

import numpy as np
import pytest

from faceum.errors import DataError
from faceum.evaluate.expression import evaluate_expression
from faceum.tasks import EXPRESSIONS


def votes(*counts: int) -> np.ndarray:
    return np.array([*counts, *[0] * (8 - len(counts))], float)


def test_expression(toy, runner):
    rows = [
        toy.row("calm", 0, expression_votes=votes(9, 1)),
        toy.row("calm, said glad", 1, expression_votes=votes(6, 4)),
        toy.row("glad", 1, expression_votes=votes(0, 10)),
        toy.row("tied", 1, expression_votes=votes(5, 5)),
    ]
    result = evaluate_expression(runner, toy.cut(runner, rows, "expression"), "toy")
    assert result.count == 3
    assert result.scores["accuracy"].value == pytest.approx(200 / 3)
    assert result.scores["mean_class_accuracy"].value == 75
    assert result.notes[0].endswith("tied: 1 face.")
    assert result.curves["confusion"]["counts"][0][:2] == [1, 1]
    assert result.worst[0].id == "calm, said glad"
    assert result.tables[0].rows[0] == ("neutral", 2, 50.0, 0.0, 100.0)
    assert result.tables[0].rows[7] == ("contempt", 0, None, None, None)


def test_missed_faces(toy, runner):
    rows = [toy.row("calm", 0, expression_votes=votes(9, 1))]
    result = evaluate_expression(runner, toy.cut(runner, rows, "expression", toy.Detector(), tight=False))
    assert result.scores["accuracy"].value == 0
    assert result.tables[0].rows[0] == ("neutral", 1, 0.0, 0.0, 0.0)


class ContemptRunner:
    """A network whose most probable expression is contempt, then happiness or fear, by the image's red."""

    def __init__(self, runner):
        self.card, self.calls = runner.card, []

    def run(self, crops, masks, tasks):
        logits = np.zeros((len(crops), 8), np.float32)
        logits[:, EXPRESSIONS.index("contempt")] = 9
        seen = crops[:, 16, 16, 0] > 127
        logits[seen, EXPRESSIONS.index("happiness")] = np.log(18)
        logits[~seen, EXPRESSIONS.index("fear")] = np.log(18)
        return {"expression": logits}


def test_sets_without_contempt(toy, runner):
    seven = tuple(name for name in EXPRESSIONS if name != "contempt")
    rows = [
        toy.row("glad", 200, expression_votes=votes(0, 1)),
        toy.row("calm", 200, expression_votes=votes(1)),
        toy.row("proud", 0, expression_votes=votes(0, 0, 0, 0, 0, 0, 0, 1)),
        toy.row("afraid", 0, expression_votes=votes(0, 0, 0, 0, 0, 0, 1)),
    ]
    network = ContemptRunner(runner)
    eight = evaluate_expression(network, toy.cut(network, rows, "expression"), "toy")
    assert (eight.count, eight.scores["accuracy"].value) == (4, 25)
    result = evaluate_expression(network, toy.cut(network, rows, "expression"), "toy", classes=seven)
    assert result.count == 3
    assert result.scores["accuracy"].value == pytest.approx(200 / 3)
    assert result.curves["confusion"]["names"] == list(seven)
    # Of the seven the chosen one has 18 of 24 parts.
    assert result.curves["reliability"]["confidence"] == [0.75]
    assert len(result.tables[0].rows) == 7
    assert any("without contempt" in note and note.endswith("1 face.") for note in result.notes)


def test_no_faces(runner):
    with pytest.raises(DataError, match="There are no"):
        evaluate_expression(runner, [])
