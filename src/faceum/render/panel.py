"""Draws the panel at the side of the photo: one card per face, section by section from the top.

A `Page` is a card that grows downwards: sections draw at its cursor and move it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from faceum.render.canvas import dot, fill_box, paste_round
from faceum.render.lettering import Colour, Lettering, shorten_to_width
from faceum.render.palette import CARD, FAINT_INK, INK, SOFT_INK, TRACK

if TYPE_CHECKING:
    from faceum.results import Age, Expression

CARD_WIDTH = 420
PADDING = 22
GAP = 24
"""Pixels: width of a card, its padding, and the gap between its sections."""

LONGEST = 1400
"""Height of a card before it is cut to its content."""

MOST_CHIPS = 8
"""Most attributes that a card names."""

UNSPOKEN = ("Attractive", "Blurry")
"""Attributes that drawings and tables leave out: one judges a person, the other the image."""


@dataclass(kw_only=True, eq=False)
class Page:
    """A card being drawn.

    image: (LONGEST, CARD_WIDTH, 3) uint8. y: the cursor. colour: the face's own.
    """

    image: np.ndarray
    letters: Lettering
    colour: Colour
    y: float = PADDING

    @property
    def left(self) -> float:
        """The left end of text and bars."""
        return PADDING

    @property
    def right(self) -> float:
        """The right end of text and bars."""
        return CARD_WIDTH - PADDING

    def text(
        self, text: str, x: float, baseline: float, size: int, colour: Colour, weight: int = 400
    ) -> float:
        """Draw a line of text, cut at the right end, and return where it ends."""
        text = shorten_to_width(self.letters, text, self.right - x, size, weight)
        self.letters.draw(self.image, text, (x, baseline), size, colour, weight)
        return x + self.letters.width(text, size, weight)

    def text_to(
        self, text: str, x: float, baseline: float, size: int, colour: Colour, weight: int = 400
    ) -> None:
        """Draw a line of text that ends at x."""
        self.letters.draw(
            self.image, text, (x - self.letters.width(text, size, weight), baseline), size, colour, weight
        )


def new_page(letters: Lettering, colour: Colour) -> Page:
    """Return an empty card."""
    return Page(image=np.full((LONGEST, CARD_WIDTH, 3), CARD, np.uint8), letters=letters, colour=colour)


def finish(page: Page) -> np.ndarray:
    """Return the card, cut to its content."""
    return page.image[: min(int(page.y) + PADDING, LONGEST)]


def draw_head(page: Page, title: str, note: str) -> None:
    """Draw the face's name after a dot of its colour, and a note at the right."""
    dot(page.image, (page.left + 7, page.y + 12), 7, page.colour)
    page.text(title, page.left + 24, page.y + 19, 21, INK, 600)
    page.text_to(note, page.right, page.y + 18, 14, FAINT_INK)
    page.y += 26


def draw_views(page: Page, views: Mapping[str, np.ndarray]) -> None:
    """Draw square images of the face side by side, each with a caption; all of one size."""
    page.y += 16
    x = page.left
    for word, view in views.items():
        paste_round(page.image, view, (round(x), round(page.y)), radius=10)
        width = page.letters.width(word, 13)
        page.text(word, x + (view.shape[1] - width) / 2, page.y + view.shape[0] + 19, 13, FAINT_INK)
        x += view.shape[1] + view_gap()
    page.y += view_size() + 22


def draw_aside(page: Page, title: str, view: np.ndarray, lines: Sequence[str]) -> None:
    """Draw a short card: the face at the left, its name and a few lines next to it."""
    paste_round(page.image, view, (round(page.left), round(page.y)), radius=10)
    x = page.left + view.shape[1] + 18
    dot(page.image, (x + 6, page.y + 12), 6, page.colour)
    page.text(title, x + 20, page.y + 18, 18, INK, 600)
    for row, line in enumerate(lines):
        page.text(line, x, page.y + 44 + 24 * row, 15, SOFT_INK if row else INK)
    page.y += view.shape[0]


def view_size() -> int:
    """Return the side of a view in pixels; three fill a card."""
    return int((CARD_WIDTH - 2 * PADDING - 2 * view_gap()) / 3)


def view_gap() -> int:
    """Return the space between two views in pixels."""
    return 11


