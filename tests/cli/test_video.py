"""`faceum video` from a clip to its files, with the real networks, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from faceum.cli.app import app
from faceum.image import read_image

av = pytest.importorskip("av", reason="PyAV is not installed")
pytest.importorskip("scipy", reason="scipy is not installed")


@pytest.fixture
def clip(tmp_path: Path, portrait_path: Path) -> Path:
    """Six frames of the portrait, which moves a little."""
    image = read_image(portrait_path)
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25, options={"q:v": "2"})
        stream.height, stream.width, stream.pix_fmt = 256, 256, "yuv420p"
        for index in range(6):
            part = np.ascontiguousarray(image[0:256, 90 + 2 * index : 346 + 2 * index])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(part, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_a_clip_becomes_files(clip: Path, tmp_path: Path) -> None:
    out, rows = tmp_path / "out.mp4", tmp_path / "rows.jsonl"
    command = ["video", str(clip), "--out", str(out), "--rows", str(rows), "--json", "--every", "3"]
    done = CliRunner().invoke(app, [*command, "--tasks", "age,landmarks,recognition", "--threads", "1"])
    assert done.exit_code == 0, done.output
    (track,) = json.loads(done.stdout)
    assert track["frames"] == 6 and track["first"] == 0 and 0 < track["age"]["years"] < 60
    lines = [json.loads(line) for line in rows.read_text().splitlines()]
    assert [line["faces"][0]["detected"] for line in lines] == [True, False, False] * 2
    moved = [line["faces"][0]["raw"]["points5"][2][0] for line in lines]
    assert np.allclose(np.diff(moved), -2, atol=1.5)
    with av.open(str(out)) as container:
        assert len(list(container.decode(video=0))) == 6


def test_faces_are_hidden(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    command = ["video", str(clip), "--out", str(out), "--blur", "all", "--max-seconds", "0.08"]
    done = CliRunner().invoke(app, [*command, "--tasks", "landmarks", "--threads", "1"])
    assert done.exit_code == 0, done.output
    with av.open(str(out)) as container, av.open(str(clip)) as source:
        shown = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        true = next(source.decode(video=0)).to_ndarray(format="gray")
    assert len(shown) == 2
    face = slice(80, 170), slice(100, 160)  # eyes to mouth
    assert (
        np.abs(np.diff(shown[0][face].astype(int))).mean()
        < 0.4 * np.abs(np.diff(true[face].astype(int))).mean()
    )


def test_what_cannot_be_done_is_said(clip: Path, tmp_path: Path) -> None:
    for arguments, words in (
        ([str(tmp_path / "none.mp4")], "There is no file"),
        ([str(clip), "--blur", "all"], "give --out"),
        ([str(clip), "--blur", "unknown", "--out", str(tmp_path / "o.mp4")], "give --gallery"),
        ([str(clip), "--rows", str(tmp_path / "o.csv")], "written as .jsonl or .parquet"),
        ([str(clip), "--out", str(clip)], "is the video itself"),
        ([str(clip), "--start", "5"], "no frame"),
    ):
        done = CliRunner().invoke(app, ["video", *arguments])
        assert done.exit_code == 2 and words in done.output, (arguments, done.output)
