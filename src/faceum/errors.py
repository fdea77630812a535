"""Define the package's errors, whose message is one sentence: what is wrong, expected, and to be done."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FaceumError(ValueError):
    """Something that a user gave cannot be used; the message is one sentence that can be shown as it is."""


class ImageError(FaceumError):
    """An image cannot be read, or has a form that is not supported."""


class ModelError(FaceumError):
    """A model name, file or request does not fit: unknown name, wrong hash, wrong task, wrong crop size."""


class DataError(FaceumError):
    """A data set's folder, file or label is missing, broken or out of range."""


class GalleryError(FaceumError):
    """A gallery of people cannot be opened, or what is asked of it does not fit what it holds."""


class OutputError(FaceumError, OSError):
    """A file cannot be written: its name is too long, a folder is in the way, the disk is full."""


class RecipeError(FaceumError):
    """A recipe or one of its keys cannot be used."""


def unknown_name(name: str, what: str, names: Iterable[str]) -> str:
    """Return the sentence for a name that is not among `names`: the nearest one, then all of them."""
    known = list(names)
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"There is no {what} {name!r}; {hint}known: {join_names(known)}."


def count_noun(number: int, one: str, more: str = "") -> str:
    """Return a number with its noun, such as "1 face" or "1,200 faces"; more: an irregular plural."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"


def join_names(names: Iterable[str]) -> str:
    """Return the names with commas, or "none"."""
    return ", ".join(names) or "none"
