"""The folder of CelebAMask-HQ -> samples with a parsing mask, from a file a part or merged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from faceum.data.sample import Sample
from faceum.datasets.tables import (
    NO_SIGNS,
    choose,
    counted,
    find,
    find_any,
    read_lines,
    read_or_tell,
    read_parsing,
    signs,
    whole_number,
)
from faceum.errors import DataError
from faceum.tasks import PARSING_CLASSES

SPLITS = {"train": (1, 162_770), "val": (162_771, 182_637), "test": (182_638, 202_599), "all": (0, 1 << 30)}
"""First and last CelebA file number of each split; CelebAMask-HQ inherits CelebA's."""
PARTS_A_FOLDER = 2000


def read_celebamask(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Faces of CelebAMask-HQ.

    root holds CelebA-HQ-img/<n>.jpg, CelebA-HQ-to-CelebA-mapping.txt (not needed for "all"), the masks
    either merged (mask/<n>.png, class ids in our order) or a file a part (CelebAMask-HQ-mask-anno/<0-14>/
    <00000>_<part>.png), and perhaps CelebAMask-HQ-attribute-anno.txt. Parts are painted in the order of
    their ids, so hair covers skin and a hat covers hair, as the set's own script does.
    """
    first, last = choose(split, SPLITS, "CelebAMask-HQ")
    images = find(root, "CelebAMask-HQ's folder of images", "CelebA-HQ-img")
    merged = find_any(root, "mask", "CelebAMaskHQ-mask", "masks")
    parts = merged or find(root, "CelebAMask-HQ's masks", "CelebAMask-HQ-mask-anno", "mask")
    mapping = _mapping(root, needed=split != "all")
    labelled = _attributes(root)
    numbers = [int(path.stem) for path in images.glob("*.jpg") if path.stem.isdecimal()]
    for number in sorted(numbers):
        if split != "all" and not first <= mapping.get(number, -1) <= last:
            continue
        attributes, problem = labelled.get(number, (None, None))
        parsing = (
            partial(read_parsing, merged / f"{number}.png") if merged else partial(_merge, parts, number)
        )
        yield Sample(
            id=f"celebamask-{number}",
            source="celebamask",
            image=images / f"{number}.jpg",
            parsing=parsing,
            attributes=attributes,
            problem=problem,
        )


def _merge(folder: Path, number: int) -> np.ndarray:
    """One mask (h, w) uint8 from the files of its parts; a part without a file is not in the image."""
    mask: np.ndarray | None = None
    for class_id, part in enumerate(PARSING_CLASSES):
        path = folder / str(number // PARTS_A_FOLDER) / f"{number:05d}_{part}.png"
        if class_id == 0 or not path.exists():
            continue
        painted = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if painted is None or (mask is not None and painted.shape != mask.shape):
            raise DataError(f"{path} cannot be read, or is not of the size of the image's other parts.")
        if mask is None:
            mask = np.zeros(painted.shape, np.uint8)
        mask[painted > 0] = class_id
    if mask is None:
        raise DataError(f"Image {number} has no masks: looked for {number:05d}_<part>.png in {folder}.")
    return mask


def _mapping(root: str | Path, *, needed: bool) -> Mapping[int, int]:
    """Number in CelebAMask-HQ -> number of the file in CelebA."""
    name = "CelebA-HQ-to-CelebA-mapping.txt"
    path = find(root, "CelebAMask-HQ's mapping to CelebA", name) if needed else find_any(root, name)
    if path is None:
        return {}
    mapping = {}
    for where, words in read_lines(path):
        if words[0].isdecimal():  # the others are the header
            index, _, file = counted(words, ("idx", "orig_idx", "orig_file"), where)
            mapping[int(index)] = whole_number(Path(file).stem, where)
    return mapping


def _attributes(root: str | Path) -> dict[int, tuple[np.ndarray, str | None]]:
    """Number in CelebAMask-HQ -> attributes (40,) bool, and what is wrong with them."""
    path = find_any(root, "CelebAMask-HQ-attribute-anno.txt")
    if path is None:
        return {}
    attributes = {}
    for where, (name, *words) in read_lines(path):
        if name.endswith(".jpg"):  # the others are the header
            number = whole_number(Path(name).stem, where)
            attributes[number] = read_or_tell(signs, words, where, otherwise=NO_SIGNS)
    return attributes
