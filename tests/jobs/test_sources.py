"""Sources become plans: the same images in the same shards, whatever they come from."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from faceum.errors import DataError, OutputError
from faceum.jobs import sources
from faceum.jobs.folder import BatchFolder
from faceum.jobs.plan import read_shard, write_plan
from faceum.jobs.sources import Container, list_source, read_lines


def listed(source: object, **more: object) -> list[str | Container]:
    """What a source holds, in order, with single images as their paths."""
    found: list[str | Container] = []
    for one in list_source(str(source), **more):
        found += [one] if isinstance(one, Container) else [os.fsdecode(path) for path in one]
    return found


def test_folders_globs_and_lists_name_the_same_images(folder: Path, tmp_path: Path) -> None:
    images = [str(folder / f"{n % 2}" / f"{n:02d}.png") for n in (*range(0, 12, 2), *range(1, 12, 2))]
    (folder / ".hidden.png").write_bytes(b"")
    assert listed(folder) == images
    assert listed(folder / "**" / "*.png") == images
    assert listed(folder / "1" / "0?.png") == images[6:11]
    assert listed(folder, leave_out=folder / "1") == images[:6]
    (tmp_path / "list.txt").write_text("\n".join(images) + "\r\n\n")
    assert listed(tmp_path / "list.txt") == images


def test_a_list_from_standard_input_may_be_split_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [b"/a b.png", "/ü.jpg".encode(), b"/\xff.png", b"/last.webp"]
    for separator in (b"\n", b"\0"):
        for block in (1, 3, 1000):
            monkeypatch.setattr(sources, "BLOCK", max(block, 9))
            lines = [line for some in read_lines(io.BytesIO(separator.join(names))) for line in some]
            assert lines == names


def test_containers_are_found_by_their_suffix(tar: Path, parquet: Path, tmp_path: Path) -> None:
    table = [Container(os.fsencode(parquet), group, rows) for group, rows in enumerate((3, 3, 1))]
    assert listed(parquet) == table
    assert listed(tar) == [Container(os.fsencode(tar))] == listed(tmp_path / "*.tar")
    (tmp_path / "mixed.list").write_text(f"one.png\n{tar}\n{parquet}\n/two.png\n")
    mixed = [os.path.join(os.getcwd(), "one.png"), Container(os.fsencode(tar)), *table, "/two.png"]
    assert listed(tmp_path / "mixed.list") == mixed


def test_parquet_columns_of_paths_start_at_the_file(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "paths.parquet"
    pq.write_table(pa.table({"n": [1, 2, 3], "file_name": ["a.png", "/b.png", "s3://c/d.png"]}), path)
    assert listed(path) == [f"{tmp_path}/a.png", "/b.png", "s3://c/d.png"]
    with pytest.raises(DataError, match="no column 'x'; it has n, file_name"):
        listed(path, column="x")
    with pytest.raises(DataError, match="holds int64, expected images or paths"):
        listed(path, column="n")


@pytest.mark.parametrize("source", ["missing", "missing/*.png", "missing.txt", "nothing.parquet"])
def test_a_source_that_is_not_there_is_one_sentence(source: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"does not exist|cannot be read|No file matches"):
        listed(tmp_path / source)


def test_plans_are_deterministic_and_read_by_shard(folder: Path, parquet: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        size = write_plan(tmp_path / name, "x", [*list_source(str(folder)), *list_source(str(parquet))], 5)
    assert (size.shards, size.images) == (5, 19)
    plans = [[read_shard(BatchFolder(tmp_path / name), n) for n in range(5)] for name in ("a", "b")]
    assert plans[0] == plans[1]
    assert [len(shard) for shard in plans[0]] == [5, 5, 2, 2, 1]  # 12 images, then row groups of 3 + 3 and 1


def test_the_first_of_two_plans_stays(folder: Path, tmp_path: Path) -> None:
    write_plan(tmp_path, "x", list_source(str(folder)), 5)
    assert write_plan(tmp_path, "x", list_source(str(folder)), 5).shards == 3
    with pytest.raises(DataError, match="is a plan of x"):
        write_plan(tmp_path, "y", list_source(str(folder)), 5)
    assert not list(tmp_path.glob(".plan-*"))


def test_an_empty_source_and_an_unusable_folder_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no image"):
        write_plan(tmp_path / "out", "x", list_source(str(tmp_path / "empty")), 5)
    assert not list((tmp_path / "out").glob("*"))
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="a file is in the way"):
        write_plan(tmp_path / "file", "x", [[b"a.png"]], 5)
