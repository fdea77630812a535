"""Peak memory and time of read_image on hostile and on large images, each in a process of its own.

    python benchmarks/images.py [part of a case's name ...]

Prints size, processor seconds, megabytes above the imported package, bytes a pixel and outcome of each case.
Bars: an accepted image costs at most 12 bytes a pixel and 200 MB, a refused one 0.5 s and 50 MB.
SIDE=3000 in the environment makes the large images smaller.
"""

from __future__ import annotations

import io
import json
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms

Image.MAX_IMAGE_PIXELS = None
SIDE = int(os.environ.get("SIDE", "9990"))  # just below the limit of 100 million pixels


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return one PNG chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def flat_png(side: int, channels: int, bits: int) -> bytes:
    """Return a black PNG, whose rows pack to almost nothing."""
    colour = {1: 0, 3: 2, 4: 6}[channels]
    packer = zlib.compressobj(9)
    row = bytes(1 + side * channels * bits // 8)
    packed = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    head = struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def pillow(format: str, side: int = SIDE, mode: str = "RGB", **options: object) -> bytes:
    """Return a smooth image written by Pillow."""
    ramp = np.add.outer(np.arange(side), np.arange(side)) % 251
    image = Image.fromarray(ramp.astype(np.uint8))
    if mode != "L":
        image = Image.merge(mode, [image] * len(mode)) if mode != "P" else image.convert("P")
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def opencv(suffix: str, dtype: type, channels: int, side: int = SIDE, *options: int) -> bytes:
    """Return an image of noise written by OpenCV."""
    random = np.random.default_rng(0)
    top = int(np.iinfo(dtype).max)
    pixels = random.integers(0, top, (side, side, channels), dtype, endpoint=True)
    return cv2.imencode(suffix, pixels, list(options))[1].tobytes()


def animation(side: int) -> bytes:
    """Return a WebP animation of flat frames."""
    buffer = io.BytesIO()
    frames = [Image.new("RGBA", (side, side), (shade, 0, 0, 255)) for shade in (0, 90, 200)]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    return buffer.getvalue()


def profile() -> bytes:
    """Return an ICC profile that is not sRGB: sRGB's, with red and blue changed for each other."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return data.replace(b"rXYZ", b"xXYZ").replace(b"bXYZ", b"rXYZ").replace(b"xXYZ", b"bXYZ")


CASES: dict[str, Callable[[], bytes]] = {
    "PNG RGBA16 flat": lambda: flat_png(SIDE, 4, 16),
    "PNG RGBA16 flat, 200 MP": lambda: flat_png(14_142, 4, 16),
    "PNG RGB16 noise, 25 MP": lambda: opencv(".png", np.uint16, 3, 5000, cv2.IMWRITE_PNG_COMPRESSION, 1),
    "PNG RGBA16 noise, 64 MP": lambda: opencv(".png", np.uint16, 4, 8000, cv2.IMWRITE_PNG_COMPRESSION, 1),
    "PNG RGBA": lambda: pillow("PNG", mode="RGBA", compress_level=1),
    "PNG gray": lambda: pillow("PNG", mode="L", compress_level=1),
    "PNG RGB, Display P3": lambda: pillow("PNG", icc_profile=profile(), compress_level=1),
    "JPEG": lambda: pillow("JPEG", quality=90),
    "JPEG progressive 4:4:4": lambda: pillow("JPEG", quality=90, progressive=True, subsampling=0),
    "JPEG CMYK progressive": lambda: pillow("JPEG", mode="CMYK", progressive=True, subsampling=0),
    "JPEG turned": lambda: pillow(
        "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    ),
    "WebP lossy": lambda: pillow("WEBP", method=0),
    "WebP lossless alpha": lambda: pillow("WEBP", mode="RGBA", lossless=True, method=0, quality=0),
    "WebP animation": lambda: animation(SIDE),
    "WebP animation, 16383": lambda: animation(16_383),
    "BMP": lambda: pillow("BMP"),
    "TIFF LZW": lambda: pillow("TIFF", compression="tiff_lzw"),
    "TIFF plain": lambda: pillow("TIFF"),
    "TIFF RGB16 noise LZW, 25 MP": lambda: opencv(".tiff", np.uint16, 3, 5000),
    "TIFF RGBA16 noise LZW, 64 MP": lambda: opencv(".tiff", np.uint16, 4, 8000),
    "GIF": lambda: pillow("GIF", mode="L"),
    "AVIF": lambda: pillow("AVIF", speed=10, quality=30),
    "HEIC, 4 MP": lambda: heic(2000),
    "JPEG 2000, 4 MP": lambda: pillow("JPEG2000", 2000),
    "JPEG 2000, 16 MP": lambda: pillow("JPEG2000", 4000),
    "50 MB of 0xFF": lambda: b"\xff" * 50_000_000,
    "JPEG of 50 MB of 0xFF": lambda: b"\xff\xd8" + b"\xff" * 50_000_000,
    "JPEG of 50 MB of empty segments": lambda: b"\xff\xd8" + b"\xff\xe0\0\2" * 12_500_000,
    "PNG of 50 MB of empty chunks": lambda: flat_png(8, 1, 8)[:33] + chunk(b"tEXt", b"") * 4_000_000,
    "JPEG cut": lambda: opencv(".jpg", np.uint8, 3, 6000, cv2.IMWRITE_JPEG_QUALITY, 95)[:-1000],
    "PNG without its rows, 100 MP": lambda: b"".join(
        (flat_png(SIDE, 4, 16)[:33], chunk(b"IDAT", zlib.compress(b"x")), chunk(b"IEND", b""))
    ),
    "video of 1.6 GB": lambda: b"\0\0\0\x18ftypisom",
    "PNG signature, 1.6 GB": lambda: b"\x89PNG\r\n\x1a\n",
    "TIFF of 32-bit floats": lambda: tiff_of_floats(),
}
FILE_LENGTHS = {"video of 1.6 GB": 1_600_000_000, "PNG signature, 1.6 GB": 1_600_000_000}


def heic(side: int) -> bytes:
    """Return a HEIC photo."""
    import pillow_heif

    buffer = io.BytesIO()
    image = Image.open(io.BytesIO(pillow("BMP", side)))
    pillow_heif.from_pillow(image).save(buffer, quality=30)
    return buffer.getvalue()


def tiff_of_floats() -> bytes:
    """Return a TIFF whose values are floating-point."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((4000, 4000), np.float32)).save(buffer, "TIFF")
    return buffer.getvalue()


def measure(path: str) -> None:
    """Read one image and print what it cost."""
    from faceum import read_image
    from faceum.errors import ImageError

    read_image(np.zeros((8, 8), np.uint8))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    try:
        outcome, pixels = "read", read_image(path).size // 3
    except ImageError as error:
        outcome, pixels = str(error).removeprefix(path).strip()[:90], 0
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps([outcome, pixels, seconds, peak * 1024]))


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run this file again, so that no process inherits the peak of another."""
    return subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True, check=False)


def main() -> None:
    """Write each case and measure it in a process of its own."""
    if sys.argv[1:2] == ["--make"]:
        name, path = sys.argv[2:]
        with open(path, "wb") as file:
            file.write(CASES[name]())
            file.truncate(FILE_LENGTHS.get(name))
        return
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2])
        return
    chosen = sys.argv[1:]
    for name in CASES:
        if chosen and not any(word in name for word in chosen):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "case"
            made = run("--make", name, str(path))
            if made.returncode:
                print(f"{name:34} not written: {made.stderr.strip().splitlines()[-1:]}")
                continue
            size = path.stat().st_size
            done = run("--measure", str(path))
        if done.returncode:
            print(f"{name:34} failed: {done.stderr.strip().splitlines()[-1:]}")
            continue
        outcome, pixels, seconds, peak = json.loads(done.stdout)
        good = peak <= 12 * pixels + 2e8 if pixels else (seconds <= 0.5 and peak <= 5e7)
        rate = f"{peak / pixels:5.1f} B/pixel" if pixels else " " * 13
        print(
            f"{name:34} {size / 1e6:8.1f} MB {seconds:7.2f} s {peak / 1e6:7.0f} MB {rate}"
            f"  {'ok ' if good else 'BAR'}  {outcome}",
            flush=True,
        )


if __name__ == "__main__":
    main()
