"""Reading an image costs at most 12 bytes a pixel and 200 MB; refusing one costs at most 50 MB."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import faceum

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the peak from /proc"),
]

MEASURE = """
import sys
import numpy as np
from faceum import read_image
from faceum.errors import ImageError

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

read_image(np.zeros((8, 8), np.uint8))
before = peak()
try:
    pixels = read_image(sys.argv[1]).size // 3
except ImageError:
    pixels = 0
print(pixels, peak() - before)
"""


def cost(path: Path) -> tuple[int, int]:
    """Return the pixels read, 0 if the file is refused, and the bytes that it took, in a fresh process."""
    environment = {**os.environ, "PYTHONPATH": str(Path(faceum.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    pixels, taken = map(int, done.stdout.split())
    return pixels, taken


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def flat_png(side: int) -> bytes:
    """Return a black PNG with 16 bits in each of four channels."""
    rows = zlib.compress(bytes((1 + 8 * side) * side), 1)
    head = struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def animation(side: int) -> bytes:
    buffer = io.BytesIO()
    frames = [Image.new("RGBA", (side, side), (shade, 0, 0, 255)) for shade in (0, 90, 200)]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    return buffer.getvalue()


def test_refused_files_cost_little(tmp_path):
    path = tmp_path / "refused"
    for start, length in [
        (b"\0\0\0\x18ftypisom", 1_600_000_000),
        (b"\x89PNG\r\n\x1a\n", 1_600_000_000),
        (b"\xff\xd8" + b"\xff" * 20_000_000, None),
        (b"\xff\xd8" + b"\xff\xe0\0\2" * 5_000_000, None),
        (flat_png(64)[:33] + chunk(b"tEXt", b"") * 500_000, None),
        (animation(64).replace(struct.pack("<I", 63)[:3] * 2, struct.pack("<I", 16_000)[:3] * 2, 1), None),
    ]:
        with path.open("wb") as file:
            file.write(start)
            file.truncate(length)
        pixels, taken = cost(path)
        assert pixels == 0 and taken <= 50_000_000, start[:12]


def test_accepted_images_are_read_in_bounded_memory(tmp_path):
    path = tmp_path / "accepted"
    noise = np.random.default_rng(0).integers(0, 255, (4000, 4000, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", progressive=True, subsampling=0)
    for data in (flat_png(4000), animation(4000), buffer.getvalue()):
        path.write_bytes(data)
        pixels, taken = cost(path)
        assert pixels == 16_000_000 and taken <= 12 * pixels + 200_000_000


def test_image_that_would_need_more_memory_is_refused(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(flat_png(9000))
    pixels, taken = cost(path)
    assert pixels == 0 and taken <= 50_000_000
