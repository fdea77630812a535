"""The colours of parsing classes, faces, experts and the panel; RGB, 0..255.

The classes' colours are easy to tell apart where parts meet: warm tones for skin, cold and light ones for
eyes and brows, reds for the mouth, violet and green for hair and hat, blues for clothing. Left and right of
a pair share a hue and differ in lightness.
"""

from __future__ import annotations

import numpy as np

from faceum.tasks import PARSING_CLASSES

CLASS_COLOURS: dict[str, tuple[int, int, int]] = {
    "background": (0, 0, 0),
    "skin": (242, 178, 133),
    "nose": (255, 122, 69),
    "eye_g": (255, 255, 255),
    "l_eye": (64, 224, 255),
    "r_eye": (0, 163, 224),
    "l_brow": (176, 224, 82),
    "r_brow": (122, 173, 41),
    "l_ear": (255, 214, 92),
    "r_ear": (214, 162, 26),
    "mouth": (138, 20, 52),
    "u_lip": (255, 92, 138),
    "l_lip": (222, 38, 92),
    "hair": (134, 88, 214),
    "hat": (38, 166, 121),
    "ear_r": (255, 240, 31),
    "neck_l": (196, 255, 244),
    "neck": (184, 121, 92),
    "cloth": (56, 104, 196),
}
"""Parsing class -> its colour in drawings and in the palette of parsing maps."""

CLASS_WORDS: dict[str, str] = {
    "background": "background",
    "skin": "skin",
    "nose": "nose",
    "eye_g": "glasses",
    "l_eye": "own left eye",
    "r_eye": "own right eye",
    "l_brow": "own left brow",
    "r_brow": "own right brow",
    "l_ear": "own left ear",
    "r_ear": "own right ear",
    "mouth": "mouth",
    "u_lip": "upper lip",
    "l_lip": "lower lip",
    "hair": "hair",
    "hat": "hat",
    "ear_r": "earring",
    "neck_l": "necklace",
    "neck": "neck",
    "cloth": "clothes",
}
"""Parsing class -> its name in a legend; "own" left and right are the person's, not the viewer's."""

PALETTE = np.array([CLASS_COLOURS[name] for name in PARSING_CLASSES], np.uint8)
"""(19, 3) uint8: class id -> RGB."""

PARSING_PALETTE = np.full((256, 3), 128, np.uint8)
"""(256, 3) uint8: the palette of parsing maps, in which `UNKNOWN_CLASS` (255) and the unused ids are gray."""
PARSING_PALETTE[: len(PALETTE)] = PALETTE

FACE_COLOURS: tuple[tuple[int, int, int], ...] = (
    (64, 224, 196),
    (255, 184, 77),
    (255, 107, 157),
    (108, 160, 255),
    (150, 222, 104),
    (194, 142, 255),
    (255, 134, 104),
    (236, 224, 96),
)
"""The faces' colours, in turn; a face's box, number and bars share one."""

EXPERT_COLOURS: tuple[tuple[int, int, int], ...] = (
    (66, 133, 255),
    (255, 149, 41),
    (38, 196, 133),
    (238, 72, 96),
    (168, 106, 255),
    (250, 212, 46),
    (32, 205, 232),
    (255, 128, 208),
)
"""The experts' colours, in turn; easy to tell apart over a gray image."""

GROUND = (17, 19, 24)
CARD = (28, 31, 38)
TRACK = (47, 52, 62)
INK = (238, 240, 244)
SOFT_INK = (172, 178, 190)
FAINT_INK = (118, 126, 140)
"""The panel: background, card, empty bar, and three strengths of text."""


def face_colour(index: int) -> tuple[int, int, int]:
    """Return the colour of the face at `index`, from 0."""
    return FACE_COLOURS[index % len(FACE_COLOURS)]


def expert_colour(index: int) -> tuple[int, int, int]:
    """Return the colour of the expert at `index`, from 0."""
    return EXPERT_COLOURS[index % len(EXPERT_COLOURS)]
