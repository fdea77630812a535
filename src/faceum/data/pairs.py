"""Sets of pairs for verification (LFW, insightface's `.bin`, RMFD) -> their faces and pairs."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faceum.data.parquet import Pairs
from faceum.data.sample import Sample
from faceum.datasets.aligned import aligned_points5
from faceum.datasets.folders import read_rmfd
from faceum.datasets.tables import choose, find, read_lines, whole_number
from faceum.errors import DataError

FOLDS = 10
LFW_LISTS = {"test": "pairs.txt", "val": "pairsDevTest.txt", "train": "pairsDevTrain.txt"}


@dataclass(frozen=True, kw_only=True, eq=False)
class PairSet:
    """A verification set: every face once, and pairs that name them by their ids."""

    samples: list[Sample]
    pairs: Pairs


def read_lfw(root: str | Path, split: str = "test") -> PairSet:
    """LFW by its lists of pairs: test is pairs.txt (10 folds), train and val the development lists (1 fold).

    root holds the list and the folder of people, lfw, lfw_funneled, lfw-deepfunneled or lfw_aligned.
    """
    path = find(root, "LFW's list of pairs", choose(split, LFW_LISTS, "LFW"))
    names = ("lfw", "lfw_funneled", "lfw-deepfunneled", "lfw_aligned")
    people = find(root, "LFW's folder of people", *names)
    header, *lines = list(read_lines(path)) or [(f"{path}, line 1,", [])]
    folds, size = _promise(*header)
    if len(lines) != 2 * folds * size:
        raise DataError(f"{path} promises {folds} x {2 * size} pairs and holds {len(lines)}.")
    faces: dict[str, Sample] = {}
    rows = []
    for index, (where, words) in enumerate(lines):
        if len(words) not in (3, 4):
            raise DataError(f"{where}: a pair is 'name 1 2' or 'name 1 other 2'; came {' '.join(words)!r}.")
        same = len(words) == 3
        ends = ((words[0], words[1]), (words[0] if same else words[2], words[-1]))
        a, b = (_lfw_face(people, person, whole_number(count, where), faces) for person, count in ends)
        rows.append((index // (2 * size), a, b, same))
    return PairSet(samples=list(faces.values()), pairs=_pairs(rows))


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
    return PairSet(samples=samples, pairs=_pairs(rows))


def read_rmfd_pairs(root: str | Path, split: str = "all") -> PairSet:
    """Pairs of a masked and a bare face from RMFD: for every masked face one of the person, one of another.

    Such pairs are ours: the set comes with none. They are drawn with a fixed seed. Folds are five groups of
    people, by whose masked face it is; the other face of a differing pair is of the same group.
    """
    bare, masked = _by_person(read_rmfd(root, split))
    both = sorted(bare.keys() & masked.keys())
    rng = np.random.default_rng(0)
    rows: list[tuple[int, str, str, bool]] = []
    used: dict[str, Sample] = {}
    for fold in range(5):
        group = both[fold::5]
        if len(group) < 2:
            raise DataError(f"{root} has {len(both)} people with and without masks; 10 are needed for pairs.")
        for person in group:
            for face in masked[person]:
                other = group[(group.index(person) + int(rng.integers(1, len(group)))) % len(group)]
                for name, same in ((person, True), (other, False)):
                    partner = bare[name][int(rng.integers(len(bare[name])))]
                    rows.append((fold, face.id, partner.id, same))
                    used |= {face.id: face, partner.id: partner}
    return PairSet(samples=list(used.values()), pairs=_pairs(rows))


def _by_person(samples: Iterator[Sample]) -> tuple[dict[str, list[Sample]], dict[str, list[Sample]]]:
    """Person -> faces, bare and masked."""
    trees: tuple[dict[str, list[Sample]], dict[str, list[Sample]]] = ({}, {})
    for sample in samples:
        trees[bool(sample.masked)].setdefault(str(sample.identity), []).append(sample)
    return trees


def _promise(where: str, words: list[str]) -> tuple[int, int]:
    """The number of folds, and of equal pairs in each, by the first line of a list of LFW."""
    counts = [whole_number(word, where) for word in words]
    if len(counts) not in (1, 2) or min(counts) < 1:
        raise DataError(
            f"{where} should say the number of folds, where there are some, and of pairs in each, "
            f"such as '10 300' or '500'; came {' '.join(words)!r}."
        )
    return (1, *counts)[-2], counts[-1]


def _lfw_face(people: Path, person: str, count: int, faces: dict[str, Sample]) -> str:
    name = f"{person}_{count:04d}"
    if name not in faces:
        faces[name] = Sample(
            id=f"lfw-{name}", source="lfw", image=people / person / f"{name}.jpg", identity=person
        )
    return faces[name].id


def _pairs(rows: list[tuple[int, str, str, bool]]) -> Pairs:
    fold, a, b, same = zip(*rows, strict=True)
    return Pairs(fold=np.array(fold), a=np.array(a, object), b=np.array(b, object), same=np.array(same, bool))


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
