"""Drawings: everything that was found is in them, whatever the image's size and the faces' number."""

import dataclasses

import cv2
import numpy as np
import pytest

from faceum import render
from faceum.render import LARGEST, PAINTERS, SHORTEST, render_faces
from faceum.render.layout import MARGIN
from faceum.render.lettering import PlotterLetters, Typeface, best_lettering, shorten_to_width
from faceum.render.overlay import draw_parsing, reaches_beyond_crop
from faceum.render.palette import CLASS_COLOURS, CLASS_WORDS, PALETTE, face_colour
from faceum.render.panel import attribute_words, select_notable
from faceum.results import Age, Expression, Face, Parsing
from faceum.tasks import ATTRIBUTES, EXPRESSIONS, KINDS, PARSING_CLASSES


def a_face(box=(20.0, 20.0, 60.0, 70.0)):
    rng = np.random.default_rng(0)
    x0, y0, x1, y1 = box
    shares = rng.dirichlet(np.ones(8))
    class_map = np.zeros((32, 32), np.uint8)
    class_map[8:24, 8:24] = 13
    return Face(
        box=np.array(box, np.float32),
        points5=np.array([[30, 35], [50, 35], [40, 45], [33, 58], [47, 58]], np.float32),
        score=0.9,
        embedding=rng.normal(size=512).astype(np.float32),
        age=Age(years=41, std=6),
        attributes=dict(zip(ATTRIBUTES, rng.uniform(size=40).tolist(), strict=True)),
        expression=Expression(
            label=EXPRESSIONS[int(shares.argmax())],
            probabilities=dict(zip(EXPRESSIONS, shares.tolist(), strict=True)),
        ),
        landmarks=(rng.uniform(size=(68, 2)) * (x1 - x0, y1 - y0) + (x0, y0)).astype(np.float32),
        parsing=Parsing(class_map=class_map, matrix=np.array([[2, 0, x0], [0, 2, y0]], np.float64)),
    )


@pytest.fixture
def photo():
    return np.full((120, 100, 3), 90, np.uint8)


def test_every_kind_of_task_has_a_painter_and_every_class_its_own_colour():
    assert set(PAINTERS) == set(KINDS)
    assert set(CLASS_COLOURS) == set(CLASS_WORDS) == set(PARSING_CLASSES)
    assert len({tuple(colour) for colour in PALETTE.tolist()}) == 19
    # Neighbouring colours must be told apart: no two lie close together.
    apart = np.linalg.norm(PALETTE[:, None].astype(float) - PALETTE[None], axis=-1)
    assert apart[np.triu_indices(19, 1)].min() > 40


@pytest.mark.parametrize("field", ["embedding", "age", "attributes", "expression", "landmarks", "parsing"])
def test_every_answer_is_seen_in_the_drawing(photo, field):
    bare = Face(box=a_face().box)
    more = dataclasses.replace(bare, **{field: getattr(a_face(), field)})
    without, drawn = render_faces(photo, [bare]), render_faces(photo, [more])
    assert without.shape != drawn.shape or (without != drawn).any()


def test_image_given_is_left_alone(photo):
    before = photo.copy()
    render_faces(photo, [a_face()])
    assert (photo == before).all()


def test_parsing_colours_lie_on_the_parsed_pixels(photo):
    face = Face(box=np.array([1, 1, 3, 3], np.float32), parsing=a_face().parsing)
    drawn = render_faces(photo, [face])
    scale = 960 / 120
    at = lambda x, y: drawn[MARGIN + int(y * scale), MARGIN + int(x * scale)].astype(int)  # noqa: E731
    hair = (90 + np.array(CLASS_COLOURS["hair"])) / 2
    assert np.abs(at(52, 52) - hair).max() <= 2  # the middle of the hair
    assert np.abs(at(90, 110) - 90).max() == 0  # outside
    assert np.abs(at(25, 52) - 90).max() == 0  # background in the crop


def test_class_that_meets_the_edge_of_its_crop_ends_in_stripes():
    side, corner, scale = 20, 60, 4
    matrix = np.array([[scale, 0, corner], [0, scale, corner]], np.float64)
    crop = slice(corner, corner + side * scale)
    for class_id, is_hatched in ((13, True), (0, False)):
        image = np.full((200, 200, 3), 90, np.uint8)
        parsing = Parsing(class_map=np.full((side, side), class_id, np.uint8), matrix=matrix)
        draw_parsing(image, parsing, np.eye(2, 3))
        changed = (image != 90).any(axis=2)
        assert changed[crop, crop].all() == changed.any() == is_hatched
        changed[crop, crop] = False
        beyond = np.argwhere(changed)
        assert bool(len(beyond)) == is_hatched == reaches_beyond_crop(parsing, (200, 200))
        if is_hatched:
            assert beyond.min() >= corner - 6 and beyond.max() < corner + side * scale + 6
            row = changed[100, : corner - 1]  # stripes: neither all nor nothing of the band
            column = changed[:, corner - 3]
            assert row.sum() < len(row) and 0 < column[crop].sum() < side * scale


