"""Class scores against values worked by hand and scikit-learn; majority votes and their ties."""

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix

from faceum.errors import DataError
from faceum.metrics.expression import NO_ANSWER, TIE, class_scores, majority_vote


def test_by_hand():
    scores = class_scores([0, 0, 1, 1, 1], [0, 0, 0, 0, 1], ["calm", "glad", "sad"])
    assert scores.accuracy == pytest.approx(3 / 5)
    assert scores.recalls == {"calm": 0.5, "glad": 1.0, "sad": None}
    assert scores.mean_class_accuracy == 0.75
    assert scores.confusion.tolist() == [[2, 2, 0], [0, 1, 0], [0, 0, 0]]
    assert scores.notes == ("sad: no image shows this class, so it is left out of the mean class accuracy.",)


def test_no_answer_is_a_wrong_one():
    scores = class_scores([0, NO_ANSWER, 1, NO_ANSWER], [0, 0, 1, 1], ["calm", "glad"])
    assert (scores.accuracy, scores.recalls) == (0.5, {"calm": 0.5, "glad": 0.5})
    assert scores.confusion.tolist() == [[1, 0], [0, 1]]
    assert class_scores([NO_ANSWER], [1], ["calm", "glad"]).accuracy == 0


def test_equals_scikit_learn():
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, 8, 500), rng.integers(0, 8, 500)
    scores = class_scores(predicted, true, [str(i) for i in range(8)])
    assert (scores.confusion == confusion_matrix(true, predicted)).all()
    assert scores.mean_class_accuracy == pytest.approx(balanced_accuracy_score(true, predicted))


def test_majority_vote_names_ties():
    labels, ties = majority_vote(np.array([[5, 3, 2], [4, 4, 2], [0, 0, 1], [1, 1, 1]]))
    assert labels.tolist() == [0, TIE, 2, TIE]
    assert ties == 2


@pytest.mark.parametrize("votes", [[[1, 0], [0, 0]], [[1, 0], [2, -1]]])
def test_rows_without_votes_are_named(votes):
    with pytest.raises(DataError, match=": 1, the first is row 1"):
        majority_vote(np.array(votes))


@pytest.mark.parametrize(
    ("predicted", "true", "sentence"),
    [
        ([3], [0], "Class id 3 among the predicted classes"),
        ([0], [-1], "Class id -1 among the true classes"),
        ([np.nan], [0], "predicted classes are NaN"),
        ([0.5], [0], "whole numbers"),
        ([0, 1], [0], "equally many rows"),
        ([], [], "no predicted classes"),
    ],
)
def test_sets_that_cannot_be_scored_are_refused(predicted, true, sentence):
    with pytest.raises(DataError, match=sentence):
        class_scores(predicted, true, ["calm", "glad"])
