"""Thread counts respect what the machine grants."""

import os

import pytest

from faceum.errors import ModelError
from faceum.threads import usable_threads


def test_a_given_number_counts():
    assert usable_threads(3) == 3


def test_a_number_below_one_is_a_sentence():
    with pytest.raises(ModelError, match="at least 1"):
        usable_threads(0)


@pytest.mark.parametrize(
    ("text", "granted"),
    [("50000 100000", 1), ("100000 100000", 1), ("250000 100000", 3), ("max 100000", None)],
)
def test_the_quota_of_cgroup_2_is_respected(tmp_path, monkeypatch, text, granted):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert usable_threads(cgroup_root=str(tmp_path)) == (granted or 64)


def test_the_quota_of_cgroup_1_is_respected(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("400000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_threads(cgroup_root=str(tmp_path)) == 4


def test_affinity_is_respected(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 7}, raising=False)
    assert usable_threads(cgroup_root=str(tmp_path)) == 2
