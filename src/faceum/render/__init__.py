"""Drawings for people: a photo with its faces marked, and a panel with the answers.

On the photo, each face has its box and number, its coloured parts and its points; in the panel, a card with
enlarged views and the answers. Small photos are enlarged and large ones reduced, so that lines and letters
fit; more than a few faces get short cards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from faceum.errors import FaceumError, unknown_name
from faceum.geometry import warp
from faceum.render import overlay, panel
from faceum.render.layout import arrange, draw_legend
from faceum.render.lettering import Lettering, best_lettering
from faceum.render.overlay import classes_seen, reaches_beyond_crop
from faceum.render.palette import CARD, FAINT_INK, INK, SOFT_INK, face_colour
from faceum.tasks import TASKS

if TYPE_CHECKING:
    from faceum.results import Face

LAYERS = ("boxes", "points", "landmarks", "parsing", "panel")
"""What a drawing can show; the five points are left out where the 68 landmarks are drawn."""

SMALLEST, LARGEST = 960, 1600
"""Limits of the longer side of the photo in the drawing, in pixels."""

SHORT_SIDE, SHORTEST = 720, 160
"""Its shorter side, in pixels: enlarged to the first if the longer side allows, padded to the second."""

MOST_FULL_CARDS = 4
MOST_CARDS = 24
"""Numbers of faces up to which all get a full card, and up to which a face gets a card at all."""


@dataclass(frozen=True, kw_only=True)
class Painter:
    """How the answers of one kind of task are shown.

    photo: draws an answer over an image of the face, or None. layer: the layer that this belongs to. view:
    the caption of the enlarged image. card: draws an answer into the face's card, or None.
    """

    layer: str = ""
    photo: Callable[[np.ndarray, Any, np.ndarray], None] | None = None
    view: str = ""
    card: Callable[[panel.Page, Any], None] | None = None


PAINTERS: dict[str, Painter] = {
    "number": Painter(card=panel.draw_age),
    "classes": Painter(card=panel.draw_expression),
    "labels": Painter(card=panel.draw_attributes),
    "embedding": Painter(card=panel.draw_embedding),
    "pixels": Painter(layer="parsing", photo=overlay.draw_parsing, view="parts"),
    "points": Painter(layer="landmarks", photo=overlay.draw_landmarks, view="points"),
}
"""A task's kind -> its painter, in the order in which cards show them and photos overlay them."""


def render_faces(
    image: np.ndarray, faces: Sequence[Face], *, layers: Collection[str] | None = None
) -> np.ndarray:
    """Draw faces into their image and return the drawing, RGB uint8 (h, w, 3).

    image: (H, W, 3) uint8 RGB. faces: its faces; a task that was not asked for is not drawn. layers: some of
    `LAYERS`, all by default. With "panel" the photo is scaled to a fitting size and has a legend and a card
    per face; without it the drawing has the image's own size.
    Raises FaceumError for an unknown layer.
    """
    chosen = _choose_layers(layers)
    letters = best_lettering()
    panelled = "panel" in chosen
    photo, to_photo = _fit_photo(image) if panelled else (image.copy(), np.eye(2, 3))
    for index, face in reversed(list(enumerate(faces))):  # the first and largest on top
        _draw_on_photo(photo, face, to_photo, index, letters, chosen)
    if not panelled:
        return photo
    parsings = [face.parsing for face in faces if face.parsing is not None and "parsing" in chosen]
    size = (image.shape[0], image.shape[1])
    shown = sorted(set().union(*(classes_seen(one, size) for one in parsings)) - {0})
    hatched = any(reaches_beyond_crop(one, size) for one in parsings)
    legend = draw_legend(shown, photo.shape[1], letters, hatched=hatched) if shown else None
    return arrange(photo, legend, _cards(image, faces, letters, chosen))


def _choose_layers(layers: Collection[str] | None) -> frozenset[str]:
    if isinstance(layers, str):
        raise FaceumError(f"layers is the text {layers!r}; give a list of names, such as ['boxes'].")
    for layer in layers or ():
        if layer not in LAYERS:
            raise FaceumError(unknown_name(str(layer), "layer", LAYERS))
    return frozenset(LAYERS if layers is None else layers)


