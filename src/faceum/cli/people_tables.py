"""Verdicts as text for a terminal: comparisons of faces and searches in a gallery."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from faceum.errors import count_noun
from faceum.match import Match
from faceum.people.records import Search

SAME = {True: Text("same", style="green"), False: Text("different", style="yellow")}
"""How a verdict looks."""


def search_table(search: Search, number: int) -> RenderableType:
    """Return a table of one face: who it is, and the nearest people; number: 1 for the largest face."""
    head = Text(f"face {number}: ")
    known = any(one.same for one in search.candidates)
    head.append(search.name, style="bold green" if known else "bold yellow")
    table = Table(box=box.SIMPLE)
    for column in ("person", "cosine", "verdict"):
        table.add_column(column)
    for one in search.candidates:
        table.add_row(Text(one.name), f"{one.cosine:.3f}", SAME[one.same])
    return Group(head, table)


def search_basis(search: Search) -> str:
    """Return a sentence that says what a search's threshold rests on."""
    if not search.samples:
        return "The gallery is empty; enroll somebody first."
    size = f"{count_noun(search.people, 'person', 'people')}, {count_noun(search.samples, 'sample')}"
    if search.threshold is None:
        return f"{size}; without measured thresholds nobody is recognized: run `faceum calibrate`."
    extrapolated = "" if search.measured else ", extrapolated"
    return (
        f"{size}: so that {search.fmr:.2%} of strangers are taken for somebody, a pair is judged at a false "
        f"match rate of 1 in {1 / search.pair_fmr:,.0f}, cosine {search.threshold:.3f}{extrapolated}."
    )


def match_table(matches: Sequence[tuple[int, int, Match]]) -> RenderableType:
    """Return a table with a row for each pair of a face of one image and a face of the other.

    matches: the faces by their places, from 0; the table counts them from 1.
    """
    table = Table(box=box.SIMPLE)
    for column in ("A", "B", "cosine", "threshold", "verdict"):
        table.add_column(column)
    for first, second, match in matches:
        cosine, threshold = f"{match.cosine:.3f}", f"{match.threshold:.3f}"
        table.add_row(f"face {first + 1}", f"face {second + 1}", cosine, threshold, SAME[match.same])
    return table
