"""Draw the best and worst examples of an evaluation, with labels and answers, into one PNG file."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from faceum.evaluate.plots import new_figure, save_figure
from faceum.evaluate.record import Example

TRUE_COLOUR, ANSWER_COLOUR = "lime", "red"
"""Colours of labelled and of predicted points."""


def write_overlays(best: Sequence[Example], worst: Sequence[Example], path: Path) -> Path | None:
    """Draw the best examples in the first row and the worst in the second; return None if there are none.

    Landmarks: labelled points are green, predicted ones red. Parsing: the answer over the image, then the
    label over it. The file contains images of the set, so the set's terms apply to it.
    """
    columns = max(len(best), len(worst))
    if columns == 0:
        return None
    figure, axes = new_figure(2, columns, (2.4 * columns, 6.0))
    panels = np.asarray(axes).reshape(2, columns)
    for row, (word, examples) in zip(panels, (("best", best), ("worst", worst)), strict=True):
        for panel in row:
            panel.axis("off")
        for panel, example in zip(row, examples, strict=False):
            _draw(panel, example)
            title = f"{word}: {example.caption}\n{example.id}"
            panel.set_title("\n".join(textwrap.wrap(title, 34)[:6]), fontsize=6)
    return save_figure(figure, path)


def _draw(panel: Any, example: Example) -> None:
    shown = _compose(example)
    height, width = shown.shape[:2]
    panel.imshow(shown, extent=(0, width, height, 0))
    if example.truth is not None and example.answer is not None and example.answer.ndim == 2:
        if example.answer.shape[1:] == (2,):
            panel.scatter(*example.truth.T, s=3, color=TRUE_COLOUR, linewidths=0)
            panel.scatter(*example.answer.T, s=3, color=ANSWER_COLOUR, linewidths=0)
            panel.set(xlim=(0, width), ylim=(height, 0))


def _compose(example: Example) -> np.ndarray:
    """Return the image; if it has class maps, the image with the answer and the image with the label."""
    if example.answer is None or example.truth is None or example.answer.shape != example.image.shape[:2]:
        return example.image
    return np.hstack([_tint(example.image, ids) for ids in (example.answer, example.truth)])


def _tint(image: np.ndarray, class_map: np.ndarray) -> np.ndarray:
    from faceum.evaluate.plots import prepare_matplotlib

    prepare_matplotlib()
    from matplotlib import colormaps

    palette = (colormaps["tab20"](np.arange(20))[:, :3] * 255).astype(np.float32)
    shown = image.astype(np.float32)
    part = class_map > 0
    shown[part] = 0.45 * shown[part] + 0.55 * palette[class_map[part]]
    return shown.astype(np.uint8)
