"""The JSON file of an export says how to use the outputs."""

from __future__ import annotations

import numpy as np

from faceum.export.sidecar import CALIBRATION_RULES, describe_outputs
from faceum.tasks import TASKS

ANSWERS = {"age": np.zeros((1, 101)), "expression": np.zeros((1, 8)), "recognition": np.zeros((1, 512))}


def test_outputs_name_the_calibration_of_tasks_that_have_one() -> None:
    about = describe_outputs(ANSWERS, {}, {"age": 0.5, "expression": 1.0})
    assert about["age"]["calibration"]["factor"] == 0.5
    assert "deviation" in about["age"]["calibration"]["rule"]
    assert not any("calibration" in about[task] for task in ("expression", "recognition"))
    assert not any("calibration" in one for one in describe_outputs(ANSWERS, {}).values())


def test_calibration_rules_are_for_kinds_of_tasks() -> None:
    assert set(CALIBRATION_RULES) < {task.kind for task in TASKS.values()}
