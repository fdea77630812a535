"""Images for people: a photo and its faces in, a drawing with a panel of the answers out.

On the photo, each face has its box and number, its coloured parts and its 68 points; in the panel, a card
with enlarged views and the answers. Small photos are enlarged and large ones reduced, so that lines and
letters always suit; more than a few faces get short cards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from faceum.geometry import warp
from faceum.render import overlay, panel
from faceum.render.layout import arrange, draw_legend
from faceum.render.lettering import Colour, Lettering, best_lettering
from faceum.render.overlay import classes_seen
from faceum.render.palette import CARD, FAINT_INK, INK, SOFT_INK, face_colour
from faceum.results import Face
from faceum.tasks import TASKS

SMALLEST, LARGEST = 960, 1600
"""The longer side of the photo in the drawing lies between these, in pixels."""

SHORT_SIDE, SHORTEST = 720, 160
"""Its shorter side, in pixels: enlarged to the first where the longer one allows, padded to the second."""

MOST_FULL_CARDS = 4
MOST_CARDS = 24
"""Up to this many faces get a full card; up to this many get one at all."""


@dataclass(frozen=True, kw_only=True)
class Painter:
    """How the answers of one kind of task are shown.

    photo: draws an answer over an image of the face, or None. view: the word under that enlarged image.
    card: draws an answer into the face's card, or None.
    """

    photo: Callable[[np.ndarray, Any, np.ndarray], None] | None = None
    view: str = ""
    card: Callable[[panel.Page, Any], None] | None = None


PAINTERS: dict[str, Painter] = {
    "number": Painter(card=panel.draw_age),
    "classes": Painter(card=panel.draw_expression),
    "labels": Painter(card=panel.draw_attributes),
    "embedding": Painter(card=panel.draw_embedding),
    "pixels": Painter(photo=overlay.draw_parsing, view="parts"),
    "points": Painter(photo=overlay.draw_landmarks, view="points"),
}
"""A task's kind -> its painter; cards show them in this order, and photos lay them over in this order."""


def render_faces(image: np.ndarray, faces: Sequence[Face]) -> np.ndarray:
    """Draw what was found.

    image: the image, (H, W, 3) uint8 RGB. faces: its faces; what was not asked for is not drawn.
    Returns RGB uint8, a drawing that is larger than the photo in it.
    """
    letters = best_lettering()
    photo, to_photo = _fitted_photo(image)
    for index, face in reversed(list(enumerate(faces))):  # the first and largest on top
        _draw_on_photo(photo, face, to_photo, face_colour(index), str(index + 1), letters)
    seen = [classes_seen(face.parsing, image.shape[:2]) for face in faces if face.parsing is not None]
    shown = sorted(set().union(*seen) - {0})
    legend = draw_legend(shown, photo.shape[1], letters) if shown else None
    return arrange(photo, legend, _cards(image, faces, letters))


