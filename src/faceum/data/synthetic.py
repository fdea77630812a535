"""Draw faces with labels that are true by construction, for the recipe `smoke` and for tests.

The person decides proportions and colours; age shows in wrinkles, gray hair and the size of the eyes,
expression in mouth, brows and lids, attributes in what is drawn. The parsing is painted with the same
polygons as the image. Coordinates are in eye distances from the middle between the eyes, y down. In the
parsing, "l_" is the person's own left, which is on the right of the image.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from faceum.crop import box_from_points, points5_from_landmarks
from faceum.data.sample import Sample, one_vote
from faceum.errors import DataError
from faceum.tasks import ATTRIBUTES, EXPRESSIONS, PARSING_CLASSES

SIDE = 96
"""Pixels a side of a drawn image."""
PEOPLE = 24
"""Number of people who are drawn, the same in every split."""

FEATURES = {
    # lift of the mouth's corners (left, right of the image), mouth open, brows raised, brows slanted, lids
    "neutral": (0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
    "happiness": (0.2, 0.2, 0.1, 0.0, 0.0, 0.8),
    "surprise": (0.0, 0.0, 0.4, 0.2, 0.0, 1.5),
    "sadness": (-0.18, -0.18, 0.0, 0.0, 0.2, 0.7),
    "anger": (-0.1, -0.1, 0.0, -0.1, -0.25, 0.8),
    "disgust": (-0.16, -0.16, 0.18, -0.08, -0.1, 0.45),
    "fear": (-0.12, -0.12, 0.25, 0.15, 0.25, 1.4),
    "contempt": (0.0, 0.22, 0.0, 0.0, 0.0, 0.8),
}
HAIR = {"Black_Hair": (25, 22, 20), "Brown_Hair": (105, 66, 38), "Blond_Hair": (222, 190, 110)}
GRAY, FRAME = np.array([190.0, 190.0, 190.0]), np.array([20.0, 20.0, 25.0])
SOMETIMES = ("Bald", "Bangs", "Eyeglasses", "Mouth_Slightly_Open", "Wearing_Hat", "Wearing_Lipstick",
             "Rosy_Cheeks", "Wearing_Earrings", "Wearing_Necklace", "Blurry")  # fmt: skip
"""Attributes that do not depend on the person."""


def read_generated(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Yield as many drawn faces as `root` says, a number. Splits have different images of the same people."""
    text = Path(root).name
    if not text.isdigit():
        raise DataError(f"expected the number of faces to draw, such as path=512, got {str(root)!r}.")
    for number in range(int(text)):
        yield draw_face(f"{split}-{number}")


