"""Read the `.bin` verification sets of insightface without running what their pickle names."""

from __future__ import annotations

import io
import pickle
import pickletools
from pathlib import Path
from typing import Any

from faceum.data.pairs import Pairs, PairSet
from faceum.data.sample import Sample
from faceum.datasets.aligned import find_aligned_points5
from faceum.datasets.tables import choose
from faceum.errors import DataError

FOLDS = 10


def read_bin(path: str | Path, split: str = "test") -> PairSet:
    """Read a `.bin` set of insightface (lfw, cfp_fp, agedb_30, ...), a pickle of images and answers.

    Nothing that the pickle names is run: it can only contain bytes, lists, tuples, booleans and numbers, and
    needs no more memory than its size suggests. The images are aligned crops, so images of 112 x 112 have
    five points. The pairs are ten folds in file order.
    """
    choose(split, {"test": None}, "A .bin set")
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no file {path}; give the .bin file of a verification set.")
    data = path.read_bytes()
    try:
        _check_opcodes(data)
        images, answers = _PlainUnpickler(io.BytesIO(data), encoding="bytes").load()
    except _WRONG_PICKLE as error:
        raise DataError(f"{path} is not a .bin set of images and answers: {str(error)[:200]}.") from error
    if not (isinstance(images, (list, tuple)) and isinstance(answers, (list, tuple))):
        raise DataError(f"{path} is not a .bin set: expected a list of images and a list of answers.")
    good = all(isinstance(item, bytes) for item in images) and all(item in (0, 1) for item in answers)
    if len(images) != 2 * len(answers) or not good or not answers:
        raise DataError(f"{path} holds {len(images)} images for {len(answers)} pairs; expected two per pair.")
    ids = [f"{path.stem}-{place:05d}" for place in range(len(images))]
    samples = [
        Sample(id=name, source=path.stem, image=image, points5=find_aligned_points5(image), file=path)
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
"""The errors of reading a broken or foreign pickle."""


def _check_opcodes(data: bytes) -> None:
    """Raise UnpicklingError if the pickle asks for more memory than its size suggests.

    A memo index sizes a table, and a length a buffer, before anything is read into them.
    """
    for number, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(data))):
        argument = argument or 0
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and argument > number:
            raise pickle.UnpicklingError(f"its memo index {argument} is too large")
        if opcode.name == "FRAME" and argument > len(data):
            raise pickle.UnpicklingError(f"its frame of {argument} bytes is longer than the file")


class _PlainUnpickler(pickle.Unpickler):
    """Reads pickles of bytes, lists and booleans.

    The names that NumPy scalars and Python 2 need are replaced by functions of this module; every other name
    in the file is refused.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the replacements below; raises UnpicklingError for other names."""
        if name in _REPLACEMENTS and module in _MODULES[name]:
            return _REPLACEMENTS[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is not allowed in a set of images")


class _DType:
    """Replaces numpy.dtype; remembers its letters and ignores the rest."""

    def __init__(self, letters: str | bytes, *_: object) -> None:
        self.letters = letters.decode() if isinstance(letters, bytes) else letters

    def __setstate__(self, state: object) -> None:
        """Ignore byte order and field names, which a boolean does not need."""


def _scalar(dtype: _DType, value: bytes) -> bool:
    """Replace numpy's scalar: return the bytes of a boolean or an integer."""
    if dtype.letters not in ("b1", "?", "i1", "u1", "i4", "i8") or not isinstance(value, bytes):
        raise pickle.UnpicklingError(f"it holds a number of kind {dtype.letters}; expected booleans")
    return any(value)


def _encode(text: str, encoding: str | bytes) -> bytes:
    """Replace _codecs.encode, with which Python 3 writes bytes for Python 2."""
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"it encodes text as {encoding!r}; expected latin1")
    return text.encode("latin1")


_REPLACEMENTS = {"dtype": _DType, "scalar": _scalar, "encode": _encode}
_MODULES = {
    "dtype": ("numpy",),
    "scalar": ("numpy.core.multiarray", "numpy._core.multiarray"),
    "encode": ("_codecs",),
}
