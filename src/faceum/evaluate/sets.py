"""Load a labelled set by its name and place, with the protocols that its labels allow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

from faceum.data.parquet import read_landmarks, read_packed, read_pairs, require_packed_file
from faceum.data.sample import Sample
from faceum.datasets.lapa import TO_OURS
from faceum.datasets.registry import DATASETS, PAIR_SETS
from faceum.errors import DataError
from faceum.evaluate.damage import DAMAGES
from faceum.evaluate.protocols import BY_FACE, LabelledSet
from faceum.tasks import EXPRESSIONS, TASKS

TIGHT_SETS = ("fer2013", "ferplus", "utkface")
"""Sets of chips cut so close to the face that no detector can be asked to find it in each."""

CHIPS_OR_WHOLE = ("affectnet", "rafdb")
"""Sets that come as whole images and as chips: tight where all images are squares of one size, as
RAF-DB's in Image/aligned are and those in Image/original are not."""

ALIGNED_SETS = ("bin", "recordio")
"""Layouts whose images were aligned by their makers: they are cut by the points of that alignment."""

CLASSES_OF = {"lapa": tuple(sorted(set(TO_OURS.tolist())))}
"""Sets that know only some of our parsing classes -> those."""

SEVEN = tuple(name for name in EXPRESSIONS if name != "contempt")
EXPRESSIONS_OF = {"affectnet7": SEVEN, "fer2013": SEVEN, "rafdb": SEVEN}
"""Sets that know only some of our expressions -> those; the others, and affectnet8, know all eight."""

VARIANT_OF = {"affectnet7": "affectnet", "affectnet8": "affectnet"}
"""A protocol's name for a set -> the set."""

NAMED_BY_FILE = ("lfw",)
"""Sets whose ids are PERSON_NUMBER, which tells the people of packed files that have no column for them."""

DISJOINT_FOLDS = ("lfw",)
"""Sets whose folds share no person, by their protocol."""

NOTES_OF = {
    "wflw": (
        "WFLW labels 98 points; these scores are over the 68 of them that stand for iBUG's points, the lids "
        "roughly, so they are not WFLW's published measure and not comparable with it.",
    )
}
"""Sets whose scores are not what their name promises -> the sentences that say so."""

PEEKED = 64
"""Number of faces from which the labels of a set are determined."""


def load_set(name: str, place: str | Path) -> LabelledSet:
    """Return a set, ready to be read.

    name: its name in the report. place: a packed Parquet file, a folder that holds `<name>.val.parquet`, an
    insightface `.bin` file, or LAYOUT/SPLIT:FOLDER for a layout of `faceum.datasets.registry`, such as
    300w/common:/data/300w or lfw:/data/lfw (the split is test if it is left out).
    AffectNet is scored by its eight classes, or as affectnet-7=affectnet/val:FOLDER without contempt;
    RAF-DB and FER2013 by their seven. Verification of a packed `lfw.val.parquet` needs the list of pairs
    `lfw-pairs.val.parquet` in the same folder; masks are painted by the points of
    `teacher-landmarks.lfw.val.parquet`, if that file is there.
    Raises DataError for a missing file, an unknown layout, and a set without labels.
    """
    layout, split, path = _parse_place(place)
    word = name.lower().replace("-", "").replace("_", "")
    kind = layout or VARIANT_OF.get(word, name)
    labelled = LabelledSet(
        name=name,
        faces=_yield_nothing,
        protocols=(),
        tight=kind in TIGHT_SETS,
        aligned=kind in ALIGNED_SETS,
        classes=CLASSES_OF.get(kind),
        expressions=EXPRESSIONS_OF.get(word, EXPRESSIONS_OF.get(kind)),
        disjoint_folds=kind in DISJOINT_FOLDS,
        notes=NOTES_OF.get(kind, ()),
    )
    if layout in PAIR_SETS:
        pair_set = PAIR_SETS[layout](path, split)
        labelled = replace(labelled, faces=partial(iter, pair_set.samples), pairs=pair_set.pairs)
    elif layout:
        labelled = replace(labelled, faces=partial(DATASETS[layout], path, split))
    else:
        labelled = _open_packed(labelled, kind, path)
    first = list(islice(labelled.faces(), PEEKED))
    return replace(
        labelled,
        protocols=_list_protocols(labelled, first, str(place)),
        tight=labelled.tight or (kind in CHIPS_OR_WHOLE and _are_chips(first)),
        pointed=bool(labelled.landmarks)
        or any(sample.landmarks68 is not None or sample.points5 is not None for sample in first),
    )


def parse_sets(entries: list[str]) -> dict[str, str]:
    """Return name -> place from words like "lfw=folder/lfw.val.parquet"; DataError for one that is not so."""
    sets = {}
    for entry in entries:
        name, sign, place = entry.partition("=")
        if not (name and sign and place):
            raise DataError(f"--set takes NAME=PATH, such as lfw=corpus/lfw.val.parquet, got {entry!r}.")
        if name in sets:
            raise DataError(f"The set {name} was given twice; give each set a name of its own.")
        sets[name] = place
    return sets


def _parse_place(place: str | Path) -> tuple[str, str, Path]:
    """Return layout ("" for packed), split and path."""
    words, colon, path = str(place).partition(":")
    layout, _, split = words.partition("/")
    if colon and (layout in DATASETS or layout in PAIR_SETS):
        return layout, split or "test", Path(path)
    if Path(place).suffix == ".bin":
        return "bin", "test", Path(place)
    return "", "", Path(place)


def _open_packed(labelled: LabelledSet, kind: str, path: Path) -> LabelledSet:
    file = require_packed_file(path / f"{labelled.name}.val.parquet" if path.is_dir() else path)
    source, dot, rest = file.name.partition(".")
    pairs, points = (
        file.with_name(f"{source}-pairs{dot}{rest}"),
        file.with_name(f"teacher-landmarks.{file.name}"),
    )
    read = partial(_read_named if kind in NAMED_BY_FILE else read_packed, file)
    return replace(
        labelled,
        faces=read,
        pairs=read_pairs(pairs) if pairs.exists() else None,
        landmarks=read_landmarks(points) if pairs.exists() and points.exists() else {},
    )


def _read_named(file: Path) -> Iterator[Sample]:
    """Yield the samples of a packed file, each with the person that its id names."""
    for sample in read_packed(file):
        known = sample.identity is not None
        yield sample if known else replace(sample, identity=re.sub(r"_\d+$", "", sample.id))


def _are_chips(first: list[Sample]) -> bool:
    """Return whether all images are squares of one size, as in sets that are already aligned."""
    sizes = {sample.read().shape[:2] for sample in first}
    return len(sizes) == 1 and all(height == width for height, width in sizes)


def _list_protocols(labelled: LabelledSet, first: list[Sample], place: str) -> tuple[str, ...]:
    """Return the protocols that pairs and labels allow; faces that wear masks get no second one."""
    protocols = [protocol for protocol in BY_FACE if any(sample.has_label(protocol) for sample in first)]
    if labelled.pairs is not None:
        masked = [] if any(sample.wears_mask for sample in first) else ["masked"]
        protocols += ["verification", *masked, *DAMAGES]
    if not protocols and all(sample.identity is None for sample in first):
        raise DataError(
            f"There is nothing to score in {place}: it has no list of pairs and none of the labels "
            f"{', '.join(TASKS[protocol].label for protocol in BY_FACE)}."
        )
    return tuple(protocols)


def _yield_nothing() -> Iterator[Sample]:
    return iter(())
