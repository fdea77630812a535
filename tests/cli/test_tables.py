"""Tables for a terminal: whole words at any width, and a column for every answer that was asked for."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from faceum.cli.tables import models_table, result_table, score_lines
from faceum.results import Age, Expression, Face, Parsing, Result
from faceum.tasks import EXPRESSIONS
from faceum.weights.registry import load_registry


def a_face() -> Face:
    probabilities = dict.fromkeys(EXPRESSIONS, 0.02) | {"happiness": 0.86}
    return Face(
        box=np.array([1045, 115, 1168, 244], np.float32),
        score=0.82,
        embedding=np.zeros(512, np.float32),
        age=Age(years=29, std=17),
        attributes={"Smiling": 1.0, "Mouth_Slightly_Open": 0.98, "High_Cheekbones": 0.97, "Young": 0.6},
        expression=Expression(label="happiness", probabilities=probabilities),
        landmarks=np.zeros((68, 2), np.float32),
        parsing=Parsing(class_map=np.array([[0, 1], [1, 13]], np.uint8), matrix=np.eye(2, 3)),
    )


def printed(renderable, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(renderable)
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 100, 140])
def test_every_word_of_a_face_is_whole_at_the_width_of_any_terminal(width):
    text = printed(result_table(Result(source="x.jpg", width=1400, height=512, faces=[a_face()])), width)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    for words in (
        "1045,115 123x129",
        "0.82",
        "29 ± 17",
        "happiness 86 %",
        "Mouth",
        "cheekbones",
        "68 points",
    ):
        assert words in text, (words, text)
    assert text.count("\n") <= 9 and "…" not in text


def test_table_of_140_columns_has_one_line_a_face():
    text = printed(result_table(Result(source="x.jpg", width=1400, height=512, faces=[a_face()] * 3)), 140)
    assert sum("happiness 86 %" in line and "2 parts, 512-d" in line for line in text.splitlines()) == 3
    assert text.count("\n") == 6


def test_only_what_was_asked_for_has_a_column():
    face = Face(box=np.array([0, 0, 5, 5], np.float32), age=Age(years=3, std=1))
    heading = printed(result_table(Result(source="x", width=9, height=9, faces=[face])), 80).splitlines()[1]
    assert heading.split() == ["#", "box", "age"]
    plain = Face(box=np.array([0, 0, 5, 5], np.float32), attributes={"Bald": 0.1})
    assert "none above 50 %" in printed(result_table(Result(source="x", faces=[plain])), 80)


def test_box_that_begins_a_little_outside_begins_at_0():
    face = Face(box=np.array([-0.3, -4.6, 20, 20], np.float32))
    assert "0,-5 20x25" in printed(result_table(Result(source="x", width=9, height=9, faces=[face])), 80)
    assert "-0" not in printed(result_table(Result(source="x", width=9, height=9, faces=[face])), 80)


def test_scores_are_words():
    assert score_lines({"age": {"mae_years": 7.25, "faces": 800}}) == ["age mae years 7.25", "age faces 800"]
    bounded = {"lfw_accuracy": 91.43, "lfw_accuracy_low": 90.41, "lfw_accuracy_high": 92.4, "far_low": 2}
    assert score_lines(bounded) == ["lfw accuracy 91.43 (90.41 to 92.4)", "far low 2"]
    text = printed(models_table(load_registry().values()), 80)
    assert {"centerface", "compact", "research"} <= set(text.split())
