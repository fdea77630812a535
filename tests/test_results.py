"""Result records: JSON against the schema, tables, drawings, parsing maps against a slow loop."""

from __future__ import annotations

import dataclasses
import json
import math
import pickle
import sys

import cv2
import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faceum.errors import FaceumError, ImageError, ModelError
from faceum.geometry import invert
from faceum.people.records import Sample
from faceum.results import Age, Expression, Face, Parsing, Result, result_schema
from faceum.tasks import ATTRIBUTES, EXPRESSIONS
from faceum.video.records import Frame, TrackedFace
from faceum.video.summary import Moment, TrackSummary
from faceum.weights.thresholds import thresholds


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
        model="tiny@01234567",
    )


@pytest.fixture
def result(face) -> Result:
    image = np.random.default_rng(1).integers(0, 256, (50, 40, 3), np.uint8)
    return Result(source="a.png", width=40, height=50, faces=[face, face], image=image)


def check(result: Result, parsing: str | None = "rle") -> dict:
    """Return the result's JSON after a trip through text, checked against the schema."""
    values = json.loads(result.to_json(parsing=parsing))
    assert values == json.loads(json.dumps(result.to_dict(parsing=parsing), allow_nan=False))
    jsonschema.validate(values, result_schema())
    return values


def test_schema_is_valid():
    jsonschema.Draft202012Validator.check_schema(result_schema())


def test_json_reads_back_exactly(face):
    values = check(Result(source="a.png", width=40, height=50, faces=[face]))
    assert (values["schema"], values["source"], values["error"]) == ("faceum.result/2", "a.png", None)
    (plain,) = values["faces"]
    for name in ("box", "points5", "embedding", "landmarks"):
        np.testing.assert_array_equal(np.array(plain[name], np.float32), getattr(face, name))
    runs = plain["parsing"]["rle"]
    unrolled = np.repeat(runs["values"], runs["counts"]).reshape(runs["size"])
    np.testing.assert_array_equal(unrolled, face.parsing.class_map)
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
        {"schema": "faceum.result/1"},
        {"width": 0},
        {"surplus": 1},
    ],
)
def test_schema_refuses_broken_results(broken):
    values = {**Result(width=1, height=1, faces=()).to_dict(), **broken}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values, result_schema())


def test_float32_keeps_its_short_digits():
    face = Face(box=np.array([0.1, 0.2, 0.3, 0.7], np.float32), score=np.float32(0.9))
    assert face.to_dict()["box"] == [0.1, 0.2, 0.3, 0.7]
    assert face.to_dict()["score"] == 0.9


def test_schema_names_every_field():
    schema = result_schema()
    face = schema["$defs"]["face"]
    assert set(face["properties"]) == {field.name for field in dataclasses.fields(Face)}
    assert set(face["properties"]) - set(face["required"]) == {"quality"}, "earlier files lack it"
    assert set(schema["required"]) == {field.name for field in dataclasses.fields(Result)} - {"image"} | {
        "schema"
    }


def test_records_are_frozen(face):
    with pytest.raises(dataclasses.FrozenInstanceError):
        face.score = 1.0


def test_parsing_forms(face):
    full = check(Result(width=1, height=1, faces=[face]), "full")["faces"][0]["parsing"]
    np.testing.assert_array_equal(full["class_map"], face.parsing.class_map)
    assert check(Result(width=1, height=1, faces=[face]), None)["faces"][0]["parsing"] is None
    with pytest.raises(FaceumError, match="'rle'"):
        face.to_dict(parsing="rel")


def test_rle_by_hand():
    parsing = Parsing(class_map=np.array([[1, 1, 0], [0, 0, 13]], np.uint8), matrix=np.eye(2, 3))
    assert parsing.to_dict()["rle"] == {"size": [2, 3], "values": [1, 0, 13], "counts": [2, 3, 1]}


def test_runs_are_much_shorter_than_rows():
    one = Parsing(class_map=np.zeros((512, 512), np.uint8), matrix=np.eye(2, 3))
    assert len(json.dumps(one.to_dict())) < 200


def test_result_is_a_sequence_of_its_faces(result, face):
    assert len(result) == 2 and list(result) == [face, face] and result[-1] == face
    assert result[:1] == [face] and bool(result)
    failed = Result(source="a.png", error="broken")
    assert len(failed) == 0 and list(failed) == [] and not failed


def test_reprs(face, result):
    bare = Face(
        box=np.array([181.2, 57.4, 270.9, 179], np.float32),
        score=0.9312,
        age=Age(years=24.2, std=6.9),
        expression=Expression(label="happiness", probabilities={"happiness": 0.98}),
        embedding=np.zeros(512, np.float32),
    )
    assert repr(bare) == (
        "Face(score=0.93, box=(181, 57, 271, 179), age=24±7, expression='happiness', embedding=512-d)"
    )
    assert repr(bare.age) == "Age(24±7)" and repr(bare.expression) == "Expression('happiness', 0.98)"
    assert repr(face.parsing).startswith("Parsing(4x6, ")
    assert (
        repr(Result(source="a.png", width=4, height=5, faces=[])) == "Result(source='a.png', 4x5, faces=[])"
    )
    assert repr(Result(error="broken")) == "Result(error='broken')"
    assert len(repr(result)) < 500