def draw_face(name: str, person: int | None = None) -> Sample:
    """Draw the face of that name with every label; always the same one. person: 0..PEOPLE - 1."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    person = int(rng.integers(PEOPLE)) if person is None else person
    look = _looks(person, rng)
    landmarks = _landmarks(look)
    to_image = _pose(rng)
    canvas = _Canvas(to_image, background=rng.integers(40, 216, 3), light=rng.uniform(0.8, 1.15))
    _paint(canvas, look, landmarks)
    image = canvas.image
    if "Blurry" in look.attributes:
        image = cv2.GaussianBlur(image, (0, 0), 1.6)
    noisy = np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
    points = landmarks @ to_image[:, :2].T + to_image[:, 2]
    return Sample(
        id=name,
        source="generated",
        image=cv2.imencode(".png", noisy[..., ::-1])[1].tobytes(),
        box=box_from_points(points),
        points5=points5_from_landmarks(points),
        age=look.age,
        attributes=np.array([word in look.attributes for word in ATTRIBUTES]),
        expression_votes=one_vote(look.expression),
        parsing=partial(_copy, canvas.parsing),
        landmarks68=points,
        identity=person,
    )


@dataclass(frozen=True, kw_only=True)
class _Looks:
    """The looks of a face: lengths in eye distances, colours RGB 0..255."""

    age: float
    expression: str
    attributes: frozenset[str]
    jaw: tuple[float, float]
    eye: float
    nose: float
    mouth: float
    brow: float
    skin: np.ndarray
    hair: np.ndarray
    iris: np.ndarray


def _looks(person: int, rng: np.random.Generator) -> _Looks:
    """Return the person's proportions and colours, and what this image of them shows."""
    own = np.random.default_rng((7, person))
    colour = list(HAIR)[int(own.integers(3))]
    male, bushy, big_nose, pale, big_lips = own.random(5) < (0.5, 0.35, 0.35, 0.3, 0.35)
    age = float(np.round(rng.uniform(4, 85)))
    has = {word for word in SOMETIMES if rng.random() < (0.12 if word in ("Bald", "Blurry") else 0.3)}
    expression = str(rng.choice(EXPRESSIONS))
    if FEATURES[expression][2] > 0 or "Mouth_Slightly_Open" in has:
        has.add("Mouth_Slightly_Open")
    beard = male and age > 18 and rng.random() < 0.4
    has |= {"Mustache", "Goatee"} if beard else {"No_Beard"}
    grayness = float(np.clip((age - 35) / 30, 0, 1))
    has.add("Gray_Hair" if grayness > 0.5 else colour)
    if has & {"Bald", "Wearing_Hat"}:
        has -= {"Bangs"}
    said = {"Male": male, "Bushy_Eyebrows": bushy, "Big_Nose": big_nose, "Pale_Skin": pale}
    said |= {"Big_Lips": big_lips, "Young": age < 40, "Smiling": expression == "happiness"}
    said |= {"Narrow_Eyes": FEATURES[expression][5] < 0.6}
    base = np.array([240, 212, 192]) if pale else own.uniform((120, 80, 60), (215, 165, 135))
    return _Looks(
        age=age,
        expression=expression,
        attributes=frozenset(has | {word for word, true in said.items() if true}),
        jaw=(own.uniform(0.95, 1.2) * (1.05 if male else 0.95), own.uniform(1.45, 1.75)),
        eye=own.uniform(0.17, 0.22) * (1.35 - 0.35 * min(age / 20, 1)),
        nose=own.uniform(0.5, 0.7),
        mouth=own.uniform(0.34, 0.46),
        brow=0.11 if bushy else 0.05,
        skin=base,
        hair=(1 - grayness) * np.array(HAIR[colour]) + grayness * GRAY,
        iris=own.uniform((30, 50, 30), (120, 140, 190)),
    )


def _landmarks(look: _Looks) -> np.ndarray:
    """Return the 68 points (68, 2) in iBUG order."""
    left, right, opened, raised, slant, lids = FEATURES[look.expression]
    if "Mouth_Slightly_Open" in look.attributes:
        opened = max(opened, 0.12)
    angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([look.jaw[0] * np.cos(angle), 0.1 + look.jaw[1] * np.sin(angle)], axis=1)
    t = np.linspace(0, 1, 5)
    arch = -0.3 - raised - 0.08 * np.sin(t * np.pi)
    brows = [np.stack([-0.82 + 0.6 * t, arch - slant * (t - 0.5)], axis=1)]
    brows.append(np.stack([0.22 + 0.6 * t, arch + slant * (t - 0.5)], axis=1))
    ridge = np.stack([np.zeros(4), np.linspace(0.05, look.nose, 4)], axis=1)
    width = 0.26 if "Big_Nose" in look.attributes else 0.17
    nostrils = np.stack(
        [np.linspace(-width, width, 5), look.nose + np.array([0.08, 0.11, 0.13, 0.11, 0.08])], 1
    )
    ring = np.pi * np.array([1, 4 / 3, 5 / 3, 0, 1 / 3, 2 / 3])
    lid = np.stack([look.eye * np.cos(ring), 0.5 * look.eye * lids * np.sin(ring)], axis=1)
    eyes = [lid + [-0.5, 0], lid + [0.5, 0]]
    thick = 0.15 if "Big_Lips" in look.attributes else 0.09
    lips = _lips(look.mouth, 1.0, (left, right), (-thick - opened / 2, thick + opened / 2), 12)
    inner = _lips(0.85 * look.mouth, 1.0, (left, right), (-opened / 2 - 0.01, opened / 2 + 0.01), 8)
    return np.concatenate([jaw, *brows, ridge, nostrils, *eyes, lips, inner])