def _fitted_photo(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The photo at the drawing's size, on a padded ground where it is very narrow, and the matrix to it."""
    height, width = image.shape[:2]
    scale = max(SMALLEST / max(height, width), SHORT_SIDE / min(height, width), 1.0)
    scale = min(scale, LARGEST / max(height, width))
    drawn = np.maximum(np.round(np.array([height, width]) * scale), 1).astype(int)
    size = np.maximum(drawn, SHORTEST)
    shift_y, shift_x = (size - drawn) // 2
    matrix = np.array([[drawn[1] / width, 0, shift_x], [0, drawn[0] / height, shift_y]], np.float64)
    photo = np.full((*size, 3), CARD, np.uint8)
    # OpenCV's warp takes no side beyond 32,767 pixels and its resize does, so this is a plain resize.
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    inner = cv2.resize(image, (int(drawn[1]), int(drawn[0])), interpolation=how)
    photo[shift_y : shift_y + drawn[0], shift_x : shift_x + drawn[1]] = inner
    return photo, matrix


def _draw_on_photo(
    photo: np.ndarray, face: Face, to_photo: np.ndarray, colour: Colour, number: str, letters: Lettering
) -> None:
    for painter, answer in _answers(face):
        if painter.photo is not None:
            painter.photo(photo, answer, to_photo)
    if face.points5 is not None and face.landmarks is None:
        overlay.draw_points5(photo, face.points5, to_photo, colour)
    overlay.draw_box(photo, face.box, to_photo, colour, number, letters)


def _answers(face: Face) -> list[tuple[Painter, Any]]:
    """The face's answers with their painters, in the painters' order."""
    by_kind = {task.kind: getattr(face, task.result_field) for task in TASKS.values()}
    return [(painter, by_kind[kind]) for kind, painter in PAINTERS.items() if by_kind[kind] is not None]


def _cards(image: np.ndarray, faces: Sequence[Face], letters: Lettering) -> list[np.ndarray]:
    if not faces:
        return [_note_card("No face found", "nothing in this image looks like a face", letters)]
    draw = _full_card if len(faces) <= MOST_FULL_CARDS else _short_card
    cards = [draw(image, face, index, letters) for index, face in enumerate(faces[:MOST_CARDS])]
    if len(faces) > MOST_CARDS:
        more = len(faces) - MOST_CARDS
        cards.append(_note_card(f"and {more} more", "all of them are in the JSON file", letters))
    return cards


def _full_card(image: np.ndarray, face: Face, index: int, letters: Lettering) -> np.ndarray:
    page = panel.new_page(letters, face_colour(index))
    width = face.box[2] - face.box[0]
    score = "" if face.score is None else f"score {face.score:.2f}  ·  "
    panel.draw_head(page, f"Face {index + 1}", f"{score}{width:.0f} px wide")
    side = panel.view_size()
    to_view = _view_matrix(face.box, side)
    plain = _view(image, to_view, side)
    views = {"face": plain}
    for painter, answer in _answers(face):
        if painter.photo is not None:
            views[painter.view] = plain.copy()
            painter.photo(views[painter.view], answer, to_view)
    panel.draw_views(page, views)
    for painter, answer in _answers(face):
        if painter.card is not None:
            painter.card(page, answer)
    return panel.finished(page)


def _short_card(image: np.ndarray, face: Face, index: int, letters: Lettering) -> np.ndarray:
    side = 76
    page = panel.new_page(letters, face_colour(index))
    to_view = _view_matrix(face.box, side)
    view = _view(image, to_view, side)
    panel.draw_aside(page, f"Face {index + 1}", view, _short_answers(face))
    return panel.finished(page)


def _short_answers(face: Face) -> list[str]:
    """Two lines that say the most."""
    first = []
    if face.age is not None:
        first.append(f"{face.age.years:.0f} ± {face.age.std:.0f} years")
    if face.expression is not None:
        share = face.expression.probabilities[face.expression.label]
        first.append(f"{face.expression.label} {panel.percent(share)}")
    second = [panel.attribute_words(name) for name, _ in panel.notable(face.attributes or {})[:3]]
    return ["  ·  ".join(first), ", ".join(second)]


def _note_card(title: str, note: str, letters: Lettering) -> np.ndarray:
    page = panel.new_page(letters, FAINT_INK)
    page.text(title, page.left, page.y + 19, 21, INK, 600)
    page.text(note, page.left, page.y + 46, 15, SOFT_INK)
    page.y += 50
    return panel.finished(page)


def _view_matrix(box: np.ndarray, side: int) -> np.ndarray:
    """From the image to a square view of `side` pixels, the face in its middle with some room around."""
    x0, y0, x1, y1 = (float(edge) for edge in box)
    scale = side / (1.35 * max(x1 - x0, y1 - y0, 1e-3))
    return np.array(
        [[scale, 0, side / 2 - scale * (x0 + x1) / 2], [0, scale, side / 2 - scale * (y0 + y1) / 2]]
    )


def _view(image: np.ndarray, to_view: np.ndarray, side: int) -> np.ndarray:
    enlarged = to_view[0, 0] > 1
    return warp(image, to_view, (side, side), interpolation="cubic" if enlarged else "linear")
