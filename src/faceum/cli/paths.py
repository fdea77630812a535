"""Turn the paths on a command line into images: files, folders, pipes and lists of paths."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from faceum.errors import ImageError
from faceum.image.header import is_image_name, sniff

STDIN = "-"
"""The path that means standard input."""

LIST_SUFFIXES = (".txt", ".list")
"""A file with one of these suffixes that holds no image is a list of paths."""

MOST_PIPED_BYTES = 2**30
"""More than this is not read from a pipe."""

MOST_LISTED_BYTES = 2**26
"""More than this is not read from a list of paths."""

_ONE = {
    "not images": "not an image",
    "linked folders": "linked folder",
    "unreadable folders": "unreadable folder",
    "neither files nor folders": "neither a file nor a folder",
}
"""Reason to leave files or folders out -> the words for one of them, where they differ."""


@dataclass(frozen=True, kw_only=True)
class ImageList:
    """The images that the paths on a command line name.

    sources: the name to show -> the image's path, or the bytes that came through a pipe; in order, each once.
    left_out: reason -> how many files or folders inside the named folders were left out.
    problems: a sentence for each folder without images and for each list or pipe that cannot be read.
    """

    sources: dict[str, Path | bytes] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def files(self) -> list[Path]:
        """The images that are files."""
        return [source for source in self.sources.values() if isinstance(source, Path)]

    def summary(self) -> str | None:
        """Return a sentence that counts what was left out, or None if nothing was."""
        if not self.left_out:
            return None
        counts = ", ".join(
            f"{count} {_ONE.get(reason, reason) if count == 1 else reason}"
            for reason, count in self.left_out.most_common()
        )
        return f"Left out of the folders: {counts}."


def list_images(paths: Iterable[Path], leave_out: Path | None = None) -> ImageList:
    """Find the images that paths name.

    A file counts as an image whatever its name, even if it does not exist: reading it reports the error. `-`
    is standard input. A pipe holds one image or a list of paths, by its content. A file that ends in one of
    `LIST_SUFFIXES` and holds text is a list of paths, one per line. A folder means all images in it and
    below, sorted by name: files whose content or whose suffix is an image's. Hidden files and linked folders
    are left out and counted.

    leave_out: a folder whose content is left out because results are written there. Raises ImageError if it
    is itself one of the folders to read.
    """
    images = ImageList()
    for path in paths:
        if str(path) == STDIN or _is_pipe(path):
            _add_pipe(path, images, leave_out)
        elif path.suffix.lower() in LIST_SUFFIXES and os.path.isfile(path):
            _add_list(path, images, leave_out)
        else:
            _add(path, images, leave_out)
    return images


def result_name(name: str) -> str:
    """Return the name after which the results of a source are called; standard input has none of its own."""
    return "stdin" if name in (STDIN, "/dev/stdin") else name


def _add(path: Path, images: ImageList, leave_out: Path | None) -> None:
    """Add a file, or the images of a folder."""
    if not os.path.isdir(path):
        images.sources[str(path)] = path
        return
    if leave_out is not None and _are_same(path, leave_out):
        raise ImageError(
            f"The results would be written to {leave_out}, the folder that is read; "
            f"choose another, for example --out {leave_out / 'faceum'}."
        )
    inside = _images_below(path, leave_out, images.left_out)
    if not inside:
        images.problems.append(f"The folder {path} holds no images; name another.")
    images.sources.update({str(image): image for image in inside})


def _add_pipe(path: Path, images: ImageList, leave_out: Path | None) -> None:
    """Add the image that a pipe holds, or the paths that it lists."""
    try:
        if str(path) == STDIN:
            if sys.stdin.isatty():
                images.problems.append("Standard input is a terminal; pipe an image or paths into it.")
                return
            data = sys.stdin.buffer.read(MOST_PIPED_BYTES + 1)
        else:
            with path.open("rb") as pipe:
                data = pipe.read(MOST_PIPED_BYTES + 1)
    except OSError as error:
        images.problems.append(f"{path} cannot be read: {error.strerror or error}.")
        return
    if len(data) > MOST_PIPED_BYTES:
        images.problems.append(f"{path} holds more than {MOST_PIPED_BYTES} bytes; give the image as a file.")
        return
    listed = None if sniff(data) else _parse_listed_paths(data)
    if listed is None:
        images.sources[str(path)] = data
    for one in listed or ():
        _add(one, images, leave_out)


def _add_list(path: Path, images: ImageList, leave_out: Path | None) -> None:
    """Add the paths that a file lists; a file that is no list is added as an image."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_LISTED_BYTES + 1)
    except OSError as error:
        images.problems.append(f"{path} cannot be read: {error.strerror or error}.")
        return
    listed = None if sniff(data) or len(data) > MOST_LISTED_BYTES else _parse_listed_paths(data)
    if listed is None:
        images.sources[str(path)] = path
    for one in listed or ():
        _add(one, images, leave_out)


def _parse_listed_paths(data: bytes) -> list[Path] | None:
    """Return the paths in a text, separated by line breaks or null characters; None if it is no text."""
    data = data.removeprefix(b"\xef\xbb\xbf")
    separator = b"\0" if b"\0" in data else b"\n"
    lines = [line.rstrip(b"\r") for line in data.split(separator)]
    named = [line for line in lines if line.strip()]
    if not named or any(len(line) > 4096 or min(line) < 32 for line in named):
        return None
    return [Path(os.fsdecode(line)) for line in named]


def _images_below(folder: Path, leave_out: Path | None, left_out: Counter[str]) -> list[Path]:
    """Return the images in a folder and below; count what is left out."""
    images = []

    def count_unreadable(_: OSError) -> None:
        left_out["unreadable folders"] += 1

    for place, folders, files in os.walk(folder, onerror=count_unreadable):
        inside = []
        for name in sorted(folders):
            below = Path(place, name)
            if name.startswith("."):
                left_out["hidden"] += 1
            elif below.is_symlink():
                left_out["linked folders"] += 1
            elif leave_out is None or not _are_same(below, leave_out):
                inside.append(name)
        folders[:] = inside
        for name in sorted(files):
            reason = _reason_to_leave_out(Path(place, name))
            if reason is None:
                images.append(Path(place, name))
            else:
                left_out[reason] += 1
    return images


def _reason_to_leave_out(path: Path) -> str | None:
    """Return why a file in a folder is not taken for an image, or None if it is."""
    if path.name.startswith("."):
        return "hidden"
    if is_image_name(path):
        return None
    try:
        if path.exists() and not path.is_file():
            return "neither files nor folders"
        return None if sniff(path) else "not images"
    except OSError:
        return "unreadable"


def _is_pipe(path: Path) -> bool:
    try:
        return path.is_fifo()
    except OSError:  # a folder on the way may not be entered; reading the path reports it
        return False


def _are_same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
