"""`faceum batch` as people use it: exit codes, sentences, status, verify; results in DuckDB and pandas."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

import faceum
from faceum.cli.app import app
from faceum.image import write_image

pytest.importorskip("pyarrow")

Run = Callable[..., Any]


@pytest.fixture
def run(tiny_model: Path, tmp_path: Path) -> Run:
    """Runs `faceum batch` on the tiny network with one worker."""
    options = ["--model", str(tiny_model.with_suffix(".onnx")), "--workers", "1", "--threads", "1"]

    def command(*words: object, stdin: str | None = None) -> Any:
        given = [str(word) for word in words]
        options_too = options if given[0] not in ("status", "verify") else []
        return CliRunner().invoke(app, ["batch", *given, *options_too], input=stdin)

    return command


@pytest.fixture
def images(tmp_path: Path, portrait: np.ndarray) -> Path:
    """Three images with a face and one that is broken."""
    head = cv2.resize(portrait[20:260, 100:340], (160, 160), interpolation=cv2.INTER_AREA)
    for number in range(3):
        write_image(tmp_path / "images" / f"{number}.png", np.roll(head, number, axis=1))
    (tmp_path / "images" / "3.png").write_bytes(b"broken")
    return tmp_path / "images"


def test_a_batch_from_plan_to_tables(run: Run, images: Path, tmp_path: Path) -> None:
    import duckdb

    out = tmp_path / "results" / "batch"
    done = run(images, "--out", out, "--plan-only", "--images-per-shard", "2")
    assert done.exit_code == 0 and "4 images in 2 shards; 2 to do here" in done.stderr
    status = json.loads(run("status", out, "--json").stdout)
    assert (status["shards"], status["shards_done"], status["images_planned"]) == (2, 0, 4)
    assert faceum.read_results(out).count_rows() == 0
    assert "Shard 0 is not done" in run("verify", out).stderr

    done = run(images, "--out", out, "--shard", "2/2")
    assert done.exit_code == 1 and "1 to do here" in done.stderr  # half of its images are broken
    done = run(images, "--out", out, "--max-failures", "0.25")
    assert done.exit_code == 0, done.stderr
    assert "1 of 1" in done.stdout
    assert run(images, "--out", out).exit_code == 0, "there is nothing left to do"
    assert run("verify", out).exit_code == 0
    status = json.loads(run("status", out, "--json").stdout)
    assert status["images"] == {"ok": 3, "broken": 1, "unread": 0, "crashed": 0}

    count = "SELECT status, count(*) FROM read_parquet(?) WHERE face IS NULL GROUP BY 1 ORDER BY 1"
    files = str(out / "results" / "*" / "*.parquet")
    assert duckdb.execute(count, [files]).fetchall() == [("broken", 1), ("ok", 3)]
    frame = faceum.read_results(out).to_table(columns=["source", "age", "embedding"]).to_pandas()
    assert len(frame) == status["faces"] and frame["embedding"][0].dtype == np.float16

    page = (Path(__file__).parents[2] / "docs" / "batch.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```python\n(.*?)^```", page, re.S | re.M)
    path = os.pathsep.join([str(Path(faceum.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-c", example], cwd=tmp_path, env={**os.environ, "PYTHONPATH": path},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "broken" in done.stdout and "1.0" in done.stdout  # a face is nearest to itself


def test_lists_come_through_a_pipe(run: Run, images: Path, tmp_path: Path) -> None:
    names = "".join(f"{images / f'{number}.png'}\n" for number in range(2))
    done = run("-", "--out", tmp_path / "out", stdin=names)
    assert done.exit_code == 0, done.stderr
    done = run("-", "--out", tmp_path / "out", stdin="")
    assert done.exit_code == 0 and "0 to do here" in done.stderr


def test_what_cannot_be_used_is_one_sentence(run: Run, images: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for words, sentence in {
        (images, "--out", tmp_path / "out", "--shard", "0/2"): "--shard is '0/2', expected I/N",
        (tmp_path / "nothing", "--out", tmp_path / "out"): "nothing does not exist; give a folder",
        (images, "--out", tmp_path / "file"): "file cannot be used as the output folder",
        ("status", images): "holds no manifest.json; give the folder",
        ("verify", images): "holds no manifest.json; give the folder",
    }.items():
        done = run(*words)
        assert done.exit_code == 2 and sentence in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "out").exists()


def test_verify_finds_what_was_changed(run: Run, images: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    out = tmp_path / "out"
    run(images, "--out", out, "--images-per-shard", "1")
    files = [out / "results" / "00000" / f"{number:08d}.parquet" for number in range(4)]
    content = bytearray(files[0].read_bytes())
    content[len(content) // 3] ^= 1
    files[0].write_bytes(content)
    with pq.ParquetFile(files[1]) as file:
        table, metadata = file.read(), file.metadata.metadata
    with pq.ParquetWriter(files[1], table.schema) as writer:
        writer.write_table(table.slice(1))
        writer.add_key_value_metadata({"faceum.batch": metadata[b"faceum.batch"].decode()})
    files[2].write_bytes(files[2].read_bytes()[:-9])
    files[3].rename(files[3].with_name("00000009.parquet"))
    done = run("verify", out)
    assert done.exit_code == 1
    for sentence in (
        "Shard 3 is not done", "00000009.parquet is not in the plan", "00000000.parquet: cannot be read",
        "00000001.parquet: expected 1 image, got 0", "00000002.parquet: cannot be read",
    ):  # fmt: skip
        assert sentence in done.stderr, done.stderr
    for path in (*files[:3], files[3].with_name("00000009.parquet")):
        path.unlink()
    run(images, "--out", out)
    assert run("verify", out).exit_code == 0
