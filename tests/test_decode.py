"""Decoding against answers worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest

from faceum.decode import DECODERS, decode_answers, decode_class_map
from faceum.errors import ModelError
from faceum.results import Face
from faceum.tasks import EXPRESSIONS, KINDS, TASKS


def crop(size=8, inverse=((1, 0, 0), (0, 1, 0))):
    return SimpleNamespace(image=np.zeros((size, size, 3), np.uint8), inverse=np.array(inverse, np.float64))


def test_every_task_has_a_field_and_every_kind_a_decoder():
    assert set(DECODERS) == set(KINDS)
    assert {task.result_field for task in TASKS.values()} <= set(Face.__dataclass_fields__)


def test_age_is_the_expectation_of_the_normalized_sigmoid():
    logits = np.full((1, 101), -60.0, np.float32)
    logits[0, [20, 40]] = 0.0  # two equally probable years
    age = decode_answers({"age": logits}, [crop()])[0]["age"]
    assert age.years == pytest.approx(30) and age.std == pytest.approx(10)


def test_embeddings_have_length_one_and_keep_their_direction():
    values = np.zeros((2, 512), np.float32)
    values[0, 3], values[0, 4], values[1, 0] = 3, 4, 1e-3
    one, two = (a["embedding"] for a in decode_answers({"recognition": values}, [crop()] * 2))
    assert one[[3, 4]] == pytest.approx([0.6, 0.8]) and two[0] == pytest.approx(1)
    assert one.dtype == np.float32


def test_attributes_are_independent_and_expressions_sum_to_one():
    attributes = np.zeros((1, 40), np.float32)
    attributes[0, 31], attributes[0, 0] = np.log(3), -1000
    expression = np.zeros((1, 8), np.float32)
    expression[0, 1] = np.log(7)
    answer = decode_answers({"attributes": attributes, "expression": expression}, [crop()])[0]
    assert answer["attributes"]["Smiling"] == pytest.approx(0.75)
    assert answer["attributes"]["5_o_Clock_Shadow"] == pytest.approx(0, abs=1e-12)
    assert answer["expression"].label == "happiness"
    assert answer["expression"].probabilities["happiness"] == pytest.approx(0.5)
    assert tuple(answer["expression"].probabilities) == EXPRESSIONS
    assert sum(answer["expression"].probabilities.values()) == pytest.approx(1)


def test_calibration_is_applied():
    attributes, expression = np.zeros((1, 40), np.float32), np.zeros((1, 8), np.float32)
    attributes[0, 31], expression[0, 1] = 2 * np.log(3), 3 * np.log(7)
    age = np.full((1, 101), -60.0, np.float32)
    age[0, [20, 40]] = 0.0
    outputs = {"attributes": attributes, "expression": expression, "age": age}
    calibration = {"attributes": 2.0, "expression": 3.0, "age": 1.5}
    answer = decode_answers(outputs, [crop()], calibration=calibration)[0]
    assert answer["attributes"]["Smiling"] == pytest.approx(0.75)
    assert answer["expression"].probabilities["happiness"] == pytest.approx(0.5)
    assert answer["age"].years == pytest.approx(30) and answer["age"].std == pytest.approx(15)


def test_network_with_other_labels_says_its_own():
    words = {"expression": ("glad", "sad")}
    answer = decode_answers({"expression": np.array([[0.0, 2.0]], np.float32)}, [crop()], words)[0]
    assert answer["expression"].label == "sad"
    with pytest.raises(ModelError, match="2 values for 8 labels"):
        decode_answers({"expression": np.zeros((1, 2), np.float32)}, [crop()])


def test_landmarks_go_through_the_crops_way_back():
    points = np.full((1, 68, 2), 0.5, np.float32)
    points[0, 0] = (0.25, 0.75)
    answer = decode_answers({"landmarks": points}, [crop(8, ((0, -2, 100), (2, 0, 50)))])[0]
    assert answer["landmarks"][0] == pytest.approx([100 - 2 * 6, 50 + 2 * 2])
    assert answer["landmarks"].dtype == np.float32


def test_class_maps_grow_bilinearly_with_corners_not_aligned():
    logits = np.zeros((19, 2, 2), np.float32)
    logits[13, :, 1] = 1.0  # right half
    logits[5] = 0.2
    grown = decode_class_map(logits, 8)
    # Along x the logit of class 13 is 0, 0, .125, .375, .625, .875, 1, 1.
    assert grown.dtype == np.uint8
    assert (grown == np.array([5, 5, 5, 13, 13, 13, 13, 13])).all()


def test_parsing_has_the_crops_size_and_matrix():
    logits = np.zeros((1, 19, 4, 4), np.float32)
    logits[0, 2] = 1
    inverse = ((2, 0, 5), (0, 2, 7))
    parsing = decode_answers({"parsing": logits}, [crop(16, inverse)])[0]["parsing"]
    assert parsing.class_map.shape == (16, 16) and (parsing.class_map == 2).all()
    assert (parsing.matrix == np.array(inverse)).all()


def test_no_crops_no_answers():
    assert decode_answers({"age": np.zeros((0, 101), np.float32)}, []) == []