def _lips(
    half: float, y: float, lift: tuple[float, float], depth: tuple[float, float], count: int
) -> np.ndarray:
    """Return a closed ring of points: left corner, upper lip, right corner, lower lip."""
    angle = np.pi - np.arange(count) * 2 * np.pi / count
    x, height = np.cos(angle), np.sin(angle)
    corner = np.where(x < 0, lift[0], lift[1]) * x**2
    bulge = np.where(height > 0, depth[0], -depth[1]) * np.abs(height)
    return np.stack([half * x, y - corner + np.where(height > 0, bulge, -bulge)], axis=1)


def _pose(rng: np.random.Generator) -> np.ndarray:
    """Return the matrix (2, 3) from eye distances to pixels."""
    turn, unit = np.deg2rad(rng.normal(0, 6)), SIDE * rng.uniform(0.2, 0.25)
    rotation = unit * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.column_stack([rotation, SIDE * np.array([0.5, 0.44]) + rng.normal(0, 2, 2)])


class _Canvas:
    """An image and its parsing, painted together."""

    def __init__(self, to_image: np.ndarray, *, background: np.ndarray, light: float) -> None:
        self.to_image, self.light = to_image, light
        self.image = np.empty((SIDE, SIDE, 3), np.uint8)
        self.image[:] = background
        self.parsing = np.zeros((SIDE, SIDE), np.uint8)

    def fill(self, points: np.ndarray, colour: np.ndarray, part: str | None) -> None:
        """Fill a polygon. part: its parsing class; None leaves the parsing as it is."""
        # Sixteenths of a pixel; OpenCV's lattice has pixel centres at whole numbers.
        place = points @ self.to_image[:, :2].T + self.to_image[:, 2] - 0.5
        corners = np.round(16 * place).astype(np.int32)
        shade = np.clip(np.asarray(colour) * self.light, 0, 255).tolist()
        cv2.fillPoly(self.image, [corners], shade, cv2.LINE_AA, 4)
        if part is not None:
            cv2.fillPoly(self.parsing, [corners], PARSING_CLASSES.index(part), cv2.LINE_8, 4)

    def line(self, points: np.ndarray, thickness: float, colour: np.ndarray, part: str | None) -> None:
        """Draw an open stroke of that thickness."""
        above, below = points - [0, thickness / 2], points + [0, thickness / 2]
        self.fill(np.concatenate([above, below[::-1]]), colour, part)


def _ellipse(x: float, y: float, width: float, height: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], axis=1)


def _paint(canvas: _Canvas, look: _Looks, points: np.ndarray) -> None:
    """Paint the face from back to front."""
    has, (width, height) = look.attributes, look.jaw
    cloth = np.array([60, 80, 140]) if "Male" in has else np.array([170, 60, 90])
    if "Bald" not in has:
        long = 1.0 if "Male" in has else 2.3
        canvas.fill(_ellipse(0, long / 2 - 0.6, 1.25 * width, 0.9 + long / 2), look.hair, "hair")
    canvas.fill(_ellipse(0, height + 1.6, 1.9, 1.2), cloth, "cloth")
    neck = np.array([[-0.5, 1.0], [0.5, 1.0], [0.55, height + 0.7], [-0.55, height + 0.7]])
    canvas.fill(neck, look.skin * 0.85, "neck")
    if "Wearing_Necklace" in has:
        canvas.line(np.array([[-0.5, height + 0.4], [0, height + 0.6], [0.5, height + 0.4]]), 0.14,
                    np.array([230, 200, 60]), "neck_l")  # fmt: skip
    for side, ear in ((-1, "r_ear"), (1, "l_ear")):
        canvas.fill(_ellipse(side * width, 0.25, 0.16, 0.3), look.skin * 0.9, ear)
        if "Wearing_Earrings" in has:
            canvas.fill(_ellipse(side * (width + 0.05), 0.65, 0.11, 0.16), np.array([240, 215, 70]), "ear_r")
    forehead = np.stack(
        [width * np.cos(np.linspace(0, -np.pi, 12)), 0.1 + np.sin(np.linspace(0, -np.pi, 12))], 1
    )
    canvas.fill(np.concatenate([points[:17], forehead]), look.skin, "skin")
    _paint_skin(canvas, look, points)
    _paint_features(canvas, look, points)
    if "Bangs" in has:
        canvas.fill(np.array([[-0.9, -1.0], [0.9, -1.0], [0.85, -0.55], [-0.85, -0.55]]), look.hair, "hair")
    if "Wearing_Hat" in has:
        brim = np.array([[-1.4, -0.75], [1.4, -0.75], [1.1, -1.1], [0.9, -1.8], [-0.9, -1.8], [-1.1, -1.1]])
        canvas.fill(brim, np.array([40, 130, 90]), "hat")


