"""The words of messages: numbers with their nouns, and the nearest known name."""

from __future__ import annotations

import pytest

from faceum.errors import count_noun, unknown_name


@pytest.mark.parametrize(
    ("number", "words", "expected"),
    [
        (0, ("face",), "0 faces"),
        (1, ("face",), "1 face"),
        (1200, ("face",), "1,200 faces"),
        (1, ("person", "people"), "1 person"),
        (2, ("person", "people"), "2 people"),
    ],
)
def test_count_noun(number: int, words: tuple[str, ...], expected: str) -> None:
    assert count_noun(number, *words) == expected


def test_unknown_name_tells_the_nearest() -> None:
    sentence = unknown_name("agee", "task", ["age", "parsing"])
    assert "'agee'" in sentence and "mean 'age'" in sentence and "age, parsing" in sentence
