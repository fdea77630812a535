"""Writes results to files: JSON, drawing, parsing map and embeddings.

Every file is written to a temporary path in the same folder and then renamed, so it is always whole. Each
file carries a mark, by which a later run recognizes it: files that this package did not write are never
replaced unless asked for.
"""

from __future__ import annotations

import io
import json
import os
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from faceum.errors import FaceumError, OutputError
from faceum.files import write_bytes
from faceum.render import render_faces
from faceum.render.palette import PARSING_PALETTE

if TYPE_CHECKING:
    from faceum.results import Face, Result

SUFFIXES = (".json", ".png", ".parsing.png", ".npz")
"""Endings of the files of one image."""

MARK = "faceum"
"""The mark: the value of the PNG text chunk "Software", and of the array "software" in .npz files. JSON files
are recognized by their "schema"."""

MOST_STEM_BYTES = 200
"""Longer stems are cut: file systems take names of 255 bytes, endings and a temporary mark included."""


class OutputStems:
    """Gives each image of a run a stem of its own in the output folder.

    Two images of one stem become x and x-2, also if only their case differs, and no output takes the path of
    an input.
    """

    def __init__(self, folder: Path, inputs: Iterable[Path] = ()) -> None:
        """folder: where the outputs go. inputs: all files that are read."""
        self._folder = folder
        self._taken: set[str] = set()
        self._inputs: set[Path | tuple[int, int]] = set()
        for path in inputs:
            self._inputs.update(_identities(path))

    def name(self, source: str | None) -> str:
        """Return the stem for the outputs of a source; "image" if it has no path."""
        first = output_stem(source)
        stem, number = first, 1
        while stem.casefold() in self._taken or self._is_input(stem):
            number += 1
            stem = f"{first}-{number}"
        self._taken.add(stem.casefold())
        return stem

    def _is_input(self, stem: str) -> bool:
        outputs = (self._folder / f"{stem}{suffix}" for suffix in SUFFIXES)
        return any(not self._inputs.isdisjoint(_identities(path)) for path in outputs)


def output_stem(source: str | None) -> str:
    """Return the first part of the names of a source's output files."""
    # The drawing of "x.parsing.jpg" would otherwise be named like the parsing map of "x.jpg".
    stem = re.sub(r"\.parsing$", "-parsing", Path(source).stem) if source else "image"
    encoded = os.fsencode(stem)
    return os.fsdecode(encoded[:MOST_STEM_BYTES]) if len(encoded) > MOST_STEM_BYTES else stem


def save_result(
    result: Result, image: np.ndarray | None, folder: Path, stem: str, *, overwrite: bool = False
) -> list[Path]:
    """Write the files of one image and return their paths.

    <stem>.json: the result as `Result.to_json` writes it. <stem>.png: the drawing. <stem>.parsing.png: the
    class of every pixel of the image as `Result.parsing_map` defines it, indexed with a palette, if a face
    was parsed. <stem>.npz: `embeddings` (n, 512) and `boxes` (n, 4), float32, if faces have embeddings.

    image: (H, W, 3) uint8 RGB; None if it could not be read, and then only the JSON is written. folder is
    made if it is missing. overwrite: also replace files that this package did not write.
    Raises OutputError if such a file is in the way or a file cannot be written.
    """
    contents = {".json": (result.to_json(indent=2) + "\n").encode("utf-8")}
    if image is not None and result.faces is not None:
        contents[".png"] = encode_drawing_png(render_faces(image, result.faces))
        if any(face.parsing is not None for face in result.faces):
            contents[".parsing.png"] = encode_indexed_png(result.parsing_map(), PARSING_PALETTE)
        if any(face.embedding is not None for face in result.faces):
            contents[".npz"] = embeddings_npz(result.faces)
    paths = {suffix: folder / f"{stem}{suffix}" for suffix in contents}
    for path in paths.values():
        if path.is_dir():
            raise OutputError(f"{path} cannot be written: a folder has that name.")
        if not overwrite and path.exists() and not is_ours(path):
            raise OutputError(
                f"{path} cannot be written: there is a file that faceum did not write; choose another folder "
                "or ask to overwrite it."
            )
    for suffix, path in paths.items():
        write_bytes(path, contents[suffix])
    return list(paths.values())


def is_ours(path: Path) -> bool:
    """Return whether this package wrote the file, by the mark inside it; False if it cannot be read."""
    try:
        if path.suffix == ".json":
            values = json.loads(path.read_text(encoding="utf-8"))
            return isinstance(values, dict) and str(values.get("schema", "")).startswith("faceum.result/")
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return "software" in arrays and str(arrays["software"]) == MARK
        with path.open("rb") as file:
            return _MARK_CHUNK in file.read(4096)
    except (OSError, ValueError, KeyError, EOFError, RecursionError):  # not readable as such a file
        return False


def embeddings_npz(faces: Sequence[Face]) -> bytes:
    """Return a .npz file: `embeddings` (n, 512) and `boxes` (n, 4) of the faces that have embeddings."""
    known = [face for face in faces if face.embedding is not None]
    file = io.BytesIO()
    np.savez(
        file,
        embeddings=np.array([face.embedding for face in known], np.float32),
        boxes=np.array([face.box for face in known], np.float32),
        software=np.array(MARK),
    )
    return file.getvalue()


def encode_drawing_png(rgb: np.ndarray) -> bytes:
    """Return an RGB uint8 (H, W, 3) drawing as a PNG with the mark; raises FaceumError if it is too large."""
    try:
        encoded = cv2.imencode(".png", np.ascontiguousarray(rgb[..., ::-1]))[1].tobytes()
    except cv2.error:
        raise FaceumError(
            f"A drawing of {rgb.shape[1]} x {rgb.shape[0]} pixels does not fit a PNG."
        ) from None
    header = 8 + 25  # the signature, and the chunk IHDR
    return bytes(encoded[:header] + _MARK_CHUNK + encoded[header:])


def encode_indexed_png(classes: np.ndarray, palette: np.ndarray) -> bytes:
    """Return a PNG with the mark whose pixel values are the classes and whose palette holds their colours.

    classes: (h, w) uint8, each below len(palette). palette: (n, 3) uint8 RGB, n <= 256. OpenCV cannot write
    this kind of file; it is colour type 3 of W3C's PNG specification.
    """
    height, width = classes.shape
    rows = np.zeros((height, width + 1), np.uint8)  # each row begins with its filter; 0 is none
    rows[:, 1:] = classes
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            _chunk(b"IHDR", header),
            _MARK_CHUNK,
            _chunk(b"PLTE", np.ascontiguousarray(palette, np.uint8).tobytes()),
            _chunk(b"IDAT", zlib.compress(rows.tobytes(), 6)),
            _chunk(b"IEND", b""),
        )
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _identities(path: Path) -> set[Path | tuple[int, int]]:
    """Return the identity of a path's file: the resolved path and, if it exists, its inode."""
    found: set[Path | tuple[int, int]] = {path.resolve()}
    try:
        status = path.stat()
    except OSError:
        return found
    return found | {(status.st_dev, status.st_ino)}


_MARK_CHUNK = _chunk(b"tEXt", b"Software\0" + MARK.encode("latin-1"))
