"""A written file is whole or absent."""

import hashlib

import pytest

from faceum.files import sha256_of, whole_file, write_bytes


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    target = tmp_path / "deep" / "x.bin"
    write_bytes(target, b"old")
    with pytest.raises(RuntimeError), whole_file(target) as beside:
        beside.write_bytes(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert [path.name for path in target.parent.iterdir()] == ["x.bin"]


def test_a_write_replaces_the_file_and_keeps_the_suffix_for_encoders(tmp_path):
    target = tmp_path / "x.png"
    write_bytes(target, b"old")
    with whole_file(target) as beside:
        assert beside.suffix == ".png" and beside.parent == tmp_path
        beside.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    (tmp_path / "plain").touch()
    assert target.stat().st_mode == (tmp_path / "plain").stat().st_mode  # readable as any new file


def test_sha256(tmp_path):
    data = bytes(range(256)) * 9000  # more than one block
    (tmp_path / "x").write_bytes(data)
    assert sha256_of(tmp_path / "x") == hashlib.sha256(data).hexdigest()
