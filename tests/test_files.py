"""A written file is whole or absent, and what cannot be written is one sentence."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from faceum import files
from faceum.errors import FaceumError, OutputError
from faceum.files import check_folder, sha256_of, whole_file, write_bytes, write_text


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "deep" / "x.bin"
    write_bytes(target, b"old")
    with pytest.raises(RuntimeError), whole_file(target) as unfinished:
        unfinished.write_bytes(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert [path.name for path in target.parent.iterdir()] == ["x.bin"]


def test_write_replaces_file_and_keeps_suffix(tmp_path):
    target = tmp_path / "x.png"
    write_bytes(target, b"old")
    with whole_file(target) as unfinished:
        assert unfinished.suffix == ".png" and unfinished.parent == tmp_path and ".part" in unfinished.name
        unfinished.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    (tmp_path / "plain").touch()
    assert target.stat().st_mode == (tmp_path / "plain").stat().st_mode  # readable as any new file
    with whole_file(target, ending=".part") as unfinished:
        assert unfinished.suffix == ".part" and unfinished.name.count(".part") == 1
        unfinished.write_bytes(b"newer")
    assert target.read_bytes() == b"newer"


WRITER = """
import sys, time
from faceum.files import whole_file
with whole_file(sys.argv[1]) as unfinished:
    unfinished.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(files.fcntl is None, reason="unfinished files are swept by locks, which Windows lacks")
def test_leftovers_of_killed_processes_are_removed(tmp_path, monkeypatch):
    environment = {**os.environ, "PYTHONPATH": str(Path(files.__file__).parents[1])}
    writers = []
    for name in ("killed.bin", "living.bin"):
        command = [sys.executable, "-c", WRITER, str(tmp_path / name)]
        writers.append(subprocess.Popen(command, stdout=subprocess.PIPE, env=environment))
        assert writers[-1].stdout.readline() == b"writing\n"
    try:
        writers[0].send_signal(signal.SIGKILL)
        writers[0].wait()
        foreign = tmp_path / ".mine-12345678.partial"
        foreign.touch()
        assert len(list(tmp_path.glob(".*.part.bin"))) == 2
        monkeypatch.setattr(files, "_SWEPT", set())
        write_bytes(tmp_path / "new.bin", b"new")
        (left,) = tmp_path.glob(".*.part.bin")
        assert left.name.startswith(".living-")
        assert foreign.exists()
    finally:
        writers[1].kill()
        for writer in writers:
            writer.wait()
            writer.stdout.close()


def test_write_failure_raises_output_error(tmp_path):
    (tmp_path / "folder.bin").mkdir()
    (tmp_path / "file").touch()
    for path, reason in [
        (tmp_path / ("x" * 300), "too long"),
        (tmp_path / ("x." + "y" * 250), "too long"),
        (tmp_path / "folder.bin", "folder of that name"),
        (tmp_path / "file" / "x.bin", "in the way of its folder"),
        (tmp_path / "a\0b", "null"),
    ]:
        with pytest.raises(OutputError, match=reason) as caught:
            write_text(path, "text")
        assert isinstance(caught.value, FaceumError) and isinstance(caught.value, OSError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.bin"]


def test_full_disk_raises_output_error(tmp_path):
    target = tmp_path / "x.bin"
    with pytest.raises(OutputError, match="disk is full"), whole_file(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(FileNotFoundError), whole_file(target):
        (tmp_path / "none").read_bytes()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_disk_that_is_really_full(tmp_path):
    with pytest.raises(OutputError, match="disk is full"), whole_file(tmp_path / "x.bin"):
        with open("/dev/full", "wb") as full:
            full.write(b"x" * 100_000)


def test_output_folder_is_tried(tmp_path):
    (tmp_path / "file").touch()
    for folder, reason in [
        (tmp_path / "file", "it is a file"),
        (tmp_path / "file" / "below", "a file is in the way of its folder"),
        (tmp_path / ("x" * 300), "its name is too long"),
        (tmp_path / "a\0b", "null"),
    ]:
        with pytest.raises(OutputError, match=f"cannot be used as the output folder: .*{reason}") as caught:
            check_folder(folder)
        assert str(folder) in str(caught.value) and "trial" not in str(caught.value)
    check_folder(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_sha256(tmp_path):
    data = bytes(range(256)) * 9000  # more than one block
    (tmp_path / "x").write_bytes(data)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(data).hexdigest()
