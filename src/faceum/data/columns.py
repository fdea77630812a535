"""The columns of a packed set of faces: their types, for the writer, the reader and the check."""

from __future__ import annotations

import json
from typing import Any

REQUIRED = {"id", "source", "image"}
"""Columns without which a file is not a set of faces."""

ALWAYS = REQUIRED | {"height", "width", "box", "points5", "detector_score"}
"""Columns that every packed file has. The others are written only if a face has the label."""

COLUMNS = {
    "id": "text",
    "source": "text",
    "image": "bytes",
    "height": "integer",
    "width": "integer",
    "box": "numbers",
    "points5": "numbers",
    "detector_score": "number",
    "age": "number",
    "age_sigma": "number",
    "gender": "integer",
    "smile": "flag",
    "attributes": "flags",
    "expression_votes": "numbers",
    "parsing": "bytes",
    "landmarks68": "numbers",
    "identity": "integer",
    "person": "text",
    "wears_mask": "flag",
    "rough_landmarks": "flag",
    "embedding": "float32 numbers",
}
"""Column of a packed file -> kind of its cells, a key of `arrow_type`."""


def arrow_schema() -> Any:
    """Return the pyarrow schema of a packed file with every column."""
    import pyarrow

    return pyarrow.schema([(name, arrow_type(kind)) for name, kind in COLUMNS.items()])


def arrow_type(kind: str) -> Any:
    """Return the pyarrow type that `pack` writes for a kind of cell."""
    import pyarrow

    return {
        "text": pyarrow.string(),
        "bytes": pyarrow.binary(),
        "integer": pyarrow.int64(),
        "number": pyarrow.float64(),
        "flag": pyarrow.bool_(),
        "numbers": pyarrow.list_(pyarrow.float64()),
        "flags": pyarrow.list_(pyarrow.bool_()),
        "float32 numbers": pyarrow.list_(pyarrow.float32()),
    }[kind]


def value_problem(column: str, value: Any) -> str | None:
    """Return what is wrong with the type of a value from JSON; None if a cell of the column can hold it."""
    import pyarrow

    try:
        problem = column_problem(column, pyarrow.infer_type([value]))
    except (pyarrow.ArrowException, OverflowError) as error:  # a list of several kinds, a number too large
        problem = f"is no value of one kind ({error})"
    return None if problem is None else f"has a {column} that is {json.dumps(value)[:40]}: it {problem}"


def column_problem(column: str, found: Any) -> str | None:
    """Return what is wrong with a column's type; None if its cells can be read as `pack` writes them.

    Wider and narrower numbers, integers where numbers are expected, and large strings, bytes and lists pass;
    a person may be a number.
    """
    from pyarrow import types

    def is_number(kind: Any) -> bool:
        return bool(types.is_integer(kind) or types.is_floating(kind))

    def is_list(kind: Any) -> bool:
        return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))

    def is_text(kind: Any) -> bool:
        return bool(types.is_string(kind) or types.is_large_string(kind))

    kind = COLUMNS[column]
    if kind == "text":
        passes = is_text(found) or (column == "person" and types.is_integer(found))
    elif kind == "bytes":
        passes = types.is_binary(found) or types.is_large_binary(found)
    elif kind == "integer":
        passes = types.is_integer(found)
    elif kind == "number":
        passes = is_number(found)
    elif kind == "flag":
        passes = types.is_boolean(found)
    else:
        passes = is_list(found) and (
            is_number(found.value_type)
            or types.is_null(found.value_type)
            or (kind == "flags" and types.is_boolean(found.value_type))
        )
    if passes or types.is_null(found):  # a column without any value has no type of its own
        return None
    return f"has the type {found}; expected {arrow_type(kind)}"
