"""Read CelebAMask-HQ: a parsing per face, from one file per part or from merged files."""

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
    find,
    find_any,
    parse_signs,
    parse_whole_number,
    read_parsing,
    require_one_per_name,
    value_or_problem,
)
from faceum.datasets.text import read_lines, read_named_lines
from faceum.errors import DataError
from faceum.image.header import is_image_name
from faceum.tasks import PARSING_CLASSES

SPLITS = {"train": (1, 162_770), "val": (162_771, 182_637), "test": (182_638, 202_599), "all": (0, 1 << 30)}
"""First and last CelebA file number of each split; CelebAMask-HQ inherits CelebA's."""
PARTS_A_FOLDER = 2000


def read_celebamask(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Yield the faces of CelebAMask-HQ.

    root contains CelebA-HQ-img/<n>.jpg, CelebA-HQ-to-CelebA-mapping.txt (not needed for "all"), the masks
    either merged (mask/<n>.png, class ids in our order) or as one file per part
    (CelebAMask-HQ-mask-anno/<0-14>/ <00000>_<part>.png), and perhaps CelebAMask-HQ-attribute-anno.txt. Parts
    are painted in the order of their ids, so hair covers skin and a hat covers hair, as in the set's own
    script.
    """
    first, last = choose(split, SPLITS, "CelebAMask-HQ")
    images = find(root, "CelebAMask-HQ's folder of images", "CelebA-HQ-img")
    merged = find_any(root, "mask", "CelebAMaskHQ-mask", "masks")
    parts = merged or find(root, "CelebAMask-HQ's masks", "CelebAMask-HQ-mask-anno", "mask")
    mapping = _mapping(root, needed=split != "all")
    labelled = _attributes(root)
    files = {
        int(path.stem): path
        for path in sorted(images.iterdir())
        if is_image_name(path) and path.stem.isdecimal()
    }
    for number in sorted({*files, *labelled, *mapping}):
        attributes, problem = labelled.get(number, (None, None))
        original = mapping.get(number)
        if split != "all" and original is None:  # it is in every split, so that it is not lost
            problem = f"{number} is not in CelebAMask-HQ's mapping to CelebA"
        elif split != "all" and not first <= mapping[number] <= last:
            continue
        if number not in files:
            problem = f"{number} of CelebAMask-HQ has no image: looked for {images / f'{number}.jpg'}"
        parsing = partial(_merge, parts, number)
        if merged:
            parsing = partial(read_parsing, merged / f"{number}.png")
        yield Sample(
            id=f"celebamask-{number}",
            source="celebamask",
            image=files.get(number, images / f"{number}.jpg"),
            parsing=parsing,
            attributes=attributes,
            problem=problem,
        )


def _merge(folder: Path, number: int) -> np.ndarray:
    """Merge the files of an image's parts into class ids (h, w) uint8; a part without a file is not in it."""
    classes: np.ndarray | None = None
    for class_id, part in enumerate(PARSING_CLASSES):
        path = folder / str(number // PARTS_A_FOLDER) / f"{number:05d}_{part}.png"
        if class_id == 0 or not path.exists():
            continue
        painted = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        if painted is None or (classes is not None and painted.shape != classes.shape):
            raise DataError(f"{path} cannot be read, or has another size than the image's other parts.")
        if classes is None:
            classes = np.zeros(painted.shape, np.uint8)
        classes[painted > 0] = class_id
    if classes is None:
        raise DataError(f"Image {number} has no masks: looked for {number:05d}_<part>.png in {folder}.")
    return classes


def _mapping(root: str | Path, *, needed: bool) -> Mapping[int, int]:
    """Read the number of the file in CelebA for each number in CelebAMask-HQ."""
    name = "CelebA-HQ-to-CelebA-mapping.txt"
    path = find(root, "CelebAMask-HQ's mapping to CelebA", name) if needed else find_any(root, name)
    if path is None:
        return {}
    mapping = {}
    for where, words in read_lines(path):
        if words[0] != "idx":  # the header
            index, _, file = require_one_per_name(words, ("idx", "orig_idx", "orig_file"), where)
            mapping[parse_whole_number(index, where)] = parse_whole_number(Path(file).stem, where)
    return mapping


def _attributes(root: str | Path) -> dict[int, tuple[np.ndarray, str | None]]:
    """Read the attributes (40,) bool of each number in CelebAMask-HQ, and what is wrong with them."""
    path = find_any(root, "CelebAMask-HQ-attribute-anno.txt")
    if path is None:
        return {}
    attributes = {}
    for where, name, words in read_named_lines(path):
        if name is not None:
            number = parse_whole_number(Path(name).stem, where)
            attributes[number] = value_or_problem(parse_signs, words, where, default=NO_SIGNS)
    return attributes
