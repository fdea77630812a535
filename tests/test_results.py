"""The records' JSON form fulfils the published schema and loses nothing."""

from __future__ import annotations

import dataclasses
import json

import jsonschema
import numpy as np
import pytest

from faceum.results import Age, Expression, Face, Parsing, Result, result_schema
from faceum.tasks import ATTRIBUTES, EXPRESSIONS


@pytest.fixture
def face() -> Face:
    random = np.random.default_rng(0)
    embedding = random.normal(size=512).astype(np.float32)
    return Face(
        box=np.array([0.1, -2.3, 30.7, 40.2], np.float32),
        points5=random.uniform(0, 40, (5, 2)).astype(np.float32),
        score=float(np.float32(0.3)),
        embedding=embedding / np.linalg.norm(embedding),
        age=Age(years=31.5, std=4.25),
        attributes={name: np.float32(0.25) for name in ATTRIBUTES},
        expression=Expression(label="neutral", probabilities=dict.fromkeys(EXPRESSIONS, 1 / 8)),
        landmarks=random.uniform(0, 40, (68, 2)).astype(np.float32),
        parsing=Parsing(
            class_map=random.integers(0, 19, (6, 4), np.uint8), matrix=np.array([[2.0, 0, 1], [0, 2, 3]])
        ),
    )


def check(result: Result) -> dict:
    """The result's JSON after a trip through text, checked against the schema."""
    values = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    jsonschema.validate(values, result_schema())
    return values


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(result_schema())


def test_full_face_fits_the_schema_and_reads_back_exactly(face):
    values = check(Result(source="a.png", width=40, height=50, faces=[face]))
    assert (values["schema"], values["source"], values["error"]) == ("faceum.result/1", "a.png", None)
    (plain,) = values["faces"]
    for name in ("box", "points5", "embedding", "landmarks"):
        np.testing.assert_array_equal(np.array(plain[name], np.float32), getattr(face, name))
    np.testing.assert_array_equal(plain["parsing"]["class_map"], face.parsing.class_map)
    np.testing.assert_array_equal(plain["parsing"]["matrix"], face.parsing.matrix)
    assert plain["age"] == {"years": 31.5, "std": 4.25}
    assert plain["attributes"]["Young"] == 0.25
    assert list(plain["expression"]["probabilities"]) == list(EXPRESSIONS)


def test_tasks_not_asked_for_are_none():
    face = Face(box=np.array([0, 0, 1, 1], np.float32))
    values = check(Result(width=1, height=1, faces=(face,)))
    assert values["source"] is None
    assert {name for name, value in values["faces"][0].items() if value is not None} == {"box"}


def test_errors_and_empty_images_fit_the_schema():
    assert check(Result(source="a.png", error="a.png is empty."))["faces"] is None
    assert check(Result(source="a.png", width=3, height=4, faces=()))["faces"] == []


@pytest.mark.parametrize(
    "broken",
    [
        {"faces": None},  # neither faces nor error
        {"error": "both"},
        {"schema": "faceum.result/2"},
        {"width": 0},
        {"surplus": 1},
    ],
)
def test_the_schema_refuses_what_is_no_result(broken):
    values = {**Result(width=1, height=1, faces=()).to_dict(), **broken}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, result_schema())


def test_float32_keeps_its_short_digits():
    face = Face(box=np.array([0.1, 0.2, 0.3, 0.7], np.float32), score=np.float32(0.9))
    assert face.to_dict()["box"] == [0.1, 0.2, 0.3, 0.7]
    assert face.to_dict()["score"] == 0.9


def test_the_schema_names_every_field_of_the_records():
    schema = result_schema()
    assert set(schema["$defs"]["face"]["required"]) == {field.name for field in dataclasses.fields(Face)}
    assert set(schema["required"]) == {field.name for field in dataclasses.fields(Result)} | {"schema"}


def test_records_are_frozen(face):
    with pytest.raises(dataclasses.FrozenInstanceError):
        face.score = 1.0
