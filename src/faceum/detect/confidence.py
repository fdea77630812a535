"""How sure it is that a detection is a face: the answers of two networks as one probability.

The first network finds faces by what heads look like from afar; the second sees each one enlarged, upright
and mirrored. The numbers below were fitted by logistic regression on photos and on drawn images without
faces, with three faces for each object that resembles a face; benchmarks/not_faces.py measures the result,
and docs/log.md has the setting. The landmarks of the face network are left out on purpose: beyond these two
they add nothing, and so the score does not depend on the chosen network and tasks.
"""

from __future__ import annotations

import numpy as np

OFFSET, BY_SCORE, BY_FACE = -0.27, 2.58, 0.31
"""The log odds of a face: OFFSET + BY_SCORE * log odds of the first network + BY_FACE * of the second."""

SUREST = 0.999
"""Probabilities of the second network count as at most this, and at least 1 minus this."""


def confidence(scores: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return the probability (n,) that each detection is a face, float32.

    scores: (n,) of the first network. faces: (n,) probabilities of the second.
    """
    odds = OFFSET + BY_SCORE * _log_odds(scores, 1e-6) + BY_FACE * _log_odds(faces, 1 - SUREST)
    return np.asarray(1 / (1 + np.exp(-odds)), np.float32)


def lowest_score(wanted: float) -> float:
    """Return the lowest score of the first network that can still reach a confidence."""
    odds = (
        float(_log_odds(np.float64(wanted), 1e-9))
        - OFFSET
        - BY_FACE * float(_log_odds(np.float64(1), 1 - SUREST))
    )
    return float(1 / (1 + np.exp(-odds / BY_SCORE)))


def _log_odds(probability: np.ndarray | np.float64, margin: float) -> np.ndarray:
    clipped = np.clip(np.asarray(probability, np.float64), margin, 1 - margin)
    return np.asarray(np.log(clipped / (1 - clipped)))
