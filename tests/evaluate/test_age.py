"""Scores of age for faces whose predictions are known."""

import json

import numpy as np
import pytest

from faceum.errors import DataError
from faceum.evaluate.age import evaluate_age


def test_age(toy, runner):
    rows = [
        toy.row("a", 20, age=20, gender=0),
        toy.row("b", 35, age=31, gender=1),
        toy.row("c", 70, age=80, gender=1),
    ]
    result = evaluate_age(runner, toy.cut(runner, rows, "age"), "toy")
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


def test_eps_error_needs_sigma_of_every_face(toy, runner):
    with_sigma = [toy.row("a", 20, age=22, age_sigma=2.0), toy.row("b", 30, age=30, age_sigma=1.0)]
    result = evaluate_age(runner, toy.cut(runner, with_sigma, "age"))
    assert result.scores["eps_error"].value == pytest.approx((1 - np.exp(-0.5)) / 2, abs=1e-6)
    some = [with_sigma[0], toy.row("b", 30, age=30)]
    assert evaluate_age(runner, toy.cut(runner, some, "age")).scores["eps_error"].value is None


def test_missed_faces(toy, runner):
    rows = [toy.row("a", 20, age=20), toy.row("b", 30, age=30)]
    result = evaluate_age(runner, toy.cut(runner, rows, "age", toy.Detector(), tight=False))
    assert result.scores["cs5"].value == 0
    assert result.scores["mae"].value is None
    assert result.scores["mae_with_set_box"].value == pytest.approx(0, abs=1e-6)
    assert result.found == {"missed": 2}
    assert any("2 of 2 faces" in note for note in result.notes)


def test_no_faces(runner):
    with pytest.raises(DataError, match="There are no"):
        evaluate_age(runner, [])
