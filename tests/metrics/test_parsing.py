"""Parsing scores against a map worked by hand and scikit-learn's F1 over all pixels."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from faceum.errors import DataError
from faceum.metrics.parsing import f1_of_confusion, image_confusion, parsing_scores

NAMES = ("background", "skin", "nose", "hat")


def test_by_hand():
    true = np.array([[0, 1, 1], [0, 1, 2]], np.uint8)
    predicted = np.array([[0, 1, 2], [1, 1, 2]], np.uint8)
    confusion = image_confusion(predicted, true, 4)
    assert confusion.tolist() == [[1, 1, 0, 0], [0, 2, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    scores = parsing_scores(confusion[None], NAMES)
    assert scores.f1 == {
        "background": pytest.approx(2 / 3),
        "skin": pytest.approx(4 / 6),
        "nose": pytest.approx(2 / 3),
        "hat": None,
    }
    assert scores.mean_f1 == pytest.approx(2 / 3)
    assert scores.images == {"background": 1, "skin": 1, "nose": 1, "hat": 0}
    assert (scores.mean_f1_frequent, scores.frequent) == (None, ())
    assert scores.notes == ("hat: neither labelled nor predicted in any image, so it is in no mean.",)


def test_class_only_predicted_scores_zero():
    confusion = image_confusion(np.array([[3, 1]]), np.array([[1, 1]]), 4)
    scores = parsing_scores(confusion[None], NAMES)
    assert scores.f1["hat"] == 0
    assert scores.mean_f1 == pytest.approx((2 / 3 + 0) / 2)


def test_frequent_classes_are_those_in_twenty_images():
    skin_only = image_confusion(np.array([[0, 1, 1]]), np.array([[0, 1, 0]]), 4)
    with_nose = image_confusion(np.array([[0, 1, 0]]), np.array([[0, 1, 2]]), 4)
    nineteen = parsing_scores(np.stack([skin_only] * 5 + [with_nose] * 19), NAMES)
    twenty = parsing_scores(np.stack([skin_only] * 5 + [with_nose] * 20), NAMES)
    assert nineteen.frequent == ("skin",)
    assert twenty.frequent == ("skin", "nose")
    assert twenty.mean_f1_frequent == pytest.approx((2 * 25 / (25 + 30) + 0) / 2)


def test_equals_scikit_learn_over_one_confusion():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 19, (30, 8, 8)), rng.integers(0, 19, (30, 8, 8))
    confusions = np.stack([image_confusion(p, t, 19) for p, t in zip(predicted, true, strict=True)])
    scores = parsing_scores(confusions, [str(i) for i in range(19)])
    expected = f1_score(true.ravel(), predicted.ravel(), average=None)
    assert list(scores.f1.values()) == pytest.approx(expected)
    assert scores.mean_f1 == pytest.approx(expected[1:].mean())
    assert f1_of_confusion(confusions).shape == (30, 19)


@pytest.mark.parametrize(
    ("predicted", "true", "sentence"),
    [
        (np.zeros((2, 2), int), np.zeros((2, 3), int), r"\(2, 3\), got \(2, 2\)"),
        (np.zeros((2, 2), int), np.full((2, 2), 19), "Class id 19 among the labelled pixels"),
        (np.full((1, 1), np.nan), np.zeros((1, 1), int), "predicted pixels are NaN"),
    ],
)
def test_sets_that_cannot_be_scored_are_refused(predicted, true, sentence):
    with pytest.raises(DataError, match=sentence):
        image_confusion(predicted, true, 19)


def test_no_image_gives_a_sentence():
    with pytest.raises(DataError, match="at least one image"):
        parsing_scores(np.zeros((0, 4, 4)), NAMES)