def draw_age(page: Page, age: Age) -> None:
    """Draw the age in years, and the predicted distribution as a band on a line from 0 to 100."""
    _heading(page, "AGE")
    end = page.text(f"{age.years:.0f}", page.left, page.y + 34, 44, INK, 600)
    page.text(f"years  ± {age.std:.0f}", end + 10, page.y + 34, 16, SOFT_INK)
    y = page.y + 54
    fill_box(page.image, (page.left, y, page.right, y + 6), TRACK, radius=3)
    a_year = (page.right - page.left) / 100
    low, high = max(age.years - age.std, 0), min(age.years + age.std, 100)
    band = (page.left + low * a_year, y, page.left + high * a_year, y + 6)
    fill_box(page.image, band, page.colour, radius=3, alpha=0.45)
    dot(page.image, (page.left + age.years * a_year, y + 3), 7, page.colour)
    page.y = y + 10


def draw_expression(page: Page, expression: Expression) -> None:
    """Draw a bar per expression, the strongest in the face's colour."""
    _heading(page, "EXPRESSION")
    bar_left, bar_right = page.left + 104, page.right - 54
    for label, share in expression.probabilities.items():
        strongest = label == expression.label
        ink, weight = (INK, 600) if strongest else (SOFT_INK, 400)
        page.text(label, page.left, page.y + 14, 15, ink, weight)
        y = page.y + 5
        fill_box(page.image, (bar_left, y, bar_right, y + 8), TRACK, radius=4)
        if share >= 0.005:  # 0 % has no bar; one shorter than 8 pixels would not be round
            length = max(share * (bar_right - bar_left), 8)
            colour = page.colour if strongest else FAINT_INK
            fill_box(page.image, (bar_left, y, bar_left + length, y + 8), colour, radius=4)
        page.text_to(percent(share), page.right, page.y + 14, 15, ink, weight)
        page.y += 23
    page.y -= 4


def draw_attributes(page: Page, attributes: Mapping[str, float]) -> None:
    """Draw the attributes that the network sees as chips, most certain first."""
    _heading(page, "ATTRIBUTES")
    chips = [(attribute_words(name), value) for name, value in select_notable(attributes)]
    if not chips:
        page.text("none above 50 %", page.left, page.y + 14, 15, SOFT_INK)
        page.y += 20
        return
    x, height = page.left, 28
    for words, value in chips:
        share = percent(value)
        words_width = page.letters.width(words, 14)
        width = words_width + page.letters.width(share, 14, 600) + 32
        if x + width > page.right and x > page.left:
            x, page.y = page.left, page.y + height + 8
        fill_box(page.image, (x, page.y, x + width, page.y + height), TRACK, radius=height / 2)
        page.text(words, x + 12, page.y + 19, 14, INK)
        page.letters.draw(page.image, share, (x + 20 + words_width, page.y + 19), 14, page.colour, 600)
        x += width + 8
    page.y += height


def draw_embedding(page: Page, embedding: np.ndarray) -> None:
    """Draw the embedding as a strip of fine bars: strips of one person look alike."""
    _heading(page, f"IDENTITY   {len(embedding)} numbers")
    bars = 94
    means = np.array([part.mean() for part in np.array_split(np.asarray(embedding, np.float64), bars)])
    strength = np.clip(0.5 + 0.5 * means / (2 * means.std() + 1e-12), 0.05, 1)
    step = (page.right - page.left) / bars
    for i, share in enumerate(strength):
        x = page.left + i * step
        bar = (x, page.y, x + step * 0.62, page.y + 26)
        fill_box(page.image, bar, page.colour, radius=1, alpha=float(share))
    page.y += 28


def select_notable(attributes: Mapping[str, float]) -> list[tuple[str, float]]:
    """Return the attributes above one half, most certain first, at most MOST_CHIPS, without the UNSPOKEN."""
    seen = [item for item in attributes.items() if item[1] >= 0.5 and item[0] not in UNSPOKEN]
    return sorted(seen, key=lambda item: -item[1])[:MOST_CHIPS]


def attribute_words(name: str) -> str:
    """Return CelebA's name of an attribute as words: Wearing_Hat -> Wearing hat."""
    words = name.replace("5_o_Clock", "5 o'clock").replace("_", " ")
    return words[:1] + words[1:].lower()


def percent(share: float) -> str:
    """Return 0..1 as a whole number of per cent."""
    return f"{100 * share:.0f} %"


def _heading(page: Page, words: str) -> None:
    page.y += GAP
    page.text(words, page.left, page.y + 10, 12, FAINT_INK, 600)
    page.y += 24
