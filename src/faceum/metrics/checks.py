"""What a metric refuses to count: arrays in, the same arrays or a sentence out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from faceum.errors import DataError


def finite(name: str, values: np.ndarray | Sequence[float]) -> np.ndarray:
    """Return `values` as a float64 array, refusing an empty one and one that holds NaN or infinity.

    name: what the values are, in the plural, for the sentence ("predicted ages").
    Raises DataError naming how many are not finite and the first one's position.
    """
    array = np.asarray(values, np.float64)
    if array.size == 0:
        raise DataError(f"There are no {name} to score; give at least one.")
    broken = ~np.isfinite(array)
    if broken.any():
        first = int(np.argwhere(broken)[0][0]) if array.ndim else 0
        raise DataError(
            f"{int(broken.sum())} of {array.size} {name} are NaN or infinite, the first in row {first}; "
            "a score over them would mean nothing, so repair or leave out those rows."
        )
    return array


def same_length(**arrays: np.ndarray) -> None:
    """Raise DataError unless all the named arrays have the same number of rows."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        given = ", ".join(f"{length} {name}" for name, length in lengths.items())
        raise DataError(f"Every answer needs its truth, one row each; came {given}.")


def class_ids(name: str, values: np.ndarray | Sequence[int], classes: int) -> np.ndarray:
    """Return `values` as int64 class ids, refusing any outside 0..classes - 1 (DataError)."""
    array = np.asarray(values)
    if array.size == 0:
        raise DataError(f"There are no {name} to score; give at least one.")
    if array.dtype.kind not in "iub":
        array = finite(name, array)
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
