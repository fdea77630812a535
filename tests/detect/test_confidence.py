"""Two networks' answers become one probability, which rises with each of them and can be inverted."""

from __future__ import annotations

import numpy as np
import pytest

from faceum.detect.centerface import CenterFace
from faceum.detect.confidence import confidence, lowest_score


def test_the_confidence_rises_with_both_answers() -> None:
    scores = np.linspace(0.01, 0.99, 50)
    surest = confidence(scores, np.ones(50))
    doubted = confidence(scores, np.zeros(50))
    for values in (surest, doubted):
        assert values.dtype == np.float32 and (np.diff(values) > 0).all()
        assert 0 <= values.min() and values.max() <= 1
    assert (surest > doubted).all()


@pytest.mark.parametrize("wanted", [0.05, 0.3, 0.5, 0.9, 0.99])
def test_below_the_lowest_score_nothing_reaches_the_confidence(wanted: float) -> None:
    lowest = lowest_score(wanted)
    reached = confidence(np.array([lowest - 1e-3, lowest + 1e-3]), np.ones(2))
    assert reached[0] < wanted < reached[1]


def test_the_portrait_is_sure_and_a_ball_is_not_found(portrait: np.ndarray) -> None:
    detector = CenterFace(threads=1)
    (face,) = detector.detect(portrait)
    assert face.score is not None and face.score > 0.95
    y, x = np.mgrid[:256, :256]
    ball = np.where(np.hypot(x - 128, y - 128) < 70, 190 - (y - 60) / 2, 90).astype(np.uint8)
    assert detector.detect(np.dstack([ball, ball * 0.8, ball * 0.7]).astype(np.uint8)) == []
