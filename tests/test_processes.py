"""Forked processes go on or say why they cannot, and daemon threads do not abort the interpreter's end."""

from __future__ import annotations

import os
import subprocess
import sys
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


def run(code: str, *words: Path | str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process of its own, which must end."""
    command = [sys.executable, "-c", code, *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}  # else torch would take one thread
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)


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
