"""Draw tracked faces into their frame, and the tracks of a video over time."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from faceum.errors import FaceumError, unknown_name
from faceum.render.canvas import fill_box
from faceum.render.lettering import Colour, best_lettering, shorten_to_width
from faceum.render.overlay import draw_box, draw_points5
from faceum.render.palette import CARD, GROUND, INK, SOFT_INK, TRACK, face_colour
from faceum.tasks import EXPRESSIONS
from faceum.video.records import Frame, TrackedFace
from faceum.video.summary import Moment, TrackSummary

COLOURINGS = ("expression", "age")

EXPRESSION_COLOURS: dict[str, Colour] = {label: face_colour(index) for index, label in enumerate(EXPRESSIONS)}

WIDTH, LEFT, ROW = 1280, 210, 56
"""Pixels: of the whole timeline, of the column of names, and of a track's row."""

MOST_ROWS = 100
"""Tracks that a timeline shows, the longest ones."""


def annotate(frame: Frame, image: np.ndarray | None = None) -> np.ndarray:
    """Return the frame's image with boxes, points and labels, RGB uint8 (H, W, 3).

    image: drawn on instead, in place.
    """
    if image is None:
        if frame.image is None:
            raise FaceumError("The frame keeps no image to draw on; give image=.")
        image = frame.image.copy()
    letters, identity = best_lettering(), np.eye(2, 3)
    for face in frame.faces:
        colour = face_colour(face.track_id - 1)
        if face.landmarks is not None:
            _draw_dots(image, face.landmarks, float(max(face.box[2:] - face.box[:2])))
        elif face.points5 is not None:
            draw_points5(image, face.points5, identity, colour)
        draw_box(image, face.box, identity, colour, label_of(face), letters)
    return image


def label_of(face: TrackedFace) -> str:
    """Return the words above a face: number or name, age, expression."""
    words = [face.name or str(face.track_id)]
    if face.age is not None:
        words.append(f"{face.age.years:.0f}")
    if face.expression is not None:
        words.append(face.expression.label)
    return "  ".join(words)


def draw_timeline(
    tracks: Sequence[TrackSummary], duration: float, *, colour_by: str = "expression"
) -> np.ndarray:
    """Return the tracks over time, one below the other, RGB uint8 (h, 1280, 3).

    duration: seconds that the axis covers. colour_by: "expression" or "age".
    """
    if colour_by not in COLOURINGS:
        raise FaceumError(unknown_name(colour_by, "colouring of a timeline", COLOURINGS))
    chosen = sorted(tracks, key=lambda one: -one.frames)[:MOST_ROWS]
    shown = [track for track in tracks if track in chosen]
    image = np.full((90 + ROW * max(1, len(shown)), WIDTH, 3), GROUND, np.uint8)
    letters = best_lettering()
    scale = (WIDTH - LEFT - 20) / max(duration, 1e-3)
    for row, track in enumerate(shown):
        top = 12 + row * ROW
        fill_box(image, (8, top, WIDTH - 8, top + ROW - 6), CARD, radius=6)
        name = shorten_to_width(letters, track.name or f"Track {track.track_id}", LEFT - 80, 16, 600)
        letters.draw(image, name, (64, top + 21), 16, INK, 600)
        letters.draw(image, f"{track.first:.1f} to {track.last:.1f} s", (64, top + 40), 13, SOFT_INK)
        if track.crop is not None:
            image[top + 3 : top + 47, 14:58] = cv2.resize(track.crop, (44, 44), interpolation=cv2.INTER_AREA)
        for first, last, moment in _spans(track):
            x0, x1 = LEFT + scale * first, LEFT + scale * last
            colour = _colour(moment, colour_by)
            fill_box(image, (x0, top + 12, max(x1, x0 + 2), top + ROW - 18), colour, radius=2)
    bottom = image.shape[0]
    for tick in range(11):
        seconds = duration * tick / 10
        x = LEFT + scale * seconds
        fill_box(image, (x, bottom - 74, x + 1, bottom - 66), TRACK)
        letters.draw(image, f"{seconds:.1f}", (x - 8, bottom - 48), 13, SOFT_INK)
    _draw_legend(image, colour_by)
    return image


def _draw_dots(image: np.ndarray, points: np.ndarray, side: float) -> None:
    radius = max(1, round(side / 110))
    for x, y in points:
        centre = (round(float(x) * 16 - 8), round(float(y) * 16 - 8))
        cv2.circle(image, centre, radius * 16, (255, 255, 255), -1, cv2.LINE_AA, shift=4)


def _spans(track: TrackSummary) -> list[tuple[float, float, Moment]]:
    """Return from when to when each moment holds; it ends early where the person was away."""
    moments = list(track.moments)
    steps = [b.time - a.time for a, b in zip(moments, moments[1:], strict=False)]
    usual = 1.5 * float(np.median(steps)) if steps else 0.5
    ends = [b.time for b in moments[1:]] + [track.last]
    return [
        (moment.time, min(end, moment.time + usual), moment)
        for moment, end in zip(moments, ends, strict=True)
    ]


def _colour(moment: Moment, colour_by: str) -> Colour:
    if colour_by == "expression":
        return EXPRESSION_COLOURS.get(moment.expression or "", TRACK)
    return TRACK if moment.age is None else age_colour(moment.age)


def age_colour(years: float) -> Colour:
    """Return a colour from blue at 0 to red at 80 years."""
    hue = np.uint8([[[round(120 - 120 * float(np.clip(years / 80, 0, 1))), 170, 235]]])  # type: ignore[arg-type]
    red, green, blue = cv2.cvtColor(hue, cv2.COLOR_HSV2RGB)[0, 0].tolist()
    return red, green, blue


def _draw_legend(image: np.ndarray, colour_by: str) -> None:
    letters, x, y = best_lettering(), float(LEFT), image.shape[0] - 16
    entries = EXPRESSION_COLOURS if colour_by == "expression" else {
        f"{years} years": age_colour(years) for years in (0, 20, 40, 60, 80)
    }  # fmt: skip
    for word, colour in entries.items():
        fill_box(image, (x, y - 11, x + 12, y + 1), colour, radius=3)
        letters.draw(image, word, (x + 18, y), 13, SOFT_INK)
        x += 40 + letters.width(word, 13)
