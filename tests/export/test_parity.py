"""Distances between networks are those worked out by hand."""

import numpy as np
import pytest

from faceum.errors import ModelError
from faceum.export.parity import LIMITS, MEASURES, UNITS, describe_excess, distances, limits_for
from faceum.tasks import KINDS, TASKS


def test_every_kind_has_a_measure_a_unit_and_limits():
    for one in (MEASURES, UNITS, *LIMITS.values()):
        assert set(one) == set(KINDS)


def test_equal_outputs_are_no_distance_apart():
    rng = np.random.default_rng(0)
    shapes = {"recognition": 512, "age": 101, "attributes": 40, "expression": 8}
    outputs = {task: rng.normal(size=(3, n)).astype(np.float32) for task, n in shapes.items()}
    outputs |= {"parsing": rng.normal(size=(3, 19, 8, 8)), "landmarks": rng.uniform(size=(3, 68, 2))}
    found = distances(outputs, outputs, size=16)
    assert found == pytest.approx(dict.fromkeys(TASKS, 0.0), abs=1e-12)
    assert describe_excess(found, limits_for("fp32")) == ""


def test_distances_by_hand():
    expected = {"recognition": np.array([[1.0, 0.0], [2.0, 0.0]]), "landmarks": np.zeros((1, 2, 2))}
    other = {"recognition": np.array([[3.0, 0.0], [1.0, 1.0]]), "landmarks": np.zeros((1, 2, 2))}
    other["landmarks"][0, 1] = (0.03, 0.04)
    found = distances(expected, other, size=100)
    assert found["recognition"] == pytest.approx(1 - 0.5**0.5)
    assert found["landmarks"] == pytest.approx(2.5)  # 5 pixels and none
    years = np.full((2, 101), -60.0), np.full((2, 101), -60.0)
    years[0][:, 30] = 60
    years[1][[0, 1], [30, 33]] = 60
    assert distances({"age": years[0]}, {"age": years[1]}, size=1)["age"] == pytest.approx(3, abs=1e-6)
    logits = np.zeros((1, 2)), np.array([[0.0, np.log(3)]])
    assert distances({"attributes": logits[0]}, {"attributes": logits[1]}, size=1)[
        "attributes"
    ] == pytest.approx(0.125)
    assert distances({"expression": logits[0]}, {"expression": logits[1]}, size=1)[
        "expression"
    ] == pytest.approx(0.25)
    maps = np.zeros((1, 2, 4, 4)), np.zeros((1, 2, 4, 4))
    maps[0][:, 0], maps[1][:, 0] = 1, 1
    maps[1][0, 1, 0] = 2  # one row of four is the other class
    assert distances({"parsing": maps[0]}, {"parsing": maps[1]}, size=4)["parsing"] == pytest.approx(0.25)


def test_answers_that_are_not_finite_are_infinitely_far():
    found = distances({"age": np.zeros((1, 101))}, {"age": np.full((1, 101), np.nan)}, size=1)
    assert found["age"] == np.inf and "age is off by inf" in describe_excess(found, limits_for("int8"))


def test_given_limits_replace_those_of_the_precision():
    assert limits_for("int8", {"age": 3.0})["age"] == 3.0 and limits_for("int8")["age"] == 1.0
    assert "years" in describe_excess({"age": 2.0}, limits_for("int8"))
    assert describe_excess({"age": 2.0}, limits_for("int8", {"age": 3.0})) == ""
    with pytest.raises(ModelError, match="'agee'"):
        limits_for("int8", {"agee": 1.0})
