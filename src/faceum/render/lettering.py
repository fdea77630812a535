"""Draws and measures text in images.

OpenCV 5 has a real typeface (Rubik); with OpenCV 4 its plotter letters are used.
"""

from __future__ import annotations

from typing import Any, Protocol

import cv2
import numpy as np

Colour = tuple[int, int, int]


class Lettering(Protocol):
    """Draws single lines of text. Sizes are the letters' nominal height in pixels, weights 100 to 900."""

    def width(self, text: str, size: int, weight: int = 400) -> int:
        """Return the width of the text in pixels."""

    def draw(
        self,
        image: np.ndarray,
        text: str,
        at: tuple[float, float],
        size: int,
        colour: Colour,
        weight: int = 400,
    ) -> None:
        """Draw into an RGB uint8 image; `at` is the left end of the baseline, x and y in pixels."""


class Typeface:
    """OpenCV 5's built-in typeface."""

    def __init__(self) -> None:
        self._face: Any = cv2.FontFace("sans")

    def width(self, text: str, size: int, weight: int = 400) -> int:
        """See `Lettering`."""
        # The box of the ink leaves out a space at the end, and is what centring needs.
        return int(cv2.getTextSize((0, 0), text, (0, 0), self._face, size, weight)[2])

    def draw(
        self,
        image: np.ndarray,
        text: str,
        at: tuple[float, float],
        size: int,
        colour: Colour,
        weight: int = 400,
    ) -> None:
        """See `Lettering`."""
        cv2.putText(image, text, (round(at[0]), round(at[1])), colour, self._face, size, weight)


class PlotterLetters:
    """OpenCV 4's Hershey letters, ASCII only."""

    SPOKEN = str.maketrans({"±": "~", "·": "-", "×": "x", "–": "-", "…": "."})

    def width(self, text: str, size: int, weight: int = 400) -> int:
        """See `Lettering`."""
        return int(
            cv2.getTextSize(self._ascii(text), cv2.FONT_HERSHEY_SIMPLEX, size / 31, self._pen(size, weight))[
                0
            ][0]
        )

    def draw(
        self,
        image: np.ndarray,
        text: str,
        at: tuple[float, float],
        size: int,
        colour: Colour,
        weight: int = 400,
    ) -> None:
        """See `Lettering`."""
        place = (round(at[0]), round(at[1]))
        pen = self._pen(size, weight)
        cv2.putText(
            image, self._ascii(text), place, cv2.FONT_HERSHEY_SIMPLEX, size / 31, colour, pen, cv2.LINE_AA
        )

    def _ascii(self, text: str) -> str:
        return text.translate(self.SPOKEN).encode("ascii", "replace").decode("ascii")

    def _pen(self, size: int, weight: int) -> int:
        return max(1, round(size * weight / 400 / 14))


def best_lettering() -> Lettering:
    """Return the best letters that the installed OpenCV has."""
    return Typeface() if hasattr(cv2, "FontFace") else PlotterLetters()


def shorten_to_width(letters: Lettering, text: str, width: float, size: int, weight: int = 400) -> str:
    """Return the text, cut short with an ellipsis if it is wider than `width` pixels."""
    if letters.width(text, size, weight) <= width:
        return text
    while text and letters.width(text + "…", size, weight) > width:
        text = text[:-1]
    return text + "…"
