"""Two network namespaces are two hosts: torchrun trains over a virtual cable between them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.train.running import ONE_THREAD, RECIPE, SMALL, torchrun

from faceum.model.checkpoint import load_checkpoint

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch with distributed"),
]

WORDS = "steps=3 warmup=1 workers=0 save_every=3 validate_every=0".split()
ADDRESSES = ("10.213.7.1", "10.213.7.2")


def ip(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *words], capture_output=True, text=True)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """The names of two namespaces with a cable between them, both with the address of ADDRESSES."""
    if shutil.which("ip") is None:
        pytest.skip("needs the command ip")
    names = [f"faceum{os.getpid()}{end}" for end in "ab"]
    cables = [f"fu{os.getpid()}{end}" for end in "ab"]
    steps = [("netns", "add", name) for name in names]
    steps.append(("link", "add", cables[0], "type", "veth", "peer", "name", cables[1]))
    for name, cable, address in zip(names, cables, ADDRESSES, strict=True):
        steps += [
            ("link", "set", cable, "netns", name),
            ("-n", name, "addr", "add", f"{address}/24", "dev", cable),
            ("-n", name, "link", "set", cable, "up"),
            ("-n", name, "link", "set", "lo", "up"),
        ]
    try:
        for step in steps:
            done = ip(*step)
            if done.returncode:
                pytest.skip(f"no rights for network namespaces: {done.stderr.strip()}")
        yield names
    finally:
        for name in names:
            ip("netns", "del", name)


def test_two_hosts_train_one_run(hosts: list[str], tmp_path: Path) -> None:
    cables = [f"fu{os.getpid()}{end}" for end in "ab"]
    start = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    start += ["--master-addr", ADDRESSES[0], "--master-port", "29511"]
    words = ["-m", "faceum", "train", str(RECIPE), *SMALL, *WORDS]
    processes = [
        subprocess.Popen(
            ["ip", "netns", "exec", name, sys.executable, *start, "--node-rank", str(number), "--local-addr"]
            + [ADDRESSES[number], *words, f"out={tmp_path / 'pair'}"],
            env={**ONE_THREAD, "GLOO_SOCKET_IFNAME": cables[number]},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number, name in enumerate(hosts)
    ]
    try:
        said = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    assert json.loads((tmp_path / "pair" / "run.json").read_text())["environment"]["ranks"] == 2
    done = torchrun(tmp_path / "one", *WORDS)
    assert done.returncode == 0, done.stderr
    pair, one = (
        load_checkpoint(tmp_path / name / "network.safetensors")[0].state_dict() for name in ("pair", "one")
    )
    for name, value in one.items():
        torch.testing.assert_close(pair[name], value, msg=name)
