"""Forked processes go on or say why they cannot, and daemon threads do not abort the interpreter's end."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

FORK = """
import os, sys
from faceum import FaceAnalyzer
from faceum.errors import ModelError
model, runtime, image = sys.argv[1:]
analyzer = FaceAnalyzer(model, runtime=runtime, threads=2, tasks=["age"])
(face,) = analyzer.analyze(image)
child = os.fork()
if not child:
    try:
        (again,) = analyzer.analyze(image)
        print("same" if again == face else "different", flush=True)
    except ModelError as error:
        print(error, flush=True)
    sys.exit(0)  # the interpreter's end must not wait for the parent's threads, either
print("child", os.waitpid(child, 0)[1])
"""

DAEMONS = """
import sys, threading
from faceum import FaceAnalyzer
analyzer = FaceAnalyzer(threads=2)
seen = threading.Semaphore(0)
def work():
    while True:
        analyzer.analyze(sys.argv[1])
        seen.release()
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
for _ in range(4):
    seen.acquire()
"""


SPAWN = """
import multiprocessing, sys
from faceum import FaceAnalyzer

class Photos:
    def __init__(self, analyzer, image):
        self.analyzer, self.image = analyzer, image
    def __len__(self):
        return 2
    def __getitem__(self, number):
        return self.analyzer.analyze(self.image)[0].age.years

def ages(photos):
    return [photos[number] for number in range(len(photos))]

if __name__ == "__main__":
    photos = Photos(FaceAnalyzer(sys.argv[1], threads=1, tasks=["age"]), sys.argv[2])
    expected = ages(photos)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(ages, [photos]) == [expected]
    if sys.argv[3] == "torch":
        from torch.utils.data import DataLoader
        for context in ("spawn", "fork"):
            loader = DataLoader(photos, batch_size=None, num_workers=1, multiprocessing_context=context)
            assert list(loader) == expected, context
    print("same")
"""


def run(code: str | Path, *words: Path | str) -> subprocess.CompletedProcess[str]:
    """Run Python, given as code or as a file, in a process of its own, which must end."""
    program = [str(code)] if isinstance(code, Path) else ["-c", code]
    command = [sys.executable, *program, *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}  # else torch would take one thread
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


def test_spawned_processes_and_data_loaders_get_an_analyzer(tmp_path: Path, portrait_path: Path) -> None:
    torch = "torch" if find_spec("torch") and hasattr(os, "fork") else ""
    (tmp_path / "script.py").write_text(SPAWN)  # a spawned process reads the script again
    done = run(tmp_path / "script.py", "compact", portrait_path, torch)
    assert (done.returncode, done.stdout) == (0, "same\n"), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_has_sessions_of_its_own(portrait_path: Path) -> None:
    done = run(FORK, "compact", "onnxruntime", portrait_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n") == ["same", "child 0", ""]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_torch_says_why_it_cannot_go_on_after_a_fork(portrait_path: Path, tiny_weights: Path) -> None:
    done = run(FORK, tiny_weights, "torch", portrait_path)
    assert done.returncode == 0, done.stderr
    assert "torch cannot run with 2 threads in a forked process" in done.stdout
    assert done.stdout.endswith("child 0\n")


def test_daemon_threads_that_analyze_do_not_abort_the_end(portrait_path: Path) -> None:
    done = run(DAEMONS, portrait_path)
    assert (done.returncode, done.stderr) == (0, "")
