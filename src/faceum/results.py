"""Result records: what was found in an image, as plain data that prints short, plots, saves and exports.

All coordinates are pixels of the upright image, x then y, continuous: the outer corner of the first pixel is
(0, 0) and its centre (0.5, 0.5). A field whose task was not asked for is None. The JSON form is described by
`schema/result-2.json` in this package.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from faceum.errors import FaceumError, ModelError, count_noun, unknown_name
from faceum.extras import missing
from faceum.geometry import box_corners, invert, transform_points
from faceum.image import read_image
from faceum.tasks import ATTRIBUTES, EXPRESSIONS, UNKNOWN_CLASS

if TYPE_CHECKING:
    import pandas

    from faceum.image import Source

SCHEMA = "faceum.result/2"
"""The name and version that every `Result.to_dict()` carries under "schema"."""

ParsingForm = Literal["rle", "full", "png"] | None
"""How JSON holds a parsing map: "rle" (runs), "full" (a list per row), "png" (base64), or None (left out)."""

POINT_NAMES = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")
"""The five points in their order, left and right as the viewer of the image sees them."""


def result_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) that every `Result.to_dict()` fulfils."""
    text = (resources.files("faceum") / "schema" / "result-2.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


class _Record:
    """Compares field by field, arrays by their values."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        names = [one.name for one in fields(self) if one.compare]  # type: ignore[arg-type]
        return all(_equal(getattr(self, name), getattr(other, name)) for name in names)

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True, eq=False)
class Age(_Record):
    """How old a face looks.

    years: expectation of the age distribution over 0..100, in years.
    std: standard deviation of that distribution, in years.
    """

    years: float
    std: float

    def __str__(self) -> str:
        return f"{self.years:.0f}±{self.std:.0f}"

    def __repr__(self) -> str:
        return f"Age({self})"

    def to_dict(self) -> dict[str, float]:
        """Return plain numbers, ready for JSON."""
        return {"years": float(self.years), "std": float(self.std)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Expression(_Record):
    """What a face expresses.

    label: the most probable of `faceum.tasks.EXPRESSIONS`.
    probabilities: label -> probability in 0..1; they sum to 1.
    """

    label: str
    probabilities: dict[str, float]

    def __repr__(self) -> str:
        return f"Expression({self.label!r}, {self.probabilities.get(self.label, float('nan')):.2f})"

    def to_dict(self) -> dict[str, Any]:
        """Return plain strings and numbers, ready for JSON."""
        return {"label": self.label, "probabilities": _plain_dict(self.probabilities)}


@dataclass(frozen=True, kw_only=True, eq=False)
class Parsing(_Record):
    """The class of each pixel of a face's crop.

    class_map: (h, w) uint8, ids of `faceum.tasks.PARSING_CLASSES`.
    matrix: (2, 3) float64, takes continuous class-map coordinates (x, y, 1) to pixels of the image.
    """

    class_map: np.ndarray
    matrix: np.ndarray

    def __repr__(self) -> str:
        height, width = self.class_map.shape
        return f"Parsing({width}x{height}, {count_noun(len(np.unique(self.class_map)), 'class', 'classes')})"

    def paste(self, size: tuple[int, int], *, unknown: int = UNKNOWN_CLASS) -> np.ndarray:
        """Return the class of every pixel of the image, (height, width) uint8.

        size: (height, width) of the image. unknown: the id of pixels outside the crop, of which nothing is
        known. Each image pixel takes the class of the map pixel that contains its centre, so class ids are
        never mixed. Raises ImageError if the matrix has no inverse.
        """
        height, width = size
        pasted = np.full((height, width), unknown, np.uint8)
        map_height, map_width = self.class_map.shape
        corners = transform_points(self.matrix, box_corners(np.array([0, 0, map_width, map_height])))
        limit = (width, height)
        x0, y0 = np.clip(np.floor(corners.min(axis=0)), 0, limit).astype(int)
        x1, y1 = np.clip(np.ceil(corners.max(axis=0)), 0, limit).astype(int)
        to_map = invert(self.matrix)
        x, y = np.arange(x0, x1) + 0.5, (np.arange(y0, y1) + 0.5)[:, None]
        column, row = (np.floor(m[0] * x + m[1] * y + m[2]) for m in to_map)
        inside = (column >= 0) & (column < map_width) & (row >= 0) & (row < map_height)
        pasted[y0:y1, x0:x1][inside] = self.class_map[row[inside].astype(int), column[inside].astype(int)]
        return pasted

    def to_dict(self, form: ParsingForm = "rle") -> dict[str, Any] | None:
        """Return plain values, ready for JSON; None if `form` is None.

        "full": class_map as a list of rows. "rle": runs of equal class, row by row from the top, each row
        from the left, across row ends: run i is counts[i] pixels of class values[i], so that
        `np.repeat(values, counts).reshape(size)` is the class map; size is [height, width].
        "png": a PNG file in base64, whose pixel values are the classes.
        """
        if form is None:
            return None
        if form not in ("rle", "full", "png"):
            raise FaceumError(unknown_name(str(form), "parsing form", ["rle", "full", "png"]))
        plain: dict[str, Any]
        if form == "full":
            plain = {"class_map": self.class_map.tolist()}
        elif form == "png":
            from faceum.render.palette import PARSING_PALETTE
            from faceum.save import encode_indexed_png

            plain = {
                "png": base64.b64encode(encode_indexed_png(self.class_map, PARSING_PALETTE)).decode("ascii")
            }
        else:
            flat = self.class_map.ravel()
            starts = np.flatnonzero(np.diff(flat.astype(np.int16), prepend=-1))
            counts = np.diff(starts, append=flat.size)
            runs = {"values": flat[starts].tolist(), "counts": counts.tolist()}
            plain = {"rle": {"size": list(self.class_map.shape), **runs}}
        return {**plain, "matrix": np.asarray(self.matrix, np.float64).tolist()}


@dataclass(frozen=True, kw_only=True, eq=False)
class Face(_Record):
    """One face of an image, with an answer for every task that was asked for.

    Left and right: `points5` and `landmarks` are named as the viewer of the image sees them, so the left eye
    is on the left side of the image. The classes of `parsing` follow CelebAMask-HQ and are the person's own:
    `l_eye` is the person's left eye, which the viewer sees on the right.

    box: (4,) float32, x0 y0 x1 y1 in pixels; may reach beyond the image.
    points5: (5, 2) float32 pixels: left eye, right eye, nose tip, left and right mouth corner; None if
        unknown.
    score: the detector's confidence in 0..1 that this is a face; None if the box was given.
    embedding: (512,) float32 of length 1; the dot product of two is their cosine similarity.
    age: see `Age`.
    attributes: name of `faceum.tasks.ATTRIBUTES` -> probability in 0..1, each on its own.
    expression: see `Expression`.
    landmarks: (68, 2) float32 pixels, iBUG order.
    parsing: see `Parsing`.
    model: the weights that answered, as name@sha256[:8]; embeddings compare only within one model.
    quality: 0..1, about the share of pairs of one person, this face and a usual one, recognized at a false
        match rate of 1 in 1,000; None without an embedding or where it was not measured.
    """

    box: np.ndarray
    points5: np.ndarray | None = None
    score: float | None = None
    embedding: np.ndarray | None = None
    age: Age | None = None
    attributes: dict[str, float] | None = None
    expression: Expression | None = None
    landmarks: np.ndarray | None = None
    parsing: Parsing | None = None
    model: str | None = None
    quality: float | None = None

    def __repr__(self) -> str:
        shown = {
            "score": None if self.score is None else f"{self.score:.2f}",
            "box": tuple(round(float(edge)) for edge in self.box),
            "age": self.age,
            "expression": None if self.expression is None else repr(self.expression.label),
            "attributes": None if self.attributes is None else len(self.attributes),
            "landmarks": None if self.landmarks is None else len(self.landmarks),
            "parsing": None if self.parsing is None else "{1}x{0}".format(*self.parsing.class_map.shape),
            "embedding": None if self.embedding is None else f"{len(self.embedding)}-d",
            "quality": None if self.quality is None else f"{self.quality:.2f}",
        }
        return f"Face({', '.join(f'{name}={value!s}' for name, value in shown.items() if value is not None)})"

    def crop(self, image: Source, margin: float = 0.25) -> np.ndarray:
        """Return the face cut out of its image, RGB uint8 (h, w, 3), upright as the image is.

        image: the image that was analyzed, anything that `read_image` takes. margin: how far the cut reaches
        beyond the box on each side, as a share of the box's width and height; it ends at the image's edge.
        Raises ImageError if the image cannot be read, FaceumError if the box lies outside it.
        """
        pixels = read_image(image)
        limit = np.array([pixels.shape[1], pixels.shape[0]])
        low, high = np.asarray(self.box[:2], np.float64), np.asarray(self.box[2:], np.float64)
        reach = margin * (high - low)
        x0, y0 = np.clip(np.floor(low - reach), 0, limit).astype(int)
        x1, y1 = np.clip(np.ceil(high + reach), 0, limit).astype(int)
        if x1 <= x0 or y1 <= y0:
            raise FaceumError(
                f"The box {_round(self.box)} lies outside the image of {limit[0]} x {limit[1]} pixels; "
                "give the image that was analyzed."
            )
        return pixels[y0:y1, x0:x1].copy()

    def similarity(self, other: Face) -> float:
        """Return the cosine similarity of two faces: 1 for equal embeddings, near 0 for different people.

        Raises FaceumError if a face has no embedding, ModelError if two different models made them.
        """
        if self.embedding is None or other.embedding is None:
            raise FaceumError("A face has no embedding; ask for the task 'recognition' to compare faces.")
        if None not in (self.model, other.model) and self.model != other.model:
            raise ModelError(
                f"The embeddings come from two models, {self.model} and {other.model}, and do not compare; "
                "analyze both faces with the same model."
            )
        return float(np.dot(self.embedding, other.embedding))

    def to_dict(self, *, parsing: ParsingForm = "rle") -> dict[str, Any]:
        """Return plain values, ready for JSON; None for every part that was not asked for.

        parsing: see `Parsing.to_dict`. Floats are written with the fewest digits that read back exactly.
        """
        return {
            "box": _plain_list(self.box),
            "points5": None if self.points5 is None else _plain_list(self.points5),
            "score": None if self.score is None else _plain_number(self.score),
            "embedding": None if self.embedding is None else _plain_list(self.embedding),
            "age": None if self.age is None else self.age.to_dict(),
            "attributes": None if self.attributes is None else _plain_dict(self.attributes),
            "expression": None if self.expression is None else self.expression.to_dict(),
            "landmarks": None if self.landmarks is None else _plain_list(self.landmarks),
            "parsing": None if self.parsing is None else self.parsing.to_dict(parsing),
            "model": self.model,
            "quality": None if self.quality is None else float(self.quality),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class Result(_Record):
    """What was found in one image: its faces, or the error that prevented it.

    Iterating, `len` and indexing go over the faces. In Jupyter a result shows its drawing and a table.

    source: path of the image if it has one, else None.
    width, height: size of the image in pixels; None if it could not be read.
    faces: the faces found, empty if there are none; None if and only if `error` is set.
    error: one sentence if the image could not be used, else None.
    image: (H, W, 3) uint8 RGB, kept for plotting; None if it was not kept. Not part of equality or JSON.
    """

    source: str | None = None
    width: int | None = None
    height: int | None = None
    faces: Sequence[Face] | None = None
    error: str | None = None
    image: np.ndarray | None = field(default=None, compare=False)

    def __len__(self) -> int:
        return len(self.faces or ())

    def __iter__(self) -> Iterator[Face]:
        return iter(self.faces or ())

    @overload
    def __getitem__(self, index: int) -> Face: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Face]: ...
    def __getitem__(self, index: int | slice) -> Face | Sequence[Face]:
        return (self.faces or ())[index]

    def __repr__(self) -> str:
        source = "" if self.source is None else f"source={self.source!r}, "
        if self.error is not None:
            return f"Result({source}error={self.error!r})"
        return f"Result({source}{self.width}x{self.height}, faces={list(self)!r})"

    def plot(self, image: Source | None = None, *, layers: Collection[str] | None = None) -> np.ndarray:
        """Draw the faces into the image and return the drawing, RGB uint8 (h, w, 3).

        image: the image that was analyzed; the kept image or the file `source` by default. layers: some of
        `faceum.render.LAYERS` ("boxes", "points", "landmarks", "parsing", "panel"); all by default.
        Raises FaceumError if there is no image to draw on or a layer is unknown.
        """
        from faceum.render import render_faces

        return render_faces(self._pixels(image), self.faces or (), layers=layers)

    def save(
        self,
        folder: str | Path,
        *,
        stem: str | None = None,
        image: Source | None = None,
        overwrite: bool = False,
    ) -> list[Path]:
        """Write JSON, drawing, parsing map and embeddings into a folder and return the files.

        stem: first part of the file names; that of `source`, or "image", by default. image: as for `plot`.
        overwrite: also replace files that this package did not write. See `faceum.save.save_result`.
        """
        from faceum.save import output_stem, save_result

        pixels = None if self.error is not None else self._pixels(image)
        stem = output_stem(self.source) if stem is None else stem
        return save_result(self, pixels, Path(folder), stem, overwrite=overwrite)

    def parsing_map(self) -> np.ndarray:
        """Return the class of every pixel of the image, (height, width) uint8, of all faces together.

        Ids are those of `faceum.tasks.PARSING_CLASSES`; 255 (`faceum.tasks.UNKNOWN_CLASS`) marks pixels
        outside every face's crop, of which nothing is known. Where two faces overlap, the first that sees
        something other than background counts. Raises FaceumError if the image could not be read or the task
        'parsing' was not asked for.
        """
        if self.width is None or self.height is None:
            raise FaceumError("The image was not read, so there is no parsing map.")
        if len(self) and all(face.parsing is None for face in self):
            raise FaceumError("The faces have no parsing; ask for the task 'parsing'.")
        classes = np.full((self.height, self.width), UNKNOWN_CLASS, np.uint8)
        for face in self:
            if face.parsing is not None:
                pasted = face.parsing.paste(classes.shape)
                taken = np.isin(classes, (0, UNKNOWN_CLASS)) & (pasted != UNKNOWN_CLASS)
                classes[taken] = pasted[taken]
        return classes

    def to_dict(self, *, parsing: ParsingForm = "rle") -> dict[str, Any]:
        """Return the JSON object of one image, as `schema/result-2.json` describes it.

        parsing: "rle" for runs, "full" for nested lists, "png" for a PNG file in base64, None to leave
        the maps out; see `Parsing.to_dict`.
        """
        return {
            "schema": SCHEMA,
            "source": self.source,
            "width": None if self.width is None else int(self.width),
            "height": None if self.height is None else int(self.height),
            "faces": None if self.faces is None else [face.to_dict(parsing=parsing) for face in self.faces],
            "error": self.error,
        }

    def to_json(self, *, parsing: ParsingForm = "rle", indent: int | None = None) -> str:
        """Return `to_dict` as JSON text.

        indent: None for one line; a number for text that people can read, with each row of numbers on one
        line. Bytes of a file name that are not UTF-8 are escaped.
        """
        plain = self.to_dict(parsing=parsing)
        text = json.dumps(plain, indent=indent, ensure_ascii=False, allow_nan=False)
        # Python holds bytes that are not UTF-8 as surrogates; JSON has the same escape for them.
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
        if indent is None:
            return text
        # A line break between brackets is the indenter's own: inside strings JSON writes it as \n.
        return re.sub(r"\[\n[-\d.,eE\s]+\]", lambda row: re.sub(r"\s+", " ", row[0]), text)

    def to_pandas(self) -> pandas.DataFrame:
        """Return a DataFrame with a row per face and always the same columns.

        source, face (its index), model, score, quality, x0 y0 x1 y1; x and y of each of the five points
        (left_eye_x ..., left as the viewer sees it); age, age_std; expression and expression_<label> per
        probability; one per attribute with its CelebA name; landmarks (68, 2) and embedding (512,) in one
        cell. NaN or None where not asked for; no parsing maps. Raises FaceumError without pandas.
        """
        try:
            import pandas
        except ModuleNotFoundError:
            raise FaceumError(missing("Result.to_pandas", "pandas")) from None
        rows = [face_row(self.source, index, face) for index, face in enumerate(self)]
        return pandas.DataFrame(rows, columns=list(face_row(None, 0, Face(box=np.zeros(4, np.float32)))))

    def _pixels(self, image: Source | None) -> np.ndarray:
        if image is not None:
            return read_image(image)
        if self.image is not None:
            return self.image
        if self.source is not None:
            return read_image(self.source)
        raise FaceumError("The result keeps no image; pass image=, or analyze with keep_images=True.")

    def _repr_png_(self) -> bytes | None:
        """Return the drawing for Jupyter, None if there is nothing to draw on."""
        from faceum.save import encode_drawing_png

        return None if self.image is None or self.error else encode_drawing_png(self.plot())

    def _repr_html_(self) -> str:
        """Return the drawing and a table of the faces for Jupyter."""
        lines = [f"<p>{html.escape(self.source or 'image')}: {html.escape(self._summary())}</p>"]
        drawing = self._repr_png_()
        if drawing is not None:
            data = base64.b64encode(drawing).decode("ascii")
            lines.append(f'<img style="max-width: 100%" src="data:image/png;base64,{data}">')
        if len(self):
            head = ("face", "score", "box", "age", "expression")
            lines.append("<table><tr>" + "".join(f"<th>{name}</th>" for name in head) + "</tr>")
            for index, face in enumerate(self):
                score = "" if face.score is None else f"{face.score:.2f}"
                said = face.expression.label if face.expression is not None else ""
                cells = (index, score, _round(face.box), face.age or "", said)
                lines.append("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in cells))
            lines.append("</table>")
        return "\n".join(lines)

    def _summary(self) -> str:
        if self.error is not None:
            return self.error
        count = count_noun(len(self), "face") if len(self) else "no face"
        return f"{self.width} x {self.height}, {count}"


def face_row(source: str | None, index: int, face: Face) -> dict[str, Any]:
    """Return the DataFrame row of a face."""
    points = np.full((5, 2), np.nan) if face.points5 is None else face.points5
    expression = {} if face.expression is None else face.expression.probabilities
    attributes = face.attributes or {}
    return {
        "source": source,
        "face": index,
        "model": face.model,
        "score": np.nan if face.score is None else float(face.score),
        "quality": np.nan if face.quality is None else float(face.quality),
        **{name: float(edge) for name, edge in zip(("x0", "y0", "x1", "y1"), face.box, strict=True)},
        **{
            f"{name}_{axis}": float(value)
            for name, point in zip(POINT_NAMES, points, strict=True)
            for axis, value in zip("xy", point, strict=True)
        },
        "age": np.nan if face.age is None else float(face.age.years),
        "age_std": np.nan if face.age is None else float(face.age.std),
        "expression": None if face.expression is None else face.expression.label,
        **{f"expression_{label}": expression.get(label, np.nan) for label in EXPRESSIONS},
        **{name: attributes.get(name, np.nan) for name in ATTRIBUTES},
        "landmarks": face.landmarks,
        "embedding": face.embedding,
    }


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(two, np.ndarray):
        return one is not None and two is not None and np.array_equal(one, two, equal_nan=True)
    if isinstance(one, Sequence) and isinstance(two, Sequence) and not isinstance(one, str):
        return list(one) == list(two)
    return bool(one == two)


def _round(box: np.ndarray) -> tuple[int, ...]:
    return tuple(round(float(edge)) for edge in box)


def _plain_number(number: float) -> float:
    """Return a Python float; a float32 keeps its own short digits (0.3, not 0.30000001192092896)."""
    return float(str(number)) if isinstance(number, np.float32) else float(number)


def _plain_list(array: np.ndarray) -> list[Any]:
    """Return nested lists of floats that read back as exactly the same float32 values."""
    array = np.asarray(array, np.float32)
    if array.ndim == 1:
        return [_plain_number(number) for number in array]
    return [_plain_list(row) for row in array]


def _plain_dict(probabilities: dict[str, float]) -> dict[str, float]:
    return {name: _plain_number(value) for name, value in probabilities.items()}
