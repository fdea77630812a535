"""Read sets that have one folder per person."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from faceum.data.sample import Sample
from faceum.datasets.tables import find_any, is_in_split, list_folders, list_images
from faceum.errors import DataError


def read_folders(root: str | Path, split: str = "train") -> Iterator[Sample]:
    """Yield the faces of a set with one folder per person: root/<person>/<image>.

    If root has a folder with the name of the split (train, val, test), people are read from there; otherwise
    they go to train, val and test 80:10:10 by a hash of their name.
    """
    source = Path(root).name
    inner = find_any(root, split)
    people = list_folders(inner or Path(root))
    if not any(list_images(person) for person in people[:10]):
        raise DataError(f"No people were found: looked for <person>/<image> in {inner or root}.")
    for person in people:
        if inner or is_in_split(person.name, split, source):
            yield from read_person(person, source)


def read_person(folder: Path, source: str, wears_mask: bool | None = None) -> Iterator[Sample]:
    """Read the images of one person's folder. wears_mask: whether the person wears a face mask in them."""
    kind = {None: "", False: "bare-", True: "masked-"}[wears_mask]
    for path in list_images(folder):
        name = path.relative_to(folder).with_suffix("").as_posix().replace("/", "-")
        yield Sample(
            id=f"{source}-{kind}{folder.name}-{name}",
            source=source,
            image=path,
            identity=folder.name,
            wears_mask=wears_mask,
        )
