"""Nothing is sent and nothing is written unasked: commands run in an empty home with a blocked network."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from faceum.image import read_image, write_image

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

IN_ONE_PROCESS = (
    ("", "compare astronaut.png mirror.png", (0, 1)),
    ("", "people import folder --gallery out/people.sqlite", (0,)),
    ("", "people enroll Cara mirror.png --gallery out/people.sqlite", (0,)),
    ("", "people search mirror.png --gallery out/people.sqlite", (0,)),
    ("", "people list --gallery out/people.sqlite", (0,)),
    ("", "people show Cara --gallery out/people.sqlite", (0,)),
    ("", "people rename Cara Dora --gallery out/people.sqlite", (0,)),
    ("", "people merge Dora Anna --gallery out/people.sqlite", (0,)),
    ("", "people export --out out/people.npz --gallery out/people.sqlite", (0,)),
    ("", "people remove Anna --gallery out/people.sqlite", (0,)),
    ("", "people doctor --gallery out/people.sqlite", (0,)),
    ("", "data pack utkface utkface --out out/packed", (0,)),
    ("", "data check out/packed", (0, 1)),
    ("sklearn", "cluster folder --out out/clusters", (0,)),
    ("", "eval --set pairs=pairs.bin --out out/eval", (0,)),
    ("", "calibrate --set pairs=pairs.bin --recognizer out/arcface.onnx", (0, 2)),
    ("", "batch run folder --out out/batch --workers 1 --tasks age", (0,)),
    ("", "batch status out/batch", (0,)),
    ("", "batch verify out/batch", (0,)),
    ("av", "video folder/Anna --rows out/rows.jsonl", (0,)),
    ("starlette", "serve --check", (0,)),
    ("", "convert farl few.pth --out out/farl.safetensors", (2,)),
    ("", "convert reference few.pth --out out/reference.safetensors", (2,)),
    ("", "export --out out/age.onnx --tasks age --model out/tiny.safetensors", (0,)),
)  # fmt: skip
"""More commands: the package that it needs beyond others, the words, and the exit codes."""

SESSION = """
import sys
from typer.testing import CliRunner
from faceum.cli.app import app
for words, codes in {commands!r}:
    done = CliRunner().invoke(app, words.split())
    print(words, done.exit_code, done.output[-2000:])
    assert done.exit_code in codes, words
"""
"""Runs the commands one after another; a process each would load the same packages nineteen times."""

REQUESTS = """
import asyncio, pathlib
import httpx
from faceum.serve.app import build_app
from faceum.serve.keys import KeyRing
from faceum.serve.settings import Settings

async def main():
    image = {"images": ("astronaut.png", pathlib.Path("astronaut.png").read_bytes())}
    app = build_app(Settings(), keys=KeyRing([]))
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
            page = await client.get("/")
            answer = await client.post("/v1/analyze", files=image)
            refused = await client.post("/v1/analyze", files={"images": ("x", b"no image")})
    print(page.text[:200], answer.text[:200], refused.text)
    assert page.status_code == 200 and answer.json()["results"][0]["faces"]

asyncio.run(main())
"""
"""A server's page and answers, with the shipped weights; requests come from within the process."""

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
        (folder / name).mkdir(parents=True, exist_ok=True)
    given = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
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
    files = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    return Trace(
        network=record.read_text(encoding="utf-8").splitlines() if record.exists() else [],
        files=[name for name in files if name not in {*given, "network", "here/astronaut.png"}],
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


def write_inputs(here: Path, tiny_weights: Path) -> None:
    """Write what the commands of IN_ONE_PROCESS read: networks, a folder of people, a set, a torch file."""
    import torch

    from test_recognizer import write_network

    portrait = read_image(ROOT / "examples" / "astronaut.png")
    (here / "out").mkdir(parents=True)
    shutil.copy(tiny_weights, here / "out" / "tiny.safetensors")
    write_network(here / "out" / "arcface.onnx")
    write_image(here / "mirror.png", portrait[:, ::-1])
    encoded = []
    for number, name in enumerate(("Anna", "Ben")):
        for light in (0.7, 1.0):
            (here / "folder" / name).mkdir(parents=True, exist_ok=True)
            path = here / "folder" / name / f"{light}.png"
            write_image(path, (portrait[:, :: 1 - 2 * number] * light).astype(np.uint8))
            encoded.append(path.read_bytes())
    (here / "utkface").mkdir()
    write_image(here / "utkface" / "40_1_0_20170101.jpg", portrait)
    (here / "pairs.bin").write_bytes(pickle.dumps(([*encoded[:2], *encoded[::2]] * 5, [True, False] * 5)))
    torch.save({"visual.proj": torch.ones(2, 2)}, here / "few.pth")


def test_every_other_command_sends_nothing_and_writes_only_its_output(
    recorder: dict[str, str], tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    for package in ("pyarrow", "matplotlib", "torch", "onnxscript"):
        pytest.importorskip(package)
    write_inputs(tmp_path / "here", tiny_weights)
    commands = [(words, codes) for module, words, codes in IN_ONE_PROCESS if find_spec(module or "sys")]
    seen = trace(["-c", SESSION.format(commands=commands)], tmp_path, recorder)
    assert seen.network == []
    assert not [file for file in seen.files if not file.startswith("here/out/")]


def test_server_sends_nothing_and_stores_no_upload(recorder: dict[str, str], tmp_path: Path) -> None:
    for package in ("fastapi", "httpx", "prometheus_client", "python_multipart", "uvicorn"):
        pytest.importorskip(package)
    assert trace(["-c", REQUESTS], tmp_path, recorder) == Trace(network=[], files=[])


def test_every_command_is_traced() -> None:
    from typer.main import get_command

    from faceum.cli.app import app

    def leaves(command: Any, words: tuple[str, ...]) -> set[tuple[str, ...]]:
        below = getattr(command, "commands", {})
        return {leaf for name in below for leaf in leaves(below[name], (*words, name))} or {words}

    traced = [tuple(words) for words in COMMANDS.values()] + [tuple(one[1].split()) for one in IN_ONE_PROCESS]
    commands = leaves(get_command(app), ())
    assert ("batch", "run") in commands and ("analyze",) in commands
    missing = {leaf for leaf in commands if not any(words[: len(leaf)] == leaf for words in traced)}
    assert not missing


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
