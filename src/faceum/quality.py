"""What tells how well a face can be recognized: signals that the pipeline has at hand.

`faceum.weights.quality` turns them into one number by a formula that `faceum eval --protocol quality` fits.
Legend: B faces.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from faceum.crop import Crop

SIGNALS = ("length", "size", "sharpness")
"""The signals by name."""


def measure_signals(embeddings: np.ndarray, crops: Sequence[Crop]) -> dict[str, np.ndarray]:
    """Return name of a signal -> its values (B,) float64, natural logarithms.

    length: of the embedding before it is normalized. size: image pixels per pixel of the crop, at most 1,
    because more are averaged away. sharpness: standard deviation of the crop's Laplacian.
    embeddings: (B, D) as the network answers them. crops: those that the network saw.
    """
    lengths = np.linalg.norm(np.asarray(embeddings, np.float64), axis=1)
    sizes = [min(float(np.linalg.norm(crop.inverse[:, 0])), 1.0) for crop in crops]
    sharpness = [float(cv2.Laplacian(_gray(crop.image), cv2.CV_32F).std()) for crop in crops]
    return {
        name: np.log(np.maximum(np.asarray(values, np.float64), 1e-3))
        for name, values in zip(SIGNALS, (lengths, sizes, sharpness), strict=True)
    }


def _gray(image: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
