"""Attribute scores against values worked by hand and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, balanced_accuracy_score

from faceum.errors import DataError
from faceum.metrics.attributes import attribute_scores, average_precision


def test_by_hand():
    probabilities = np.array([[0.9, 0.4], [0.2, 0.6], [0.6, 0.1], [0.1, 0.2]])
    labels = np.array([[1, 1], [1, 0], [0, 0], [0, 0]])
    scores = attribute_scores(probabilities, labels, ["Hat", "Bald"])
    hat, bald = scores.attributes
    assert (hat.accuracy, hat.balanced_accuracy) == (0.5, 0.5)
    assert hat.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert (bald.accuracy, bald.balanced_accuracy) == (0.5, pytest.approx((0 + 2 / 3) / 2))
    assert bald.average_precision == pytest.approx(1 / 2)
    assert scores.accuracy == 0.5
    assert scores.majority == pytest.approx((0.5 + 0.75) / 2)
    assert scores.notes == ()


def test_equal_scikit_learn_with_ties():
    rng = np.random.default_rng(0)
    probabilities = np.round(rng.random((300, 5)), 1)
    labels = (rng.random((300, 5)) < 0.3).astype(int)
    scores = attribute_scores(probabilities, labels, list("abcde"))
    for column, score in enumerate(scores.attributes):
        truth, given = labels[:, column], probabilities[:, column]
        assert score.average_precision == pytest.approx(average_precision_score(truth, given))
        assert score.balanced_accuracy == pytest.approx(balanced_accuracy_score(truth, given > 0.5))
    assert scores.average_precision == pytest.approx(average_precision_score(labels, probabilities))


def test_missing_class_and_a_missing_label_are_said():
    scores = attribute_scores(
        np.full((2, 3), 0.9), np.array([[1, 0, -1], [1, 1, -1]]), ["All", "Some", "None"]
    )
    every, some, unknown = scores.attributes
    assert (every.accuracy, every.balanced_accuracy, every.average_precision) == (1.0, None, None)
    assert (unknown.count, unknown.accuracy) == (0, None)
    assert scores.balanced_accuracy == some.balanced_accuracy == 0.5
    assert scores.accuracy == 0.75
    assert len(scores.notes) == 2
    assert "All: of 2 images none has the answer no" in scores.notes[0]
    assert "None: no image has this label" in scores.notes[1]


def test_unlabelled_images_do_not_count():
    scores = attribute_scores(np.array([[0.9], [0.9], [0.1]]), np.array([[1], [-1], [0]]), ["Hat"])
    assert scores.attributes[0].count == 2
    assert scores.accuracy == 1


@pytest.mark.parametrize(
    ("probabilities", "labels", "sentence"),
    [
        ([[np.nan]], [[1]], "1 of 1 attribute probabilities are NaN"),
        ([[0.5]], [[2]], "got 2"),
        ([[0.5, 0.5]], [[1]], r"got \(1, 2\) and \(1, 1\)"),
        ([[0.5]], [[-1]], "nothing to score"),
    ],
)
def test_sets_that_cannot_be_scored_are_refused(probabilities, labels, sentence):
    with pytest.raises(DataError, match=sentence):
        attribute_scores(np.array(probabilities), np.array(labels), ["Hat"])


def test_average_precision_needs_a_yes():
    with pytest.raises(DataError, match="at least one yes"):
        average_precision([0.1], [False])
