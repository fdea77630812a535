"""Results to files: a result and its image in; JSON, drawing, parsing map and embeddings out.

Every file is written beside its place and then renamed, so that what lies there is always whole.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from faceum.files import write_bytes, write_text
from faceum.image import write_image
from faceum.paste import paste_parsing
from faceum.render import render_faces
from faceum.render.palette import PALETTE
from faceum.results import Face, Result


class OutputStems:
    """Gives each image of a run its own name in the output folder.

    Two images of one stem become x and x-2, also where the file system ignores case, and no output takes
    the place of an input that lies in the output folder.
    """

    def __init__(self, folder: Path, inputs: Iterable[Path] = ()) -> None:
        """folder: where the outputs go. inputs: the images that are read."""
        self._folder = folder
        self._taken: set[str] = set()
        self._inputs = {path.resolve() for path in inputs}

    def name(self, source: str | None) -> str:
        """The stem for the outputs of this source; "image" where it has no path."""
        # The drawing of "x.parsing.jpg" would else be named as the parsing map of "x.jpg" is.
        wanted = re.sub(r"\.parsing$", "-parsing", Path(source).stem) if source else "image"
        stem, number = wanted, 1
        while stem.casefold() in self._taken or self._is_input(stem):
            number += 1
            stem = f"{wanted}-{number}"
        self._taken.add(stem.casefold())
        return stem

    def _is_input(self, stem: str) -> bool:
        drawn = {f"{stem}.png", f"{stem}.parsing.png"}
        return any((self._folder / name).resolve() in self._inputs for name in drawn)


def save_result(result: Result, image: np.ndarray | None, folder: Path, stem: str) -> list[Path]:
    """Write what came of one image, and return the files.

    <stem>.json: the result as `Result.to_dict()` gives it. <stem>.png: the drawing. <stem>.parsing.png: the
    class of every pixel of the image, indexed, where a face was parsed. <stem>.npz: `embeddings` (n, 512)
    and `boxes` (n, 4), float32, where faces have embeddings.

    image: the image, (H, W, 3) uint8 RGB; None where it could not be read, and then only the JSON
    is written. folder is made where it is missing. OSError where it cannot be written.
    """
    written = [folder / f"{stem}.json"]
    write_text(written[0], json_text(result))
    if image is None or result.faces is None:
        return written
    written.append(folder / f"{stem}.png")
    write_image(written[-1], render_faces(image, result.faces))
    if any(face.parsing is not None for face in result.faces):
        written.append(folder / f"{stem}.parsing.png")
        write_bytes(written[-1], indexed_png(class_of_every_pixel(result.faces, image.shape[:2]), PALETTE))
    if any(face.embedding is not None for face in result.faces):
        written.append(folder / f"{stem}.npz")
        write_bytes(written[-1], embeddings_npz(result.faces))
    return written


def json_text(result: Result) -> str:
    """The result as JSON to be read by people, too: indented, with each row of numbers on one line."""
    text = json.dumps(result.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
    # Bytes of a file's name that are no UTF-8, which Python holds as surrogates, are escaped as JSON escapes.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    # A line break between brackets is the indenter's own: inside strings JSON writes it as \n.
    return re.sub(r"\[\n[-\d.,eE\s]+\]", lambda row: re.sub(r"\s+", " ", row[0]), text) + "\n"


def class_of_every_pixel(faces: Sequence[Face], size: tuple[int, int]) -> np.ndarray:
    """(height, width) uint8: the parsing of all faces in one map; where they overlap, the first counts."""
    classes = np.zeros(size, np.uint8)
    for face in faces:
        if face.parsing is not None:
            clear = classes == 0
            classes[clear] = paste_parsing(face.parsing, size)[clear]
    return classes


def embeddings_npz(faces: Sequence[Face]) -> bytes:
    """A .npz file: `embeddings` (n, 512) and `boxes` (n, 4) of the faces that have embeddings."""
    known = [face for face in faces if face.embedding is not None]
    file = io.BytesIO()
    np.savez(
        file,
        embeddings=np.array([face.embedding for face in known], np.float32),
        boxes=np.array([face.box for face in known], np.float32),
    )
    return file.getvalue()


def indexed_png(classes: np.ndarray, palette: np.ndarray) -> bytes:
    """A PNG whose pixel values are the classes and whose palette gives their colours.

    classes: (h, w) uint8, each below len(palette). palette: (n, 3) uint8 RGB, n <= 256. OpenCV cannot write
    this kind; the format is that of W3C's PNG specification, colour type 3.
    """
    height, width = classes.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with its filter, 0: as it is
    rows[:, 1:] = classes
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _chunk(b"IHDR", header),
            _chunk(b"PLTE", np.ascontiguousarray(palette, np.uint8).tobytes()),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
