"""Noise of image decoders stays off stderr; everything else that is written there comes out."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps its stderr")


def test_a_damaged_jpeg_leaves_one_debug_line_and_other_lines_come_out(tmp_path):
    file = io.BytesIO()
    Image.fromarray(np.full((40, 24, 3), 90, np.uint8)).save(file, "JPEG")
    data = file.getvalue()
    scan = data.rindex(b"\xff\xda")
    (tmp_path / "odd.jpg").write_bytes(data[:scan] + b"x" * 30 + data[scan:])
    code = """
import io, logging, os, sys, threading
import faceum
from faceum.cli.native_stderr import without_decoder_noise
log = io.StringIO()
logging.getLogger("faceum").addHandler(logging.StreamHandler(log))
logging.getLogger("faceum").setLevel(logging.DEBUG)
with without_decoder_noise():
    print("before", file=sys.stderr)
    assert faceum.read_image("odd.jpg").shape == (40, 24, 3)
    os.write(2, b"another library\\nhalf a line")
print("after", file=sys.stderr)
print(log.getvalue(), end="")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.replace("\n", " ").split() == "before another library half a lineafter".split()
    assert done.stdout.count("the decoder says: Corrupt JPEG data") == 1
