"""A few hundred damaged files of every format give an image or one sentence, whatever is damaged."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from faceum.errors import ImageError
from faceum.image import read_image

Y, X = np.mgrid[0:24, 0:40]
RGB = np.stack([X * 5 + 20, Y * 9, 230 - X * 2 - Y], axis=-1).astype(np.uint8)
MUTANTS = 300


def encode(format: str, mode: str = "RGB", **options: object) -> bytes:
    buffer = io.BytesIO()
    image = Image.fromarray(RGB) if mode != "I;16" else Image.fromarray(RGB[..., 0].astype(np.uint16) * 257)
    (image if mode in ("RGB", "I;16") else image.convert(mode)).save(buffer, format, **options)
    return buffer.getvalue()


def animation() -> bytes:
    buffer = io.BytesIO()
    frames = [Image.fromarray(RGB).convert("RGBA"), Image.fromarray(RGB[::-1]).convert("RGBA")]
    frames[0].save(buffer, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    return buffer.getvalue()


def heic() -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(RGB)).save(buffer)
    return buffer.getvalue()


def bmp_of_bit_fields() -> bytes:
    """Return a BMP of 32 bits a pixel with the masks of red first behind its header of 40 bytes."""
    start = struct.pack("<2sIHHI", b"BM", 66 + 4 * RGB.shape[0] * RGB.shape[1], 0, 0, 66)
    start += struct.pack("<IiiHHIIiiII", 40, RGB.shape[1], -RGB.shape[0], 1, 32, 3, 0, 0, 0, 0, 0)
    pixels = np.dstack([RGB, np.zeros_like(RGB[..., :1])])
    return start + struct.pack("<3I", 0xFF, 0xFF00, 0xFF0000) + pixels.tobytes()


EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
SEEDS: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: encode("JPEG", exif=EXIF),
    "JPEG progressive": lambda: encode("JPEG", progressive=True),
    "JPEG CMYK": lambda: encode("JPEG", "CMYK"),
    "PNG": lambda: encode("PNG", exif=EXIF),
    "PNG palette": lambda: encode("PNG", "P"),
    "WebP": lambda: encode("WEBP", exif=EXIF),
    "WebP lossless": lambda: encode("WEBP", "RGBA", lossless=True),
    "WebP animation": animation,
    "BMP": lambda: encode("BMP"),
    "BMP bit fields": bmp_of_bit_fields,
    "TIFF": lambda: encode("TIFF"),
    "TIFF LZW": lambda: encode("TIFF", compression="tiff_lzw"),
    "TIFF JPEG": lambda: encode("TIFF", compression="jpeg"),
    "TIFF 16 bits": lambda: encode("TIFF", "I;16", compression="tiff_deflate"),
    "GIF": lambda: encode("GIF", "P"),
    "AVIF": lambda: encode("AVIF"),
    "JPEG 2000": lambda: encode("JPEG2000"),
    "HEIC": heic,
}


def mutate(data: bytes, random: np.random.Generator) -> bytes:
    """Return the file with bytes changed, a part removed, repeated or zeroed, or its end cut."""
    damaged = bytearray(data)
    reach = len(data) if random.random() < 0.5 else min(200, len(data))
    kind = random.integers(0, 6)
    start = int(random.integers(0, reach))
    stop = min(len(data), start + int(random.integers(1, 40)))
    if kind <= 2:
        for _ in range(random.integers(1, 8)):
            damaged[random.integers(0, reach)] = random.choice([0, 1, 127, 128, 255, random.integers(0, 256)])
    elif kind == 3:
        del damaged[start:stop]
    elif kind == 4:
        damaged[start:start] = damaged[start:stop] * int(random.integers(1, 5))
    else:
        damaged[start:stop] = bytes(stop - start)
    return bytes(damaged[: random.integers(1, len(damaged) + 1)] if random.random() < 0.1 else damaged)


@pytest.mark.parametrize("name", SEEDS)
@pytest.mark.filterwarnings("ignore")
def test_mutants_give_an_image_or_a_sentence(name):
    data, random = SEEDS[name](), np.random.default_rng(0)
    assert read_image(data).shape in ((24, 40, 3), (40, 24, 3))
    for number in range(MUTANTS):
        damaged = mutate(data, random)
        try:
            image = read_image(damaged, max_pixels=1_000_000)
        except ImageError as error:
            assert str(error).endswith(".") and "\n" not in str(error), (name, number)
        else:
            assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3, (name, number)
            assert image.shape[0] * image.shape[1] <= 1_000_000


def test_damage_behind_the_first_frame_gives_a_sentence():
    webp = animation()
    at = webp.index(b"ANMF") + 4
    with pytest.raises(ImageError, match="ends too early"):
        read_image(webp[:at] + b"\xff\xff\xff\xff" + webp[at + 4 :])
    buffer = io.BytesIO()
    frames = [Image.new("L", (40, 24), shade) for shade in (0, 200)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    gif = buffer.getvalue()
    assert read_image(gif).shape == (24, 40, 3)
    second = gif.rindex(b",\0\0\0\0")
    for end in (second + 7, second + 10):
        with pytest.raises(ImageError, match="damaged GIF"):
            read_image(gif[:end])
