"""Nothing is sent and nothing is written unasked: commands run in an empty home with a blocked network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

RECORDER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

static void record(const char *what, const char *name) {
    FILE *file = fopen(getenv("NETWORK_RECORD"), "a");
    if (file) { fprintf(file, "%s %s\n", what, name ? name : ""); fclose(file); }
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **res) {
    record("getaddrinfo", node);
    return EAI_FAIL;
}

struct hostent *gethostbyname(const char *name) { record("gethostbyname", name); return 0; }

static int leaves(const struct sockaddr *address) {
    return address && (address->sa_family == AF_INET || address->sa_family == AF_INET6);
}

int connect(int fd, const struct sockaddr *address, socklen_t length) {
    if (leaves(address)) { record("connect", ""); errno = ENETUNREACH; return -1; }
    int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
    return real(fd, address, length);
}

ssize_t sendto(int fd, const void *data, size_t size, int flags,
               const struct sockaddr *to, socklen_t length) {
    if (leaves(to)) { record("sendto", ""); errno = ENETUNREACH; return -1; }
    ssize_t (*real)(int, const void *, size_t, int, const struct sockaddr *, socklen_t) =
        dlsym(RTLD_NEXT, "sendto");
    return real(fd, data, size, flags, to, length);
}
"""
"""A library that is loaded before all others: it records and refuses name look-ups and connections."""

PYTHON_RECORDER = """
import os, socket

def refuse(what):
    def call(*arguments, **options):
        with open(os.environ["NETWORK_RECORD"], "a") as file:
            file.write(what + chr(10))
        raise OSError("the network is blocked by the test")
    return call

socket.getaddrinfo = refuse("getaddrinfo")
socket.create_connection = refuse("create_connection")
"""
"""The same for Python's own calls, where there is no C compiler."""

COMMANDS = {
    "help": ["--help"],
    "analyze": ["analyze", "astronaut.png", "--out", "out"],
    "compare": ["compare", "astronaut.png", "astronaut.png"],
    "models": ["models"],
    "doctor": ["doctor"],
    "inspect": ["inspect", "astronaut.png"],
    "extract": ["extract", "--tasks", "age", "--out", "out/age.safetensors"],
    "train": [
        "train", "smoke", "steps=1", "warmup=0", "workers=0", "held_out_faces=8", "out=out/run",
        "sources.drawn.path=12", "sources.drawn.batch_size=4",
    ],
}  # fmt: skip
"""Commands that a small machine runs in seconds; all of them may write below `out` alone."""

DEPENDENCIES = (
    "numpy", "cv2", "safetensors", "typer", "rich", "PIL", "pillow_heif", "pandas", "pyarrow.parquet",
    "onnx", "onnxscript", "torch", "torch.utils.tensorboard",
)  # fmt: skip
"""Modules that some command loads, other than onnxruntime and matplotlib, which our own modules load."""


class Trace(NamedTuple):
    """What a process did: the lines of the network's record, and the files that it left."""

    network: list[str]
    files: list[str]


@pytest.fixture(scope="module")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment variables that load the recorder into a process and all its children."""
    folder = tmp_path_factory.mktemp("recorder")
    (folder / "sitecustomize.py").write_text(PYTHON_RECORDER, encoding="utf-8")
    environment = {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT / "src")])}
    compiler = shutil.which("cc")
    if compiler is not None and sys.platform == "linux":
        (folder / "recorder.c").write_text(RECORDER, encoding="utf-8")
        library = folder / "recorder.so"
        command = [compiler, "-shared", "-fPIC", "-o", str(library), str(folder / "recorder.c"), "-ldl"]
        subprocess.run(command, check=True, capture_output=True)
        environment["LD_PRELOAD"] = str(library)
    return environment


def trace(arguments: list[str], folder: Path, recorder: dict[str, str], *, check: bool = True) -> Trace:
    """Run Python with the recorder in a folder that holds an empty home, and look at what it left."""
    for name in ("home", "temporary", "here"):
        (folder / name).mkdir(parents=True)
    shutil.copy(ROOT / "examples" / "astronaut.png", folder / "here")
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "VIRTUAL_ENV") if name in os.environ}
    environment = {
        **kept,
        **recorder,
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "temporary"),
        "NETWORK_RECORD": str(folder / "network"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder / "here",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 or not check, f"{arguments}: {done.stdout}\n{done.stderr}"
    record = folder / "network"
    files = [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]
    return Trace(
        network=record.read_text(encoding="utf-8").splitlines() if record.exists() else [],
        files=[name for name in files if name not in ("network", "here/astronaut.png")],
    )


def test_recorder_sees_connections_and_files(recorder: dict[str, str], tmp_path: Path) -> None:
    code = (
        "import pathlib, socket; (pathlib.Path.home() / 'id').touch(); "
        "socket.create_connection(('example.invalid', 80))"
    )
    seen = trace(["-c", code], tmp_path, recorder, check=False)
    assert seen.network and seen.files == ["home/id"]
    if "LD_PRELOAD" in recorder:
        code = "import _socket; _socket.socket(_socket.AF_INET).connect(('192.0.2.1', 80))"
        assert trace(["-c", code], tmp_path / "native", recorder, check=False).network == ["connect "]


@pytest.mark.parametrize("name", COMMANDS)
def test_command_sends_nothing_and_writes_only_its_output(
    name: str, recorder: dict[str, str], tmp_path: Path
) -> None:
    if name in ("inspect", "extract", "train"):
        pytest.importorskip("torch")
    seen = trace(["-m", "faceum", *COMMANDS[name]], tmp_path, recorder)
    assert seen.network == []
    assert not [file for file in seen.files if not file.startswith("here/out/")]


def test_loading_every_dependency_sends_and_writes_nothing(recorder: dict[str, str], tmp_path: Path) -> None:
    code = (
        "import importlib, importlib.util, faceum.onnx_session\n"
        f"for name in {DEPENDENCIES!r}:\n"
        "    if importlib.util.find_spec(name.split('.')[0]):\n"
        "        importlib.import_module(name)\n"
        "if importlib.util.find_spec('matplotlib'):\n"
        "    importlib.import_module('faceum.evaluate.plots').new_figure()\n"
    )
    seen = trace(["-c", code], tmp_path, recorder)
    assert seen == Trace(network=[], files=[])
