"""Read the text files of data sets: lists of words and CSV tables, in any common encoding, row by row.

Every reader gets its lines from `read_text_lines`, so that byte-order marks, UTF-16, CRLF and overlong lines
are treated alike. One line is one row: a stray quotation mark cannot swallow the rows after it.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from faceum.errors import DataError, count_noun
from faceum.image.header import IMAGE_SUFFIXES

LONGEST_LINE = 1 << 16
"""Characters of a line that are read; of a longer line only the first CUT are kept."""
CUT = 1000

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_IMAGE_NAME = re.compile(
    rf"\s*(.*?(?:{'|'.join(re.escape(suffix) for suffix in IMAGE_SUFFIXES)}))(?=[\s,]|$)", re.IGNORECASE
)


def read_text_lines(path: Path) -> Iterator[tuple[str, str]]:
    """Yield "FILE, line N" and the line for every line that is not blank.

    The encoding is UTF-8, or UTF-16 or UTF-32 if the first bytes say so. Raises DataError if the file cannot
    be opened or read.
    """
    try:
        with path.open(encoding=_encoding_of(path), errors="replace") as file:
            number = 0
            while line := file.readline(LONGEST_LINE):
                number += 1
                if len(line) == LONGEST_LINE and not line.endswith("\n"):
                    line = line[:CUT]
                    while (rest := file.readline(LONGEST_LINE)) and not rest.endswith("\n"):
                        pass
                if line.strip("\0 \t\r\n\f\v,"):
                    yield f"{path}, line {number}", line.replace("\0", "").strip("\r\n")
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror or error}).") from error


def read_lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield "FILE, line N" and the words of every line that is not blank; commas separate like spaces."""
    for where, line in read_text_lines(path):
        yield where, line.replace(",", " ").split()


def read_named_lines(path: Path, *, header: bool = True) -> Iterator[tuple[str, str | None, list[str]]]:
    """Yield "FILE, line N", an image name and the words after it, for every row of a list.

    The name may contain spaces; it ends with the first suffix of an image. It is None in a row without one.
    header: the first two lines may be the number of rows and the names of the columns, which are left out.
    """
    for number, (where, line) in enumerate(read_text_lines(path)):
        name = _IMAGE_NAME.match(line)
        words = line[name.end() if name else 0 :].replace(",", " ").split()
        is_header = name is None and (len(words) == 1 or not words[0].isdecimal())
        if not (header and number < 2 and is_header):
            yield where, name and name[1], words


def read_columns(path: Path) -> Iterator[tuple[str, list[str]]]:
    """Yield "FILE, line N" and the columns of every row of a CSV file that is not empty."""
    for where, line in read_text_lines(path):
        (columns,) = csv.reader([line], skipinitialspace=True)
        yield where, columns


def read_csv(path: Path, needed: Iterable[str]) -> Iterator[tuple[str, dict[str, str], str | None]]:
    """Yield "FILE, line N", column -> word, and what is wrong or None, for every row below the header.

    A row without a needed column has "" there, and a message without a full stop for `Sample.problem`; so has
    a row with more columns than the header, unless they are empty. Raises DataError if the header lacks a
    needed column.
    """
    needed = sorted(needed)
    rows = read_columns(path)
    _, header = next(rows, ("", []))
    header = [name.strip() for name in header]
    missing = [name for name in needed if name not in header]
    if missing:
        raise DataError(f"{path} has no column {', '.join(missing)}; is it the set's own table?")
    for where, columns in rows:
        row = dict(zip(header, columns, strict=False))
        missing = [name for name in needed if name not in row]
        problem = None
        if missing:
            problem = (
                f"{where} ends before its column {', '.join(missing)}: "
                f"got {count_noun(len(columns), 'column')}, expected {len(header)}"
            )
        elif any(word.strip() for word in columns[len(header) :]):
            problem = (
                f"{where} has {count_noun(len(columns), 'column')}; expected {len(header)}, as in the header"
            )
        yield where, row | dict.fromkeys(missing, ""), problem


def _encoding_of(path: Path) -> str:
    """Return the encoding by the first bytes: a byte-order mark, or the zeros of UTF-16 in Latin letters."""
    with path.open("rb") as file:
        start = file.read(4)
    for mark, encoding in _BYTE_ORDER_MARKS:
        if start.startswith(mark):
            return encoding
    if len(start) == 4 and start[1] == start[3] == 0 and start[0] and start[2]:
        return "utf-16-le"
    if len(start) == 4 and start[0] == start[2] == 0 and start[1] and start[3]:
        return "utf-16-be"
    return "utf-8"
