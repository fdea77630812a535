"""Read the `.bin` verification sets of insightface without running what their pickle names."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from faceum.data.pairs import Pairs, PairSet
from faceum.data.sample import Sample
from faceum.datasets.aligned import aligned_points5
from faceum.datasets.tables import choose
from faceum.errors import DataError

FOLDS = 10


def read_bin(path: str | Path, split: str = "test") -> PairSet:
    """A `.bin` set of insightface (lfw, cfp_fp, agedb_30, calfw, cplfw, mlfw): a pickle of images, answers.

    Nothing that the pickle names is run: only bytes, lists, tuples, booleans and numbers come out of it. The
    images are aligned crops, so five points are given at 112 x 112. Its pairs are ten folds in file order.
    """
    choose(split, {"test": None}, "A .bin set")
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no file {path}; give the .bin file of a verification set.")
    try:
        with path.open("rb") as file:
            images, answers = _PlainUnpickler(file, encoding="bytes").load()
    except _WRONG_PICKLE as error:
        raise DataError(f"{path} is no .bin set of images and answers: {error}.") from error
    if not (isinstance(images, (list, tuple)) and isinstance(answers, (list, tuple))):
        raise DataError(f"{path} is no .bin set: a list of images and a list of answers are wanted.")
    good = all(isinstance(item, bytes) for item in images) and all(item in (0, 1) for item in answers)
    if len(images) != 2 * len(answers) or not good or not answers:
        raise DataError(f"{path} holds {len(images)} images for {len(answers)} pairs; two a pair are wanted.")
    ids = [f"{path.stem}-{place:05d}" for place in range(len(images))]
    samples = [
        Sample(id=name, source=path.stem, image=image, points5=aligned_points5(image), file=path)
        for name, image in zip(ids, images, strict=True)
    ]
    rows = [
        (pair * FOLDS // len(answers), ids[2 * pair], ids[2 * pair + 1], bool(same))
        for pair, same in enumerate(answers)
    ]
    return PairSet(samples=samples, pairs=Pairs.from_rows(rows))


_WRONG_PICKLE = (
    pickle.UnpicklingError, ValueError, TypeError, AttributeError, EOFError, IndexError, KeyError,
    OverflowError,
)  # fmt: skip
"""What reading a broken or foreign pickle raises."""


class _PlainUnpickler(pickle.Unpickler):
    """Reads pickles of bytes, lists and booleans. What NumPy scalars and Python 2 need is replaced by
    functions of ours; every other name in the file is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """One of the four stand-ins below, or an UnpicklingError."""
        if name in _STAND_INS and module in _MODULES[name]:
            return _STAND_INS[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed in a set of images")


class _DType:
    """Stands for numpy.dtype; remembers its letters and ignores the rest."""

    def __init__(self, letters: str | bytes, *_: object) -> None:
        self.letters = letters.decode() if isinstance(letters, bytes) else letters

    def __setstate__(self, state: object) -> None:
        """Byte order and field names: of no use for a boolean."""


def _scalar(dtype: _DType, value: bytes) -> bool:
    """Stands for numpy's scalar: one byte that is a boolean or a small integer."""
    if dtype.letters not in ("b1", "?", "i1", "u1", "i4", "i8") or not isinstance(value, bytes):
        raise pickle.UnpicklingError(f"it holds a number of kind {dtype.letters}; booleans are wanted")
    return any(value)


def _encode(text: str, encoding: str | bytes) -> bytes:
    """Stands for _codecs.encode, by which Python 3 writes bytes for Python 2."""
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"it encodes text as {encoding!r}; latin1 is wanted")
    return text.encode("latin1")


_STAND_INS = {"dtype": _DType, "scalar": _scalar, "encode": _encode}
_MODULES = {
    "dtype": ("numpy",),
    "scalar": ("numpy.core.multiarray", "numpy._core.multiarray"),
    "encode": ("_codecs",),
}
