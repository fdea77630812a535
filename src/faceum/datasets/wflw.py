"""The folder of WFLW -> samples with 68 of its 98 landmarks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from faceum.data.sample import Sample
from faceum.datasets.tables import choose, find, numbers, read_lines, read_or_tell
from faceum.errors import DataError

SUBSETS = ("pose", "expression", "illumination", "make-up", "occlusion", "blur")
"""WFLW's six attributes, in the order of its lists; the test faces that have one are a split of their own."""
SPLITS: dict[str, tuple[str, int | None]] = {
    "train": ("train", None),
    "test": ("test", None),
    **{f"test-{name}": ("test", place) for place, name in enumerate(SUBSETS)},
}
TO_68 = (
    *range(0, 33, 2), *range(33, 38), *range(42, 47), *range(51, 60),
    60, 61, 63, 64, 65, 67, 68, 69, 71, 72, 73, 75, *range(76, 96),
)  # fmt: skip
"""For each of iBUG's 68 points its number among the 98: every second of the jaw, the upper edge of the brows,
nose and mouth whole, the eyes without their upper and lower middle; pupils have no place."""
NUMBERS = 98 * 2 + 4 + len(SUBSETS)
"""In a line before the image's name: points, box, attributes."""


def read_wflw(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Faces of WFLW: root holds WFLW_images and WFLW_annotations with list_98pt_rect_attr_{train,test}.txt.

    The two points a lid of iBUG lie a little nearer the corners than WFLW's, so the eyes fit roughly. A line
    that cannot be read has a problem in every split of its list, for its attributes are not known, either.
    """
    part, subset = choose(split, SPLITS, "WFLW")
    listing = f"list_98pt_rect_attr_train_test/list_98pt_rect_attr_{part}.txt"
    path = find(root, "WFLW's list", f"WFLW_annotations/{listing}", listing)
    images = find(root, "WFLW's folder of images", "WFLW_images")
    for number, (where, words) in enumerate(read_lines(path)):
        values, problem = read_or_tell(_numbers, words, where, otherwise=None)
        if values is not None and subset is not None and values[200 + subset] != 1:
            continue
        yield Sample(
            id=f"wflw-{part}-{number:05d}",
            source="wflw",
            image=images / words[-1],
            box=None if values is None else values[196:200],
            landmarks68=np.zeros((0, 2)) if values is None else values[:196].reshape(98, 2)[list(TO_68)],
            problem=problem,
        )


def _numbers(words: list[str], where: str) -> np.ndarray:
    if len(words) != NUMBERS + 1:
        raise DataError(f"{where} has {len(words)} words; WFLW's lines have {NUMBERS + 1}.")
    return numbers(words[:-1], where)
