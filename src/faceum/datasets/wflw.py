"""Read WFLW: 68 of its 98 landmarks per face."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from faceum.data.sample import Sample
from faceum.datasets.tables import choose, find, parse_numbers, value_or_problem
from faceum.datasets.text import read_text_lines
from faceum.errors import DataError, count_noun
from faceum.image.header import is_image_name

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
"""For each of iBUG's 68 points its number among the 98: every second of the jaw, the upper edge of the
brows, all of nose and mouth, the eyes without their upper and lower middle; no pupils."""
NUMBERS = 98 * 2 + 4 + len(SUBSETS)
"""Numbers in a line before the image's name: points, box, attributes."""


def read_wflw(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Yield the faces of WFLW.

    root has WFLW_images, and list_98pt_rect_attr_{train,test}.txt in WFLW_annotations. iBUG's two points per
    lid lie a little nearer to the corners than WFLW's, so the eyes fit roughly. A line that cannot be read
    has a problem in every split of its list, since its attributes are not known.
    """
    part, subset = choose(split, SPLITS, "WFLW")
    name = f"list_98pt_rect_attr_train_test/list_98pt_rect_attr_{part}.txt"
    path = find(root, "WFLW's list", f"WFLW_annotations/{name}", name)
    images = find(root, "WFLW's folder of images", "WFLW_images")
    for number, (where, line) in enumerate(read_text_lines(path)):
        words = line.split(maxsplit=NUMBERS)
        values, problem = value_or_problem(_numbers, words, where, default=None)
        if values is not None and subset is not None and values[200 + subset] != 1:
            continue
        yield Sample(
            id=f"wflw-{part}-{number:05d}",
            source="wflw",
            image=images / words[-1].strip(),
            box=None if values is None else values[196:200],
            landmarks68=np.zeros((0, 2)) if values is None else values[:196].reshape(98, 2)[list(TO_68)],
            problem=problem,
        )


def _numbers(words: list[str], where: str) -> np.ndarray:
    """Return the numbers (206,) of a line; the last word is the image's name, which may contain spaces."""
    if len(words) != NUMBERS + 1:
        raise DataError(
            f"{where} has {count_noun(len(words), 'word')}; expected {NUMBERS} numbers and a name."
        )
    if not is_image_name(words[-1].strip()):
        raise DataError(f"{where} does not end with the name of an image.")
    return parse_numbers(words[:-1], where)
