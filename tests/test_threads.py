"""Thread counts respect what the machine grants."""

import os
import subprocess
import sys

import pytest

from faceum.errors import ModelError
from faceum.threads import usable_threads


def test_given_number_counts():
    assert usable_threads(3) == 3


def test_number_below_one_gives_a_sentence():
    with pytest.raises(ModelError, match="at least 1"):
        usable_threads(0)


@pytest.mark.parametrize(
    ("text", "granted"),
    [("50000 100000", 1), ("100000 100000", 1), ("250000 100000", 3), ("max 100000", None)],
)
def test_quota_of_cgroup_2_is_respected(tmp_path, monkeypatch, text, granted):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert usable_threads(cgroup_root=str(tmp_path)) == (granted or 64)


@pytest.mark.parametrize(
    ("own", "limits", "granted"),
    [
        ("0::/pod/box\n", {"pod": "800000 100000", "pod/box": "200000 100000"}, 2),
        ("0::/pod/box\n", {"pod": "300000 100000", "pod/box": "max 100000"}, 3),
        ("0::/pod/box\n", {"": "100000 100000", "pod": "300000 100000", "pod/box": "500000 100000"}, 1),
        ("0::/pod/box\n", {"pod/other": "100000 100000"}, None),
        ("4:cpu:/pod\n0::/box of mine\n", {"pod": "100000 100000", "box of mine": "500000 100000"}, 5),
        ("0::/../elsewhere\n", {"": "400000 100000", "elsewhere": "100000 100000"}, 4),
        ("0::/\n", {"": "600000 100000"}, 6),
        ("", {"": "600000 100000"}, 6),
    ],
)
def test_tightest_quota_from_the_own_cgroup_upward_counts(tmp_path, monkeypatch, own, limits, granted):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    root = tmp_path / "cgroup"
    for folder in ("pod/box", "pod/other", "box of mine", "elsewhere"):
        (root / folder).mkdir(parents=True)
    for folder, text in limits.items():
        (root / folder / "cpu.max").write_text(text + "\n")
    (tmp_path / "own").write_text(own)
    assert usable_threads(cgroup_root=str(root), own_cgroups=str(tmp_path / "own")) == (granted or 64)


def test_quota_of_cgroup_1_is_respected(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("400000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_threads(cgroup_root=str(tmp_path)) == 4


def test_affinity_is_respected(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 7}, raising=False)
    assert usable_threads(cgroup_root=str(tmp_path)) == 2


@pytest.mark.parametrize("threads", [5000, 10**30])
def test_absurd_numbers_of_threads_raise(threads):
    with pytest.raises(ModelError, match="expected at most"):
        usable_threads(threads)


@pytest.mark.parametrize("threads", [True, 2.5, "3"])
def test_what_is_no_number_of_threads_raises(threads):
    with pytest.raises(ModelError, match="expected a whole number"):
        usable_threads(threads)


def test_interpreter_waits_for_calls_and_holds_daemon_threads():
    code = """
import threading, time
from faceum.threads import finish_before_exit
entered = threading.Event()
def work():
    while True:
        with finish_before_exit():
            entered.set()
            time.sleep(0.2)
            print("whole", flush=True)
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
entered.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # Calls that had begun have ended, and threads that came later were held.
    assert 1 <= done.stdout.count("whole") <= 6
