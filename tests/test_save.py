"""Saved files: complete, whole, and never in place of an input or of a foreign file."""

import io
import json
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from faceum.errors import OutputError
from faceum.render.palette import PALETTE, PARSING_PALETTE
from faceum.results import Age, Face, Parsing, Result, result_schema
from faceum.save import OutputStems, encode_indexed_png, is_ours, save_result


def parsed_face(shift=0, label=13):
    class_map = np.zeros((8, 8), np.uint8)
    class_map[2:6, 2:6] = label
    matrix = np.array([[1, 0, 4 + shift], [0, 1, 4]], np.float64)
    embedding = np.zeros(512, np.float32)
    embedding[label] = 1
    return Face(
        box=np.array([4 + shift, 4, 12 + shift, 12], np.float32),
        embedding=embedding,
        age=Age(years=30.5, std=4.0),
        parsing=Parsing(class_map=class_map, matrix=matrix),
    )


def test_indexed_png_keeps_classes_and_palette():
    classes = np.random.default_rng(0).integers(0, 19, (31, 47)).astype(np.uint8)
    image = Image.open(io.BytesIO(encode_indexed_png(classes, PALETTE)))
    assert image.mode == "P" and (np.asarray(image) == classes).all()
    assert image.getpalette()[: 19 * 3] == PALETTE.ravel().tolist()
    decoded = cv2.imdecode(np.frombuffer(encode_indexed_png(classes, PALETTE), np.uint8), cv2.IMREAD_COLOR)
    assert (decoded[..., ::-1] == PALETTE[classes]).all()


def test_all_files_are_written_and_agree(tmp_path):
    image = np.full((20, 30, 3), 128, np.uint8)
    result = Result(source="a/x.jpg", width=30, height=20, faces=[parsed_face(), parsed_face(10, 1)])
    files = save_result(result, image, tmp_path / "new" / "folder", "x")
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "x.json", "x.npz", "x.parsing.png", "x.png",
    ]  # fmt: skip
    assert sorted(path.name for path in files) == ["x.json", "x.npz", "x.parsing.png", "x.png"]
    assert json.loads((tmp_path / "new/folder/x.json").read_text()) == result.to_dict()
    with np.load(tmp_path / "new/folder/x.npz") as stored:
        assert stored["embeddings"].shape == (2, 512) and stored["boxes"].shape == (2, 4)
        assert stored["embeddings"][1, 1] == 1
    parsing = Image.open(tmp_path / "new/folder/x.parsing.png")
    assert np.asarray(parsing)[8, 8] == 13 and np.asarray(parsing)[0, 0] == 255
    assert parsing.getpalette() == PARSING_PALETTE.ravel().tolist()
    assert all(is_ours(path) for path in files)
    assert cv2.imread(str(tmp_path / "new/folder/x.png")) is not None


def test_without_answers_only_json_and_drawing_are_written(tmp_path):
    result = Result(source="x.jpg", width=5, height=5, faces=[])
    files = save_result(result, np.zeros((5, 5, 3), np.uint8), tmp_path, "x")
    assert [path.name for path in files] == ["x.json", "x.png"]


def test_failed_image_saves_its_error(tmp_path):
    files = save_result(Result(source="x.jpg", error="x.jpg is empty."), None, tmp_path, "x")
    assert [path.name for path in files] == ["x.json"]
    assert json.loads(files[0].read_text())["error"] == "x.jpg is empty."


def test_indented_json_keeps_rows_on_one_line():
    jsonschema = __import__("jsonschema")
    source = 'strange "[\n 1 \n]" name.jpg'
    result = Result(source=source, width=30, height=20, faces=[parsed_face()])
    text = result.to_json(parsing="full", indent=2)
    assert json.loads(text) == result.to_dict(parsing="full")
    assert "[ 0, 0, 13, 13, 13, 13, 0, 0 ]" in text
    jsonschema.validate(json.loads(text), result_schema())


def test_name_that_is_not_utf8_keeps_its_bytes(tmp_path):
    source = os.fsdecode(b"caf\xe9 \xc3\xa9.jpg")
    files = save_result(Result(source=source, width=5, height=5, faces=[]), None, tmp_path, "x")
    assert json.loads(files[0].read_text(encoding="utf-8"))["source"] == source
    assert "é.jpg" in files[0].read_text(encoding="utf-8")


def test_equal_stems_get_different_names(tmp_path):
    stems = OutputStems(tmp_path)
    names = [stems.name(source) for source in ("a/x.jpg", "b/x.png", "x-2.jpg", "X.webp", None, None)]
    assert names == ["x", "x-2", "x-2-2", "X-3", "image", "image-2"]


def test_no_output_overwrites_an_input(tmp_path):
    for name in ("x.png", "y.jpg", "z.parsing.png", "z.jpg"):
        (tmp_path / name).touch()
    stems = OutputStems(tmp_path, list(tmp_path.iterdir()))
    assert stems.name(str(tmp_path / "x.png")) == "x-2"
    assert stems.name(str(tmp_path / "y.jpg")) == "y"
    assert stems.name(str(tmp_path / "z.jpg")) == "z-2"


def test_stem_ending_in_parsing_is_changed(tmp_path):
    stems = OutputStems(tmp_path)
    assert stems.name("x.jpg") == "x"
    assert stems.name("x.parsing.jpg") == "x-parsing"


def test_outputs_never_take_the_path_of_an_input(tmp_path):
    for name in ("y.json", "z.npz", "real.png"):
        (tmp_path / name).touch()
    (tmp_path / "link.png").symlink_to(tmp_path / "real.png")
    os.link(tmp_path / "real.png", tmp_path / "hard.json")
    stems = OutputStems(tmp_path, [tmp_path / name for name in ("y.json", "z.npz", "link.png")])
    names = [stems.name(source) for source in ("y.jpg", "z.jpg", "real.jpg", "hard.jpg", "free.jpg")]
    assert names == ["y-2", "z-2", "real-2", "hard-2", "free"]


@pytest.mark.parametrize("name", ["x.json", "x.png", "x.npz", "x.parsing.png"])
def test_foreign_files_are_replaced_only_if_asked(tmp_path, name):
    image = np.zeros((20, 30, 3), np.uint8)
    result = Result(source="x.jpg", width=30, height=20, faces=[parsed_face()])
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(OutputError, match="did not write"):
        save_result(result, image, tmp_path, "x")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"{}"
    save_result(result, image, tmp_path, "x", overwrite=True)
    assert is_ours(tmp_path / name)
    save_result(result, image, tmp_path, "x")  # our own files are replaced


def test_unwritable_path_raises(tmp_path):
    result = Result(source="x.jpg", width=30, height=20, faces=[])
    (tmp_path / "x.json").mkdir()
    with pytest.raises(OutputError, match=r"x\.json cannot be written: a folder"):
        save_result(result, None, tmp_path, "x", overwrite=True)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        save_result(result, None, tmp_path / "file", "x")


def test_long_name_is_cut_and_saved(tmp_path):
    source = "é" * 120 + ".jpg"
    stem = OutputStems(tmp_path).name(source)
    (path,) = save_result(Result(source=source, error="none"), None, tmp_path, stem)
    assert path.exists() and len(path.name.encode()) < 255
