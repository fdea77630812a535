"""Reads that fail: what is tried again, how long is waited, and what is given up at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from faceum import stores
from faceum.stores import is_url, waits, with_retries


def failing(times: int, error: Exception) -> Callable[[], str]:
    """A call that fails so many times."""
    left = [error] * times

    def call() -> str:
        if left:
            raise left.pop()
        return "read"

    return call


def test_a_read_is_tried_again_after_growing_waits() -> None:
    waited: list[float] = []
    assert with_retries(failing(stores.ATTEMPTS - 1, OSError(5, "cut")), sleep=waited.append) == "read"
    assert len(waited) == stores.ATTEMPTS - 1
    with pytest.raises(TimeoutError):
        with_retries(failing(stores.ATTEMPTS, TimeoutError("slow")), sleep=lambda _: None)
    limits = [min(stores.LONGEST_WAIT, stores.FIRST_WAIT * 2**n) for n in range(stores.ATTEMPTS - 1)]
    drawn = [list(waits()) for _ in range(100)]
    assert all(0 <= wait <= limit for row in drawn for wait, limit in zip(row, limits, strict=True))
    assert len({tuple(row) for row in drawn}) == 100, "waits are random, so that workers do not come at once"


def test_what_is_not_there_is_not_tried_again() -> None:
    with pytest.raises(FileNotFoundError):
        with_retries(failing(1, FileNotFoundError(2, "gone")), sleep=lambda _: pytest.fail("waited"))


def test_urls_are_distinguished_from_paths() -> None:
    assert is_url("s3://a/b.png") and is_url("hf://datasets/a") and is_url("simplecache::s3://a")
    assert not is_url("/a/b.png") and not is_url("a:b/c.png") and not is_url("C:/a.png")
