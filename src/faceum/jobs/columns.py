"""The rows of a batch's result files: a status row per image, followed by a row per face."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from faceum.errors import FaceumError
from faceum.extras import missing
from faceum.results import POINT_NAMES, Face, Result, face_row
from faceum.tasks import ATTRIBUTES, EXPRESSIONS

OK, BROKEN, UNREAD, CRASHED = "ok", "broken", "unread", "crashed"
"""What became of an image. ok: analyzed, with or without faces. broken: read, but not a usable image. unread:
its bytes could not be read. crashed: it ended the process that analyzed it, twice."""

STATUSES = (OK, BROKEN, UNREAD, CRASHED)

RETRIED = (UNREAD, CRASHED)
"""The statuses that the next run tries again: their cause may have passed."""

IMAGE_COLUMNS = {
    "shard": "int32",
    "image": "int32",
    "face": "int16",
    "source": "string",
    "status": "string",
    "error": "string",
    "width": "int32",
    "height": "int32",
    "faces": "int32",
}
"""Column -> Arrow type of what both kinds of row can hold."""

FACE_NUMBERS = (
    "score", "quality", "x0", "y0", "x1", "y1", *(f"{name}_{axis}" for name in POINT_NAMES for axis in "xy"),
    "age", "age_std", *(f"expression_{label}" for label in EXPRESSIONS), *ATTRIBUTES,
)  # fmt: skip
"""The float32 columns of a face, named as in `Result.to_pandas`."""

LANDMARK_NUMBERS, MATRIX_NUMBERS = 2 * 68, 2 * 3


def import_pyarrow() -> Any:
    """Return pyarrow; raises FaceumError with the command that installs it."""
    try:
        import pyarrow
    except ImportError:
        raise FaceumError(missing("Analyzing in batches", "pyarrow")) from None
    return pyarrow


def arrow_schema(dim: int) -> Any:
    """Return the Arrow schema of a result file. dim: numbers of an embedding."""
    pa = import_pyarrow()
    named = [(name, getattr(pa, kind)()) for name, kind in IMAGE_COLUMNS.items()]
    named += [("model", pa.string()), ("expression", pa.string())]
    named += [(name, pa.float32()) for name in FACE_NUMBERS]
    named += [
        ("landmarks", pa.list_(pa.float32(), LANDMARK_NUMBERS)),
        ("embedding", pa.list_(pa.float16(), dim)),
        ("parsing", pa.binary()),
        ("parsing_matrix", pa.list_(pa.float64(), MATRIX_NUMBERS)),
    ]
    return pa.schema(named)


class RowBuilder:
    """Collects the rows of images and turns them into Arrow tables."""

    def __init__(self, shard: int, dim: int, *, parsing: bool) -> None:
        """shard: written into every row. dim: numbers of an embedding. parsing: keep parsing maps, as PNG."""
        self._shard, self._parsing = shard, parsing
        self._schema = arrow_schema(dim)
        self._rows: list[dict[str, Any]] = []
        self.images = 0

    def add(self, image: int, source: str, status: str, result: Result) -> None:
        """Add an image's status row and a row for each of its faces.

        image: its number within the shard. source: its name in the rows. result: faces, or the error.
        """
        self.images += 1
        name = source.encode("utf-8", "backslashreplace").decode("utf-8")
        head = {"shard": self._shard, "image": image, "source": name}
        error = result.error and result.error.encode("utf-8", "backslashreplace").decode("utf-8")
        self._rows.append(
            {**head, "status": status, "error": error, "width": result.width, "height": result.height,
             "faces": None if result.faces is None else len(result.faces)}
        )  # fmt: skip
        for number, face in enumerate(result):
            self._rows.append({**face_row(source, number, face), **head, **self._parsing_cells(face)})

    def table(self) -> Any:
        """Return the rows added since the last call as a pyarrow Table."""
        pa = import_pyarrow()
        rows, self._rows, self.images = self._rows, [], 0
        columns = []
        for field in self._schema:
            cells = [row.get(field.name) for row in rows]
            if pa.types.is_fixed_size_list(field.type):
                columns.append(_vectors(cells, field.type))
            else:
                columns.append(pa.array(cells, field.type, from_pandas=True))
        return pa.Table.from_arrays(columns, schema=self._schema)

    def _parsing_cells(self, face: Face) -> dict[str, Any]:
        if face.parsing is None or not self._parsing:
            return {}
        from faceum.render.palette import PARSING_PALETTE
        from faceum.save import encode_indexed_png

        png = encode_indexed_png(face.parsing.class_map, PARSING_PALETTE)
        return {"parsing": png, "parsing_matrix": face.parsing.matrix}


def _vectors(cells: Sequence[Any], kind: Any) -> Any:
    """Return fixed-size lists from arrays; None becomes null."""
    pa = import_pyarrow()
    values = np.zeros((len(cells), kind.list_size), kind.value_type.to_pandas_dtype())
    for row, cell in enumerate(cells):
        if cell is not None:
            values[row] = np.asarray(cell).reshape(-1)
    absent = pa.array([cell is None for cell in cells], pa.bool_())
    return pa.FixedSizeListArray.from_arrays(
        pa.array(values.ravel(), kind.value_type), type=kind, mask=absent
    )