def _paint_skin(canvas: _Canvas, look: _Looks, points: np.ndarray) -> None:
    """Paint wrinkles, cheeks and beard, which all count as skin."""
    for number in range(int(look.age // 14)):
        y = -0.55 - 0.07 * number
        canvas.line(np.array([[-0.5, y], [0, y - 0.02], [0.5, y]]), 0.035, look.skin * 0.55, None)
        for side in (-1, 1):
            x = side * (0.42 + 0.09 * number)
            canvas.fill(
                np.array([[x, 0.55], [x + side * 0.04, 0.55], [x + side * 0.1, 0.95]]), look.skin * 0.6, None
            )
    for side in (-1, 1):
        if "Rosy_Cheeks" in look.attributes:
            canvas.fill(_ellipse(0.62 * side, 0.5, 0.2, 0.15), np.array([235, 95, 95]), None)
    if "Goatee" in look.attributes:
        chin = points[8][1]
        canvas.fill(_ellipse(0, chin - 0.2, 0.3, 0.2), look.hair * 0.8, None)
        canvas.line(np.array([[-0.35, 0.84], [0, 0.8], [0.35, 0.84]]), 0.1, look.hair * 0.8, None)


def _paint_features(canvas: _Canvas, look: _Looks, points: np.ndarray) -> None:
    """Paint brows, eyes, nose, mouth and glasses. The first of two sides is the image's left."""
    for brow, part in ((points[17:22], "r_brow"), (points[22:27], "l_brow")):
        canvas.line(brow, look.brow, look.hair * 0.7, part)
    nose = np.concatenate([points[27:28], points[31:36][::-1]])
    canvas.fill(nose, look.skin * 0.82, "nose")
    for eye, part in ((points[36:42], "r_eye"), (points[42:48], "l_eye")):
        canvas.fill(eye, np.array([245, 245, 245]), part)
        centre, lid = eye.mean(0), np.ptp(eye[:, 1]) / 2
        canvas.fill(_ellipse(centre[0], centre[1], min(0.08, lid), min(0.08, lid)), look.iris, None)
    red = np.array([200, 30, 60]) if "Wearing_Lipstick" in look.attributes else look.skin * [0.85, 0.6, 0.6]
    outer, inner = points[48:60], points[60:68]
    canvas.fill(np.concatenate([outer[:7], inner[:5][::-1]]), red, "u_lip")
    canvas.fill(np.concatenate([outer[6:], outer[:1], inner[:1], inner[4:][::-1]]), red * 0.92, "l_lip")
    canvas.fill(inner, np.array([70, 15, 20]), "mouth")
    if "Eyeglasses" in look.attributes:
        for x in (-0.5, 0.5):
            rim = [_ellipse(x, 0.02, size, 0.9 * size) for size in (0.4, 0.32)]
            canvas.fill(np.concatenate([rim[0], rim[0][:1], rim[1][:1], rim[1][::-1]]), FRAME, "eye_g")
        canvas.line(np.array([[-0.12, 0.0], [0.12, 0.0]]), 0.06, FRAME, "eye_g")


def _copy(classes: np.ndarray) -> np.ndarray:
    return classes.copy()