@pytest.mark.parametrize("shape", [(1, 1), (3, 4), (100, 20_000), (20_000, 100), (2000, 3000), (40, 33_000)])
@pytest.mark.parametrize("faces", [0, 1])
def test_any_size_of_image_can_be_drawn(shape, faces):
    drawn = render_faces(np.zeros((*shape, 3), np.uint8), [a_face((0.0, 0.0, 1.0, 1.0))] * faces)
    assert drawn.dtype == np.uint8 and drawn.shape[2] == 3
    assert SHORTEST <= min(drawn.shape[:2]) and max(drawn.shape[:2]) <= LARGEST + 4 * 500


@pytest.mark.parametrize("count", [2, 4, 5, 24, 60])
def test_any_number_of_faces_can_be_drawn(photo, count):
    drawn = render_faces(photo, [a_face()] * count)
    assert max(drawn.shape[:2]) < 4000


def test_faces_at_and_beyond_the_rim_are_drawn(photo):
    for box in ((-50.0, -50.0, 20.0, 20.0), (90.0, 100.0, 300.0, 400.0), (-500.0, -500.0, -400.0, -400.0)):
        render_faces(photo, [a_face(box)])


def test_legend_names_only_what_lies_in_the_image(photo, monkeypatch):
    named = []
    monkeypatch.setattr(render, "draw_legend", lambda classes, width, letters, hatched: named.extend(classes))
    class_map = np.zeros((4, 4), np.uint8)
    class_map[:, 0], class_map[1, 2], class_map[3, 3] = 14, 1, 13
    matrix = np.array([[10, 0, -11], [0, 10, 100]], np.float64)  # the hat is left of it, the hair below it
    render_faces(
        photo,
        [
            Face(
                box=np.array([0, 90, 30, 120], np.float32),
                parsing=Parsing(class_map=class_map, matrix=matrix),
            )
        ],
    )
    assert named == [1]


def test_expression_of_zero_per_cent_has_no_bar(photo):
    shares = dict.fromkeys(EXPRESSIONS, 0.0) | {"happiness": 1.0}
    almost = shares | {"neutral": 0.004}
    faces = [
        Face(box=a_face().box, expression=Expression(label="happiness", probabilities=p))
        for p in (shares, almost)
    ]
    none, tiny = (render_faces(photo, [face]) for face in faces)
    assert (none == tiny).all()


def test_number_of_a_face_stays_inside_the_image(photo):
    drawn = render_faces(photo, [Face(box=np.array([10, -30, 60, 50], np.float32))])
    tag = (drawn == np.array(face_colour(0), np.uint8)).all(axis=-1)[MARGIN : MARGIN + 40]
    assert tag.sum() > 100


def test_older_opencv_letters_draw_and_measure(photo, monkeypatch):
    image = np.zeros((60, 400, 3), np.uint8)
    letters = PlotterLetters()
    letters.draw(image, "34 ± 5 · years", (10, 40), 24, (255, 255, 255))
    width = letters.width("34 ± 5 · years", 24)
    columns = np.flatnonzero(image.any(axis=(0, 2)))
    assert columns[0] >= 8 and abs(columns[-1] - 10 - width) < 12
    monkeypatch.delattr(cv2, "FontFace", raising=False)
    assert isinstance(best_lettering(), PlotterLetters)
    render_faces(photo, [a_face()])


@pytest.mark.skipif(not hasattr(__import__("cv2"), "FontFace"), reason="OpenCV 4 has no typeface")
def test_typeface_measures_what_it_draws():
    image = np.zeros((60, 400, 3), np.uint8)
    letters = Typeface()
    letters.draw(image, "Happiness 87 %", (10, 40), 24, (255, 255, 255), 600)
    columns = np.flatnonzero(image.any(axis=(0, 2)))
    assert abs(columns[-1] - 10 - letters.width("Happiness 87 %", 24, 600)) < 6


def test_long_text_is_cut_with_an_ellipsis():
    letters = PlotterLetters()
    short = shorten_to_width(letters, "a very long line indeed", 80, 16)
    assert short.endswith("…") and letters.width(short, 16) <= 80
    assert shorten_to_width(letters, "short", 80, 16) == "short"


def test_notable_attributes_are_the_most_certain_ones():
    values = {"Bald": 0.2, "Smiling": 0.7, "Young": 0.9, "Attractive": 0.99}
    assert select_notable(values) == [("Young", 0.9), ("Smiling", 0.7)]
    assert attribute_words("5_o_Clock_Shadow") == "5 o'clock shadow"
    assert attribute_words("Wearing_Hat") == "Wearing hat"
