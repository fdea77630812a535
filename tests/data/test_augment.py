"""Augmentation: what is drawn on a face is found again where the labels say that it went."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from faceum.crop import CropSpec, box_from_points, crop_face, points5_from_landmarks
from faceum.data.augment import (
    LANDMARK_MIRROR,
    NO_AUGMENTATION,
    PARSING_MIRROR,
    ROUGH_WEIGHT,
    AugmentConfig,
    TrainingCrop,
    augment,
)
from faceum.data.face import LabelledFace
from faceum.geometry import warp
from faceum.tasks import PARSING_CLASSES

SPEC = CropSpec(policy="similarity", size=112, grid=7)
MOVED = AugmentConfig(colour=0, gray=0, blur=0, noise=0, erase=0, box_crop=0.3, flip=0.5)
"""All that moves a face, nothing that changes its colours."""


def face_of(image: np.ndarray, landmarks: np.ndarray, **labels: np.ndarray) -> LabelledFace:
    points5 = points5_from_landmarks(landmarks).astype(np.float32)
    return LabelledFace(
        id="1",
        source="made_up",
        image=image,
        box=box_from_points(points5).astype(np.float32),
        points5=points5,
        labels={"landmarks68": landmarks, **labels},
    )


def dots(landmarks: np.ndarray, which: list[int]) -> np.ndarray:
    """A black 200 x 200 image with a soft red, green and blue dot at three of the landmarks."""
    y, x = np.mgrid[0:200, 0:200] + 0.5
    around = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / 4) for px, py in landmarks[which]]
    return (255 * np.stack(around, axis=-1)).astype(np.uint8)


def brightest(image: np.ndarray, channel: int) -> np.ndarray:
    """The middle of what is bright in a channel, x and y in shares of the image."""
    weight = np.where(image[..., channel] > 25, image[..., channel], 0).astype(float)
    y, x = np.mgrid[0 : image.shape[0], 0 : image.shape[1]] + 0.5
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum() / image.shape[0]


def moved_many(face: LabelledFace, config: AugmentConfig, count: int = 20) -> list[TrainingCrop]:
    return [augment(face, SPEC, config, np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize(
    "trio", [[36, 45, 8], [0, 16, 30], [48, 54, 57], [17, 26, 33], [60, 64, 66], [31, 35, 3]]
)
def test_landmarks_move_with_pixels(landmarks68: np.ndarray, trio: list[int]) -> None:
    face = face_of(dots(landmarks68, trio), landmarks68)
    flips = 0
    for seed in range(20):
        crop = augment(face, SPEC, MOVED, np.random.default_rng(seed))
        places = np.stack([brightest(crop.image, channel) for channel in range(3)])
        straight = crop.labels["landmarks68"][trio]
        mirrored = crop.labels["landmarks68"][[int(LANDMARK_MIRROR[index]) for index in trio]]
        # In a mirrored image the dot that was at the left eye is what the labels call the right eye.
        errors = [np.abs(places - labels).max() for labels in (straight, mirrored)]
        flips += errors[1] < errors[0]
        assert min(errors) < 0.5 / SPEC.size
    assert 3 <= flips <= 17


def test_stretched_face_is_found_where_its_labels_are(landmarks68: np.ndarray) -> None:
    """The distance of the eyes over the length of the nose tells how far each crop was stretched."""
    config = dataclasses.replace(NO_AUGMENTATION, stretch=1.0)
    face = face_of(dots(landmarks68, [36, 45, 8]), landmarks68)
    plain = augment(face, SPEC, NO_AUGMENTATION, np.random.default_rng(0)).labels["landmarks68"]
    factors = []
    for crop in moved_many(face, config, 40):
        places = np.stack([brightest(crop.image, channel) for channel in range(3)])
        moved = crop.labels["landmarks68"]
        assert np.abs(places - moved[[36, 45, 8]]).max() < 0.5 / SPEC.size
        shapes = [(p[45, 0] - p[36, 0]) / (p[8, 1] - p[27, 1]) for p in (moved, plain)]
        factors.append(shapes[0] / shapes[1])
    assert 0.74 < min(factors) < 0.85 and 1.2 < max(factors) < 1.34


def test_face_tokens_of_stretched_face(landmarks68: np.ndarray) -> None:
    face = face_of(np.zeros((200, 200, 3), np.uint8), landmarks68)
    x0, y0, x1, y1 = face.box.round().astype(int)
    face.image[y0:y1, x0:x1] = 255
    agreeing = [
        ((crop.image[8::16, 8::16, 0].ravel() > 127) == crop.face_tokens_N).mean()
        for crop in moved_many(face, dataclasses.replace(NO_AUGMENTATION, stretch=1.0))
    ]
    assert np.mean(agreeing) > 0.95, "tokens at the edge of the box aside"


@pytest.mark.parametrize("name", ["shrink", "jpeg"])
def test_shrinking_and_compressing_lose_detail_but_no_colour(
    name: str, landmarks68: np.ndarray, image: np.ndarray
) -> None:
    face = face_of(image, landmarks68)
    plain = augment(face, SPEC, NO_AUGMENTATION, np.random.default_rng(0)).image.astype(float)
    for crop in moved_many(face, dataclasses.replace(NO_AUGMENTATION, **{name: 1.0}), 5):
        assert 0 < np.abs(crop.image - plain).mean() < 25
        assert np.abs(crop.image.mean((0, 1)) - plain.mean((0, 1))).max() < 3


def test_mirror_twice_is_identity(landmarks68: np.ndarray) -> None:
    assert sorted(LANDMARK_MIRROR) == list(range(68))
    assert (LANDMARK_MIRROR[LANDMARK_MIRROR] == np.arange(68)).all()
    assert {8, 27, 28, 29, 30, 33, 51, 57, 62, 66} == set(np.flatnonzero(LANDMARK_MIRROR == np.arange(68)))
    mirrored = (landmarks68 * [-1, 1] + [200, 0])[LANDMARK_MIRROR]
    # The face drawn by hand is like its mirror image but for a pixel or two about the mouth.
    assert np.abs(mirrored - landmarks68).max() < 2.1


def test_class_words_change_sides_only_where_they_name_one() -> None:
    swapped = {(PARSING_CLASSES[a], PARSING_CLASSES[b]) for a, b in enumerate(PARSING_MIRROR) if a != b}
    pairs = {("l_eye", "r_eye"), ("l_brow", "r_brow"), ("l_ear", "r_ear")}
    assert swapped == pairs | {(right, left) for left, right in pairs}
    assert (PARSING_MIRROR[PARSING_MIRROR] == np.arange(19)).all()


def test_masks_move_with_the_image(landmarks68: np.ndarray) -> None:
    """Each class has its own gray in the image; after the move, mask and image still agree."""
    mask = np.zeros((200, 200), np.uint8)
    mask[60:180, 50:150] = 1
    mask[70:90, 60:90], mask[70:90, 110:140], mask[130:150, 78:122] = 4, 5, 12
    grays = (np.arange(19) * 13).astype(np.uint8)
    face = face_of(np.repeat(grays[mask][..., None], 3, axis=-1), landmarks68, parsing=mask)
    flipped = set()
    for crop in moved_many(face, MOVED):
        drawn = np.round(crop.image[..., 0] / 13).astype(np.uint8)
        labels = crop.labels["parsing"]
        assert labels.shape == (112, 112) and labels.dtype == np.uint8
        shares = {
            mirrored: (drawn == (PARSING_MIRROR[labels] if mirrored else labels)).mean()
            for mirrored in (False, True)
        }
        flipped.add(max(shares, key=lambda mirrored: shares[mirrored]))
        assert max(shares.values()) > 0.94, "edges aside, where two grays are mixed"
        left_eye, right_eye = (
            (labels == PARSING_CLASSES.index(word)).nonzero() for word in ("l_eye", "r_eye")
        )
        assert left_eye[1].mean() < right_eye[1].mean(), "the class on the left stays on the left"
    assert flipped == {False, True}


def test_landmarks_keep_their_side_after_a_flip(landmarks68: np.ndarray, image: np.ndarray) -> None:
    for crop in moved_many(face_of(image, landmarks68), MOVED):
        points = crop.labels["landmarks68"]
        assert (
            points[36, 0] < points[45, 0] and points[48, 0] < points[54, 0] and points[0, 0] < points[16, 0]
        )


def test_without_augmentation_training_sees_what_inference_sees(
    landmarks68: np.ndarray, image: np.ndarray
) -> None:
    face = face_of(image, landmarks68)
    for place in (face, dataclasses.replace(face, points5=None)):
        crop = augment(place, SPEC, NO_AUGMENTATION, np.random.default_rng(0))
        expected = crop_face(image, SPEC, place.box, place.points5)
        np.testing.assert_array_equal(crop.image, expected.image)
        np.testing.assert_array_equal(crop.face_tokens_N, expected.face_tokens_N)
        homogeneous = np.column_stack([landmarks68, np.ones(68)])
        moved = homogeneous @ expected.matrix.T
        np.testing.assert_allclose(crop.labels["landmarks68"] * 112, moved, atol=1e-4)


def test_box_policy_matches_inference(landmarks68: np.ndarray, image: np.ndarray) -> None:
    spec = CropSpec(policy="box", size=96, grid=6, face_tokens="touched")
    face = face_of(image, landmarks68)
    crop = augment(face, spec, NO_AUGMENTATION, np.random.default_rng(0))
    expected = crop_face(image, spec, face.box)
    np.testing.assert_array_equal(crop.image, expected.image)
    np.testing.assert_array_equal(crop.face_tokens_N, expected.face_tokens_N)


def test_face_mask_moves_with_the_face(landmarks68: np.ndarray, image: np.ndarray) -> None:
    face = face_of(image, landmarks68)
    config = dataclasses.replace(NO_AUGMENTATION, turn=30, scale=0.3)
    for crop in moved_many(face, config):
        grid = crop.face_tokens_N.reshape(7, 7)
        for x, y in crop.labels["landmarks68"][[30, 39, 42]]:
            assert grid[int(y * 7), int(x * 7)], "patches at the nose and the inner eye corners are face"


def test_turning_and_scaling_are_about_the_middle_of_the_crop(
    landmarks68: np.ndarray, image: np.ndarray
) -> None:
    face = face_of(image, landmarks68.copy())
    expected = crop_face(image, SPEC, face.box, face.points5)
    face.labels["landmarks68"][8] = expected.inverse @ [56, 56, 1]
    for crop in moved_many(face, dataclasses.replace(NO_AUGMENTATION, turn=20, scale=0.2)):
        assert crop.labels["landmarks68"][8] == pytest.approx([0.5, 0.5], abs=1e-5)


def test_jitter_is_as_strong_as_its_config_says(landmarks68: np.ndarray, image: np.ndarray) -> None:
    face = face_of(image, landmarks68)
    still = augment(face, SPEC, NO_AUGMENTATION, np.random.default_rng(0)).labels["landmarks68"]
    shifted = moved_many(face, dataclasses.replace(NO_AUGMENTATION, shift=0.05), 200)
    moves = np.stack([crop.labels["landmarks68"].mean(0) - still.mean(0) for crop in shifted])
    assert moves.std(0) == pytest.approx([0.05, 0.05], rel=0.2)
    scaled = moved_many(face, dataclasses.replace(NO_AUGMENTATION, scale=0.1), 200)
    unit = np.linalg.norm(still[36] - still[45])
    assert np.std([np.log(crop.eye_distance / unit) for crop in scaled]) == pytest.approx(0.1, rel=0.2)
    turned = moved_many(face, dataclasses.replace(NO_AUGMENTATION, turn=10), 200)
    across = np.stack([crop.labels["landmarks68"][45] - crop.labels["landmarks68"][36] for crop in turned])
    assert np.rad2deg(np.arctan2(across[:, 1], across[:, 0])).std() == pytest.approx(10, rel=0.2)


def test_share_of_crops_comes_from_the_box_alone(landmarks68: np.ndarray, image: np.ndarray) -> None:
    face = face_of(image, landmarks68)
    away = dataclasses.replace(face, points5=face.points5 + np.float32(40))  # type: ignore[operator]
    by_box = crop_face(image, SPEC, face.box).image
    config = dataclasses.replace(NO_AUGMENTATION, box_crop=0.25)
    count = sum(np.array_equal(crop.image, by_box) for crop in moved_many(away, config, 200))
    assert 30 <= count <= 70


def test_other_labels_are_unchanged(landmarks68: np.ndarray, image: np.ndarray) -> None:
    given = {"age": np.array(31, np.float32), "attributes": np.arange(40) % 3 == 0}
    crop = augment(face_of(image, landmarks68, **given), SPEC, AugmentConfig(), np.random.default_rng(1))
    for name, value in given.items():
        np.testing.assert_array_equal(crop.labels[name], value)
    assert crop.image.dtype == np.uint8 and crop.image.shape == (112, 112, 3)


def test_errors_are_counted_in_outer_eye_distances(landmarks68: np.ndarray, image: np.ndarray) -> None:
    face = face_of(image, landmarks68)
    for crop in moved_many(face, MOVED, 6):
        points = crop.labels["landmarks68"]
        assert crop.eye_distance == pytest.approx(float(np.hypot(*(points[36] - points[45]))))
        assert crop.landmark_weight == 1
    taught = augment(dataclasses.replace(face, rough_landmarks=True), SPEC, MOVED, np.random.default_rng(0))
    assert taught.landmark_weight == ROUGH_WEIGHT


def test_faces_without_landmarks_have_a_unit_too(image: np.ndarray) -> None:
    face = LabelledFace(
        id="1",
        source="made_up",
        image=image,
        box=np.array([40, 40, 160, 180], np.float32),
        points5=None,
        labels={},
    )
    crop = augment(face, SPEC, AugmentConfig(mask_probability=1.0), np.random.default_rng(0))
    assert crop.eye_distance == 1 and crop.labels == {}


@pytest.mark.parametrize("name", ["colour", "gray", "blur", "noise", "erase", "mask_probability"])
def test_each_change_of_colour_changes_the_image_and_no_label(
    landmarks68: np.ndarray, image: np.ndarray, name: str
) -> None:
    face = face_of(image, landmarks68)
    plain = augment(face, SPEC, NO_AUGMENTATION, np.random.default_rng(3))
    crop = augment(face, SPEC, dataclasses.replace(NO_AUGMENTATION, **{name: 1.0}), np.random.default_rng(3))
    assert (crop.image != plain.image).any()
    np.testing.assert_array_equal(crop.labels["landmarks68"], plain.labels["landmarks68"])
    if name == "gray":
        assert (crop.image.max(-1) == crop.image.min(-1)).all()


def test_nothing_is_painted_over_a_face_with_a_class_map(landmarks68: np.ndarray, image: np.ndarray) -> None:
    face = face_of(image, landmarks68, parsing=np.ones((200, 200), np.uint8))
    config = dataclasses.replace(NO_AUGMENTATION, erase=1.0, mask_probability=1.0, surround=1.0)
    plain = augment(face, SPEC, NO_AUGMENTATION, np.random.default_rng(0))
    np.testing.assert_array_equal(augment(face, SPEC, config, np.random.default_rng(0)).image, plain.image)


def test_another_surround_shows_beyond_the_image_and_nowhere_else(landmarks68: np.ndarray) -> None:
    chip = np.full((120, 110, 3), 90, np.uint8)
    face = face_of(chip, landmarks68 - [45, 60])
    config = dataclasses.replace(NO_AUGMENTATION, surround=1.0)
    matrix = crop_face(chip, SPEC, face.box, face.points5).matrix
    inside = warp(np.ones(chip.shape[:2], np.uint8), matrix, (112, 112), border="zero") > 0
    assert 0 < inside.sum() < inside.size
    beyond = []
    for seed in range(12):
        crop = augment(face, SPEC, config, np.random.default_rng(seed))
        assert (crop.image[inside] == 90).all()
        beyond.append(crop.image[~inside])
        assert (beyond[-1] == beyond[-1][0]).all()
    # A part of an even image is the image's own gray; a colour is drawn each time.
    assert len({tuple(pixels[0]) for pixels in beyond}) > 3
    assert (90, 90, 90) in {tuple(pixels[0]) for pixels in beyond}


def test_face_itself_is_left_as_it_was(landmarks68: np.ndarray, image: np.ndarray) -> None:
    face = face_of(image.copy(), landmarks68.copy())
    moved_many(face, dataclasses.replace(AugmentConfig(), erase=1.0, mask_probability=1.0), 5)
    np.testing.assert_array_equal(face.image, image)
    np.testing.assert_array_equal(face.labels["landmarks68"], landmarks68)
