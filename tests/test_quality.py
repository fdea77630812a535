"""The signals of quality tell small, blurred and weak faces from good ones."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from faceum.crop import CropSpec, crop_face
from faceum.quality import SIGNALS, measure_signals

SPEC = CropSpec(policy="similarity", size=112, grid=7)


def test_signals(portrait: np.ndarray) -> None:
    points = np.array([[180, 120], [250, 120], [215, 165], [188, 195], [245, 195]], np.float32)
    box = np.array([150, 60, 290, 240], np.float32)
    sharp = crop_face(portrait, SPEC, box, points)
    blurred = crop_face(cv2.GaussianBlur(portrait, (0, 0), 6), SPEC, box, points)
    small = cv2.resize(portrait, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    tiny = crop_face(small, SPEC, box / 4, points / 4)
    embeddings = np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    signals = measure_signals(embeddings, [sharp, blurred, tiny])
    assert tuple(signals) == SIGNALS
    assert signals["length"][:2] == pytest.approx([np.log(5), np.log(0.5)])
    assert np.isfinite(signals["length"][2]), "an embedding of zeros has a quality, too"
    assert signals["sharpness"][0] > signals["sharpness"][1] + 1
    assert signals["size"][0] - signals["size"][2] == pytest.approx(
        min(0, np.log(np.linalg.norm(sharp.inverse[:, 0]))) - np.log(np.linalg.norm(tiny.inverse[:, 0]))
    )
