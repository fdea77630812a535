"""Schemathesis: right and wrong requests made from the OpenAPI document, with all of its checks."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.serve.fakes import FakeAnalyzer, encoded
from tests.serve.running import Running
from tests.serve.test_people import THRESHOLDS

from faceum.client import Client
from faceum.serve.keys import KeyRing

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_answer_is_as_described(
    analyzer: FakeAnalyzer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("schemathesis")
    pytest.importorskip("torch")
    monkeypatch.setattr(FakeAnalyzer, "thresholds", lambda _: replace(THRESHOLDS, masked=THRESHOLDS))
    server = Running(analyzer, KeyRing([]), gallery=str(tmp_path / "people.sqlite"))
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json"]
    options = ["--checks", "all", "--max-examples", "3", "--seed", "1", "--request-timeout", "60"]
    environment = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.serve.schema_hooks", "PYTHONPATH": str(ROOT)}
    try:
        Client(server.url)._send("POST", "/v1/experts", None, [encoded(1)])  # loads the torch network
        done = subprocess.run(
            [*command, *options, "--no-color"],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        server.stop()
    assert done.returncode == 0, done.stdout + done.stderr
