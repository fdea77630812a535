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


def test_a_folder_that_cannot_be_listed_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem
    store = memory()
    for name in ("b.png", "a/1.png", "a/.hidden", "a/deep/2.png", ".none/3.png", "c/4.png"):
        store.pipe_file(f"/lake/{name}", b"data")
    listed, left = memory.ls, {"/lake/a": 2}

    def failing_list(self: object, path: str, **more: object) -> object:
        if left.get(path):
            left[path] -= 1
            raise OSError(5, "Slow Down")
        return listed(self, path, **more)

    monkeypatch.setattr(memory, "ls", failing_list)
    monkeypatch.setattr(stores, "FIRST_WAIT", 0.001)
    expected = [f"memory:///lake/{name}" for name in ("b.png", "a/1.png", "a/deep/2.png", "c/4.png")]
    try:
        assert list(stores.files_below("memory://lake")) == expected and left == {"/lake/a": 0}
        left["/lake/a/deep"] = stores.ATTEMPTS
        with pytest.raises(OSError, match="Slow Down"):
            list(stores.files_below("memory://lake"))
    finally:
        store.rm("/lake", recursive=True)


def test_urls_are_distinguished_from_paths() -> None:
    assert is_url("s3://a/b.png") and is_url("hf://datasets/a") and is_url("simplecache::s3://a")
    assert not is_url("/a/b.png") and not is_url("a:b/c.png") and not is_url("C:/a.png")
