"""The shipped weights on the example portrait: the face is found, and the answers are true."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from faceum.analyzer import FaceAnalyzer
from faceum.crop import points5_from_landmarks
from faceum.image import read_image
from faceum.tasks import PARSING_CLASSES
from faceum.weights.registry import asset_names

pytestmark = pytest.mark.skipif("compact" not in asset_names("model"), reason="no weights are shipped yet")

POINTS = np.array([[202.5, 101.0], [247.0, 103.5], [223.5, 127.0], [202.5, 140.0], [245.5, 141.0]])
"""Read off the enlarged portrait by hand: eye centres, nose tip, mouth corners, in pixels."""

EYE_DISTANCE = float(np.hypot(*(POINTS[1] - POINTS[0])))


@pytest.fixture(scope="module")
def analyzer():
    return FaceAnalyzer(device="cpu")


@pytest.fixture(scope="module")
def face(analyzer, portrait_path):
    (face,) = analyzer.analyze(portrait_path)
    return face


def distance(points):
    """The largest distance from the hand-written points, in eye distances."""
    return float(np.linalg.norm(np.asarray(points) - POINTS, axis=1).max()) / EYE_DISTANCE


def test_face_is_found(face):
    x0, y0, x1, y1 = face.box
    assert (x0 < POINTS.min(axis=0)[0]) and (x1 > POINTS.max(axis=0)[0])
    assert 60 < x1 - x0 < 140 and 80 < y1 - y0 < 170 and face.score > 0.5


def test_five_points_lie_where_they_should(face):
    assert distance(face.points5) < 0.1


def test_landmarks_lie_where_they_should(face):
    assert distance(points5_from_landmarks(face.landmarks)) < 0.1


def test_answers_are_true(face):
    # Eileen Collins, photographed in her forties, smiling, with brown hair.
    assert face.age.std < 25
    assert face.expression.label == "happiness"
    attributes = face.attributes
    assert attributes["Smiling"] > 0.5 and attributes["Mouth_Slightly_Open"] > 0.5
    for absent in ("Bald", "Eyeglasses", "Mustache", "Goatee", "Wearing_Hat", "Gray_Hair"):
        assert attributes[absent] < 0.5, absent


@pytest.mark.xfail(strict=True, reason="the shipped weights call the portrait male (MODEL_CARD.md)")
def test_perceived_sex_is_true(face):
    assert face.attributes["Male"] < 0.5


def test_age_is_true(face):
    assert 20 < face.age.years < 60
    card = (Path(__file__).resolve().parents[1] / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"is estimated at {face.age.years:.0f}." in card


def test_parts_lie_where_they_should(face):
    classes = face.parsing.paste((512, 512))
    part = lambda x, y: PARSING_CLASSES[classes[y, x]]  # noqa: E731
    assert part(200, 118) == "skin" and part(248, 120) == "skin" and part(225, 165) == "skin"
    assert part(223, 120) == "nose"
    assert part(225, 45) == "hair" and part(165, 90) == "hair"
    assert part(224, 145) in ("mouth", "u_lip", "l_lip")
    assert (classes[:, 330:] == 255).all()  # unknown beyond the crop


def same(one, two, tolerance=2e-3):
    """Whether two faces have the same answers."""
    assert float(one.embedding @ two.embedding) > 1 - tolerance
    assert one.landmarks == pytest.approx(two.landmarks, abs=0.05)
    assert one.age.years == pytest.approx(two.age.years, abs=0.1)
    assert one.attributes == pytest.approx(two.attributes, abs=0.01)
    assert one.expression.label == two.expression.label
    assert (one.parsing.class_map == two.parsing.class_map).mean() >= 0.999


def test_answer_is_the_same_from_every_source(analyzer, face, portrait_path, portrait, tmp_path):
    same(face, analyzer.analyze(str(portrait_path))[0])
    same(face, analyzer.analyze(portrait_path.read_bytes())[0])
    same(face, analyzer.analyze(Image.open(portrait_path))[0])
    same(face, analyzer.analyze(portrait)[0])
    same(face, analyzer.analyze(portrait[..., ::-1], bgr=True)[0])
    exif = Image.Exif()
    exif[274] = 8  # to be shown turned against the clock
    Image.fromarray(np.rot90(portrait, -1).copy()).save(tmp_path / "turned.png", exif=exif)
    same(face, analyzer.analyze(tmp_path / "turned.png")[0])


def test_both_runtimes_give_one_answer(face, portrait_path):
    pytest.importorskip("torch")
    by_torch = FaceAnalyzer(runtime="torch", device="cpu").analyze(portrait_path)[0]
    same(face, by_torch)
    assert face.similarity(by_torch) >= 0.9999  # one model id for both formats


def test_box_alone_leads_to_the_same_face(analyzer, face, portrait):
    (given,) = analyzer.analyze(portrait, boxes=[face.box])
    assert distance(given.points5) < 0.15
    assert float(given.embedding @ face.embedding) > 0.9


def test_cropped_face_needs_no_detector(analyzer, face, portrait):
    x0, y0, x1, y1 = face.box.astype(int)
    (given,) = analyzer.analyze(portrait[y0:y1, x0:x1], cropped=True)
    assert distance(given.points5 + (x0, y0)) < 0.15
    assert given.expression.label == "happiness"


def test_darker_and_blurred_copy_is_the_same_person(analyzer, face, portrait):
    changed = cv2.GaussianBlur((portrait * 0.7).astype(np.uint8), (0, 0), 1.0)
    assert float(analyzer.analyze(changed)[0].embedding @ face.embedding) > 0.6


def test_two_faces_in_one_image_keep_their_answers(analyzer, face, portrait):
    half = cv2.resize(portrait, (256, 256), interpolation=cv2.INTER_AREA)
    both = np.full((512, 768, 3), 99, np.uint8)
    both[:256, :256], both[:, 256:] = half, portrait
    large, small = analyzer.analyze(both)
    assert distance(points5_from_landmarks(large.landmarks) - (256, 0)) < 0.1
    assert distance(points5_from_landmarks(small.landmarks) * 2) < 0.15
    assert float(large.embedding @ face.embedding) > 0.95


def test_no_face_in_an_image_without_one(analyzer, portrait):
    assert len(analyzer.analyze(portrait[:, 320:])) == 0  # the shuttle and the helmet


def test_odd_images_are_valid(analyzer):
    for shape in ((1, 1), (100, 20_000), (20_000, 100)):
        assert len(analyzer.analyze(np.full((*shape, 3), 127, np.uint8))) == 0


def test_image_read_is_the_image_given(portrait, portrait_path):
    assert (read_image(portrait_path.read_bytes()) == portrait).all()