def test_records_of_videos_galleries_and_thresholds_print_short(face):
    values = {field.name: getattr(face, field.name) for field in dataclasses.fields(face)}
    tracked = TrackedFace(**values, track_id=3, name="Ada", raw=face)
    summary = TrackSummary(
        track_id=3, name="Ada", first=0.0, last=1.5, frames=30, age=face.age, attributes=face.attributes,
        expressions={}, moments=(Moment(time=1.0),) * 500, embedding=face.embedding,
        crop=np.zeros((9, 9, 3), np.uint8), crop_time=1.0,
    )  # fmt: skip
    sample = Sample(person="Ada", key="1", vector=np.zeros(512, np.float16), crop=b"0" * 9999)
    records = [
        tracked,
        Frame(index=7, width=4, height=5, faces=[tracked]),
        summary,
        sample,
        thresholds("compact"),
    ]
    for record in records:
        assert repr(record).startswith(f"{type(record).__name__}(") and len(repr(record)) < 350
    assert "track_id=3, name='Ada', " in repr(tracked) and "Frame(index=7, " in repr(records[1])


def test_records_compare_by_value(face, result):
    other = pickle.loads(pickle.dumps(result))
    assert other == result and other[0] == face
    assert dataclasses.replace(face, score=0.1) != face
    assert dataclasses.replace(face, landmarks=None) != face
    assert dataclasses.replace(face, box=face.box + 1) != face
    assert dataclasses.replace(result, image=None) == result
    assert face != "face"


def test_similarity_is_the_cosine_within_one_model(face):
    other = dataclasses.replace(face, embedding=-face.embedding)
    assert face.similarity(face) == pytest.approx(1) and face.similarity(other) == pytest.approx(-1)
    assert face.similarity(dataclasses.replace(face, model=None)) == pytest.approx(1)
    with pytest.raises(ModelError, match=r"tiny@01234567 and other@89abcdef"):
        face.similarity(dataclasses.replace(face, model="other@89abcdef"))
    with pytest.raises(FaceumError, match="recognition"):
        face.similarity(Face(box=face.box))


def test_crop_cuts_the_box_with_a_margin():
    image = np.arange(100 * 80 * 3, dtype=np.uint32).astype(np.uint8).reshape(100, 80, 3)
    face = Face(box=np.array([20, 30, 40, 70], np.float32))
    assert np.array_equal(face.crop(image, margin=0), image[30:70, 20:40])
    assert np.array_equal(face.crop(image, margin=0.5), image[10:90, 10:50])
    assert face.crop(image, margin=5).shape == image.shape  # ends at the image's edge
    with pytest.raises(FaceumError, match="outside the image of 10 x 10"):
        face.crop(np.zeros((10, 10, 3), np.uint8), margin=0)


def test_plot_draws_only_the_chosen_layers(result):
    drawing = result.plot()
    assert drawing.dtype == np.uint8 and drawing.ndim == 3 and drawing.shape[0] > 50
    plain = result.plot(layers=[])
    assert np.array_equal(plain, result.image) and plain is not result.image
    shown = {layer: result.plot(layers=[layer]) for layer in ("boxes", "points", "landmarks", "parsing")}
    for layer, one in shown.items():
        assert one.shape == result.image.shape and not np.array_equal(one, result.image), layer
    assert len({one.tobytes() for one in shown.values()}) == 4
    for wrong in (["box"], "boxes"):
        with pytest.raises(FaceumError, match="boxes"):
            result.plot(layers=wrong)


def test_plot_takes_the_image_from_where_it_is(result, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), result.image[..., ::-1])
    without = dataclasses.replace(result, image=None, source=None)
    with pytest.raises(FaceumError, match="keep_images"):
        without.plot()
    drawing = result.plot()
    assert np.array_equal(without.plot(result.image), drawing)
    assert np.array_equal(dataclasses.replace(without, source=str(tmp_path / "a.png")).plot(), drawing)


