"""Check the inputs of metrics; raise DataError for values that cannot be scored."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from faceum.errors import DataError


def check_finite(name: str, values: np.ndarray | Sequence[float]) -> np.ndarray:
    """Return `values` as a float64 array; raises DataError if it is empty or contains NaN or infinity.

    name: what the values are, in the plural, for the message ("predicted ages"). The message says how many
    values are not finite, and the first one's row.
    """
    array = np.asarray(values, np.float64)
    if array.size == 0:
        raise DataError(f"There are no {name} to score; give at least one.")
    broken = ~np.isfinite(array)
    if broken.any():
        first = int(np.argwhere(broken)[0][0]) if array.ndim else 0
        raise DataError(
            f"{int(broken.sum())} of {array.size} {name} are NaN or infinite, the first in row {first}; "
            "correct or leave out those rows."
        )
    return array


def check_same_length(**arrays: np.ndarray) -> None:
    """Raise DataError unless all the named arrays have the same number of rows."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        given = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise DataError(f"Expected arrays with equally many rows, got {given}.")


def check_class_ids(name: str, values: np.ndarray | Sequence[int], classes: int) -> np.ndarray:
    """Return `values` as int64 class ids; raises DataError if one is not in 0..classes - 1."""
    array = np.asarray(values)
    if array.size == 0:
        raise DataError(f"There are no {name} to score; give at least one.")
    if array.dtype.kind not in "iub":
        array = check_finite(name, array)
        if (array != np.round(array)).any():
            raise DataError(f"The {name} must be whole numbers, class ids from 0 to {classes - 1}.")
    ids = array.astype(np.int64)
    wrong = (ids < 0) | (ids >= classes)
    if wrong.any():
        raise DataError(
            f"Class id {int(ids[wrong].flat[0])} among the {name} is not one of 0 to {classes - 1}; "
            "check the label file's class order."
        )
    return ids