def _fit_photo(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the photo at the drawing's size, padded if it is very narrow, and the matrix to it."""
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
    photo: np.ndarray,
    face: Face,
    to_photo: np.ndarray,
    index: int,
    letters: Lettering,
    layers: frozenset[str],
) -> None:
    for painter, answer in _answers(face):
        if painter.photo is not None and painter.layer in layers:
            painter.photo(photo, answer, to_photo)
    colour = face_colour(index)
    has_landmarks = face.landmarks is not None and "landmarks" in layers
    if "points" in layers and face.points5 is not None and not has_landmarks:
        overlay.draw_points5(photo, face.points5, to_photo, colour)
    if "boxes" in layers:
        overlay.draw_box(photo, face.box, to_photo, colour, str(index + 1), letters)


def _answers(face: Face) -> list[tuple[Painter, Any]]:
    """Return the face's answers with their painters, in the painters' order."""
    by_kind = {task.kind: getattr(face, task.result_field) for task in TASKS.values()}
    return [(painter, by_kind[kind]) for kind, painter in PAINTERS.items() if by_kind[kind] is not None]


def _cards(
    image: np.ndarray, faces: Sequence[Face], letters: Lettering, layers: frozenset[str]
) -> list[np.ndarray]:
    if not faces:
        return [_note_card("No face found", "nothing in this image looks like a face", letters)]
    cards = []
    for index, face in enumerate(faces[:MOST_CARDS]):
        if len(faces) <= MOST_FULL_CARDS:
            cards.append(_full_card(image, face, index, letters, layers))
        else:
            cards.append(_short_card(image, face, index, letters))
    if len(faces) > MOST_CARDS:
        more = len(faces) - MOST_CARDS
        cards.append(_note_card(f"and {more} more", "all of them are in the JSON file", letters))
    return cards


def _full_card(
    image: np.ndarray, face: Face, index: int, letters: Lettering, layers: frozenset[str]
) -> np.ndarray:
    page = panel.new_page(letters, face_colour(index))
    width = face.box[2] - face.box[0]
    score = "" if face.score is None else f"score {face.score:.2f}  ·  "
    panel.draw_head(page, f"Face {index + 1}", f"{score}{width:.0f} px wide")
    side = panel.view_size()
    to_view = _view_matrix(face.box, side)
    plain = _view(image, to_view, side)
    views = {"face": plain}
    for painter, answer in _answers(face):
        if painter.photo is not None and painter.layer in layers:
            views[painter.view] = plain.copy()
            painter.photo(views[painter.view], answer, to_view)
    panel.draw_views(page, views)
    for painter, answer in _answers(face):
        if painter.card is not None:
            painter.card(page, answer)
    return panel.finish(page)


def _short_card(image: np.ndarray, face: Face, index: int, letters: Lettering) -> np.ndarray:
    side = 76
    page = panel.new_page(letters, face_colour(index))
    to_view = _view_matrix(face.box, side)
    view = _view(image, to_view, side)
    panel.draw_aside(page, f"Face {index + 1}", view, _short_answers(face))
    return panel.finish(page)


def _short_answers(face: Face) -> list[str]:
    """Return the two most telling lines."""
    first = []
    if face.age is not None:
        first.append(f"{face.age.years:.0f} ± {face.age.std:.0f} years")
    if face.expression is not None:
        share = face.expression.probabilities[face.expression.label]
        first.append(f"{face.expression.label} {panel.percent(share)}")
    second = [panel.attribute_words(name) for name, _ in panel.select_notable(face.attributes or {})[:3]]
    return ["  ·  ".join(first), ", ".join(second)]


def _note_card(title: str, note: str, letters: Lettering) -> np.ndarray:
    page = panel.new_page(letters, FAINT_INK)
    page.text(title, page.left, page.y + 19, 21, INK, 600)
    page.text(note, page.left, page.y + 46, 15, SOFT_INK)
    page.y += 50
    return panel.finish(page)


def _view_matrix(box: np.ndarray, side: int) -> np.ndarray:
    """Return the matrix from the image to a square view of `side` pixels with the face in its middle."""
    x0, y0, x1, y1 = (float(edge) for edge in box)
    scale = side / (1.35 * max(x1 - x0, y1 - y0, 1e-3))
    return np.array(
        [[scale, 0, side / 2 - scale * (x0 + x1) / 2], [0, scale, side / 2 - scale * (y0 + y1) / 2]]
    )


def _view(image: np.ndarray, to_view: np.ndarray, side: int) -> np.ndarray:
    enlarged = to_view[0, 0] > 1
    return warp(image, to_view, (side, side), interpolation="cubic" if enlarged else "linear")