def test_jupyter_shows_drawing_and_table(result):
    drawn = cv2.imdecode(np.frombuffer(result._repr_png_(), np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(drawn[..., ::-1], result.plot())
    text = dataclasses.replace(result, source="<b>.png")._repr_html_()
    assert "data:image/png;base64," in text and text.count("<tr>") == 3 and "&lt;b&gt;.png" in text
    failed = Result(error="a < b")
    assert failed._repr_png_() is None and "a &lt; b" in failed._repr_html_()


def test_save_writes_the_files_of_save_result(result, tmp_path):
    files = result.save(tmp_path / "out")
    assert [path.name for path in files] == ["a.json", "a.png", "a.parsing.png", "a.npz"]
    assert json.loads(files[0].read_text()) == result.to_dict()
    assert result.save(tmp_path, stem="b")[0].name == "b.json"
    assert [path.name for path in Result(error="broken").save(tmp_path)] == ["image.json"]


def test_pandas_has_a_row_per_face_and_always_the_same_columns(result, face):
    pytest.importorskip("pandas")
    table = result.to_pandas()
    assert len(table) == 2 and list(table["face"]) == [0, 1]
    row = table.iloc[0]
    assert (row.source, row.model, row.expression) == ("a.png", "tiny@01234567", "neutral")
    assert row[["x0", "y0", "x1", "y1"]].tolist() == face.box.tolist()
    assert row.age == 31.5 and row.Young == 0.25 and row.expression_fear == 1 / 8
    assert row.left_eye_x == face.points5[0, 0] and row.right_mouth_y == face.points5[4, 1]
    assert row.embedding is face.embedding and row.landmarks.shape == (68, 2)
    bare = Result(width=1, height=1, faces=[Face(box=face.box)]).to_pandas()
    assert list(bare.columns) == list(table.columns) and math.isnan(bare.iloc[0].age)
    assert len(Result(error="broken").to_pandas()) == 0
    assert list(Result(error="broken").to_pandas().columns) == list(table.columns)


def test_to_pandas_without_pandas_says_what_to_install(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(FaceumError, match="pip install"):
        result.to_pandas()


def slow_paste(parsing: Parsing, size: tuple[int, int]) -> np.ndarray:
    result, back = np.full(size, 255, np.uint8), invert(parsing.matrix)
    for y in range(size[0]):
        for x in range(size[1]):
            column, row = (math.floor(m[0] * (x + 0.5) + m[1] * (y + 0.5) + m[2]) for m in back)
            if 0 <= row < parsing.class_map.shape[0] and 0 <= column < parsing.class_map.shape[1]:
                result[y, x] = parsing.class_map[row, column]
    return result


@given(
    st.floats(0.1, 8), st.floats(-4, 4), st.floats(-30, 40), st.floats(-30, 40),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_paste_equals_a_slow_loop(scale, angle, x, y, size):
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    classes = np.random.default_rng(0).integers(1, 19, (7, 5), np.uint8)
    parsing = Parsing(class_map=classes, matrix=np.array([[c, -s, x], [s, c, y]]))
    np.testing.assert_array_equal(parsing.paste(size), slow_paste(parsing, size))


def test_paste_by_hand():
    parsing = Parsing(class_map=np.array([[1, 2]], np.uint8), matrix=np.array([[2.0, 0, 1], [0, 2, 0]]))
    np.testing.assert_array_equal(
        parsing.paste((3, 6), unknown=7), [[7, 1, 1, 2, 2, 7], [7, 1, 1, 2, 2, 7], [7, 7, 7, 7, 7, 7]]
    )


def test_paste_outside_the_image_is_unknown():
    parsing = Parsing(class_map=np.ones((4, 4), np.uint8), matrix=np.array([[1.0, 0, 99], [0, 1, 99]]))
    pasted = parsing.paste((5, 6))
    assert pasted.dtype == np.uint8
    np.testing.assert_array_equal(pasted, np.full((5, 6), 255))


def test_paste_with_a_flat_matrix_raises():
    with pytest.raises(ImageError):
        Parsing(class_map=np.ones((4, 4), np.uint8), matrix=np.zeros((2, 3))).paste((5, 6))


def parsed(label: int, shift: float) -> Face:
    class_map = np.zeros((8, 8), np.uint8)
    class_map[2:6, 2:6] = label
    matrix = np.array([[1, 0, 4 + shift], [0, 1, 4]])
    return Face(box=np.zeros(4, np.float32), parsing=Parsing(class_map=class_map, matrix=matrix))


def test_parsing_map_of_overlapping_faces():
    classes = Result(width=30, height=20, faces=[parsed(1, 0), parsed(2, 2)]).parsing_map()
    assert classes.shape == (20, 30)
    assert classes[8, 9] == 1 and classes[8, 10] == 2  # the first that sees something counts
    assert classes[4, 4] == 0 and classes[0, 0] == 255 and classes[8, 14] == 255


def test_parsing_map_without_parsing(face):
    assert (Result(width=3, height=2, faces=[]).parsing_map() == 255).all()
    for result, word in (
        (Result(error="broken"), "not read"),
        (Result(width=3, height=2, faces=[Face(box=face.box)]), "parsing"),
    ):
        with pytest.raises(FaceumError, match=word):
            result.parsing_map()
