"""Which face is scored, how it is cut, and how it is counted."""

from dataclasses import replace

import numpy as np
import pytest

from faceum.crop import crop_face, points5_from_landmarks
from faceum.data.face import find_labelled, read_face
from faceum.errors import DataError
from faceum.evaluate.samples import answers, cut_faces, mirror_crop
from faceum.geometry import invert, transform_points


def test_detection_that_overlaps_most_is_taken(toy):
    apart, near, exact = toy.detection((20, 50)), toy.detection((55, 50)), toy.detection((51, 50))
    assert find_labelled(toy.Detector(apart, near, exact), toy.row("a", 0).image, toy.face_box()) is exact
    assert find_labelled(toy.Detector(near, apart), toy.row("a", 0).image, toy.face_box()) is near


def test_detection_elsewhere_is_not_the_face(toy):
    assert find_labelled(toy.Detector(toy.detection((20, 50))), toy.row("a", 0).image, toy.face_box()) is None
    unsure = toy.Detector(toy.detection(score=0.4))
    assert find_labelled(unsure, toy.row("a", 0).image, toy.face_box()) is None
    assert find_labelled(toy.Detector(), toy.row("a", 0).image, toy.face_box()) is None


def test_crop_comes_from_the_detection(toy, runner):
    found = toy.detection((52, 49), eye_distance=15)
    one = toy.row("a", 7)
    (sample,) = cut_faces([one], runner, toy.Detector(found), task="age", tight=False)
    expected = crop_face(one.image, toy.SPEC, found.box, found.points5)
    assert sample.found == "detector"
    assert sample.crop.matrix == pytest.approx(expected.matrix)
    assert (sample.crop.face_tokens_N == expected.face_tokens_N).all()


@pytest.mark.parametrize(
    ("asked", "tight", "found"), [(True, True, "given"), (True, False, "missed"), (False, False, "given")]
)
def test_face_that_is_not_found_is_cut_by_the_label(toy, runner, asked, tight, found):
    one = toy.row("a", 7)
    detector = toy.Detector() if asked else None
    (sample,) = cut_faces([one], runner, detector, task="age", tight=tight)
    assert sample.found == found
    assert sample.crop.matrix == pytest.approx(crop_face(one.image, toy.SPEC, one.box, one.points5).matrix)


def test_without_a_box_the_face_in_the_middle_is_meant(runner, toy):
    left, middle = toy.detection((20, 50)), toy.detection((55, 50))
    one = replace(toy.row("a", 7), box=None, points5=None)
    (found,) = cut_faces([one], runner, toy.Detector(left, middle), task="age", tight=False)
    assert found.crop.matrix == pytest.approx(
        crop_face(one.image, toy.SPEC, middle.box, middle.points5).matrix
    )
    (missed,) = cut_faces([one], runner, toy.Detector(), task="age", tight=False)
    assert missed.found == "missed"


def test_points_say_where_the_box_is(runner, toy):
    one = read_face(replace(toy.sample("a", 7), box=None))
    near, far = toy.detection((52, 51)), toy.detection((80, 80))
    (found,) = cut_faces([one], runner, toy.Detector(far, near), task="age", tight=False)
    assert found.found == "detector"
    assert found.crop.matrix == pytest.approx(crop_face(one.image, toy.SPEC, near.box, near.points5).matrix)


def test_without_points_the_networks_own_landmarks_place_the_crop(toy, runner):
    one = replace(toy.row("a", 7), points5=None)
    (sample,) = cut_faces([one], runner, None, task="age", tight=True)
    rough = crop_face(one.image, toy.SPEC, one.box)
    points5 = points5_from_landmarks(transform_points(invert(rough.matrix), toy.POINTS * 32))
    assert sample.crop.matrix == pytest.approx(
        crop_face(one.image, toy.SPEC, one.box, points5).matrix, abs=1e-4
    )


def test_batches_keep_order_and_hold_all(toy, runner):
    rows = [toy.row(str(age), age) for age in range(10)]
    given = answers(runner, cut_faces(rows, runner, None, task="age", tight=True), "age", batch=4)
    assert [(sample.id, round(age.years)) for sample, age in given] == [(str(age), age) for age in range(10)]
    assert runner.calls == [4, 4, 2]


def test_answer_that_is_no_number_is_named(toy, runner):
    runner.age = lambda crops: np.where(crops[:, :1, 0, 0] > 5, np.nan, 0) * np.ones(101)
    samples = cut_faces([toy.row("fine", 3), toy.row("broken", 9)], runner, None, task="age", tight=True)
    with pytest.raises(DataError, match="answer to age holds NaN or infinity for broken"):
        list(answers(runner, samples, "age"))


def test_mirror_turns_pixels_and_face_patches(toy):
    crop = crop_face(toy.row("a", 0).image, toy.SPEC, np.array([20.0, 20, 50, 80]), toy.face_points())
    crop.image[5, 3] = 200
    turned = mirror_crop(crop, toy.SPEC)
    assert (turned.image[5, 28] == 200).all()
    assert turned.face_tokens_N.reshape(4, 4)[:, ::-1].tolist() == crop.face_tokens_N.reshape(4, 4).tolist()
    assert turned.face_tokens_N.tolist() != crop.face_tokens_N.tolist()
    assert (mirror_crop(turned, toy.SPEC).image == crop.image).all()
