"""Sizes are known, and the senseless ones refused, from the header alone."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from faceum.errors import ImageError
from faceum.image import MAX_PIXELS, read_image
from faceum.image.header import IMAGE_SUFFIXES, is_image_name, read_header, sniff


def encode(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def png_bomb(width: int, height: int) -> bytes:
    """A small valid PNG whose header promises another size."""
    data = bytearray(encode(Image.new("1", (8, 8)), "PNG"))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    return bytes(data)


def jpeg_bomb(width: int, height: int) -> bytes:
    data = bytearray(encode(Image.new("L", (8, 8)), "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(data)


def bmp_bomb(width: int, height: int) -> bytes:
    data = bytearray(encode(Image.new("L", (8, 8)), "BMP"))
    data[18:26] = width.to_bytes(4, "little") + (-height).to_bytes(4, "little", signed=True)
    return bytes(data)


def webp_bomb(width: int, height: int) -> bytes:
    data = bytearray(encode(Image.new("RGB", (8, 8)), "WEBP", lossless=True))
    data[21:25] = ((width - 1) | (height - 1) << 14).to_bytes(4, "little")
    return bytes(data)


def extended_webp_bomb(width: int, height: int) -> bytes:
    exif = Image.Exif()
    exif[274] = 1
    data = bytearray(encode(Image.new("RGB", (8, 8)), "WEBP", lossless=True, exif=exif))
    data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


def lossy_webp_bomb(width: int, height: int) -> bytes:
    data = bytearray(encode(Image.new("RGB", (8, 8)), "WEBP"))
    data[26:30] = width.to_bytes(2, "little") + height.to_bytes(2, "little")
    return bytes(data)


def tiff_bomb(width: int, height: int) -> bytes:
    """Only the directory of a TIFF, big-endian, its size in 32-bit numbers."""
    entries = struct.pack(">HHII", 256, 4, 1, width) + struct.pack(">HHII", 257, 4, 1, height)
    return b"MM\0*" + struct.pack(">IH", 8, 2) + entries + bytes(4)


def big_tiff_bomb(width: int, height: int) -> bytes:
    """The same as BigTIFF, little-endian, its size in 64-bit numbers."""
    entries = struct.pack("<HHQQ", 256, 16, 1, width) + struct.pack("<HHQQ", 257, 16, 1, height)
    return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, 2) + entries + bytes(8)


BOMBS: dict[str, Callable[[int, int], bytes]] = {
    "PNG": png_bomb,
    "JPEG": jpeg_bomb,
    "BMP": bmp_bomb,
    "WebP lossless": webp_bomb,
    "WebP lossy": lossy_webp_bomb,
    "WebP extended": extended_webp_bomb,
    "TIFF": tiff_bomb,
    "BigTIFF": big_tiff_bomb,
}


@pytest.mark.parametrize("kind", BOMBS)
@given(size=st.tuples(st.integers(1, 16_383), st.integers(1, 16_383)))
@settings(max_examples=20, deadline=None)
def test_promised_size_is_read(kind, size):
    header = read_header(BOMBS[kind](*size))
    assert (header.width, header.height) == size
    assert header.complete or kind in ("BMP", "PNG")  # whose rows cannot fit into so few bytes
    assert header.orientation == 1


@pytest.mark.parametrize("kind", BOMBS)
def test_too_many_promised_pixels_are_refused_before_decoding(kind, monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(ImageError, match=rf"16000 x 15000 .*{MAX_PIXELS}.*\.$"):
        read_image(BOMBS[kind](16_000, 15_000))


@pytest.mark.parametrize("kind", BOMBS)
def test_sizes_of_zero_are_refused(kind):
    if kind in ("WebP lossless", "WebP extended"):
        pytest.skip("this header cannot say 0")
    with pytest.raises(ImageError, match=r"0 x 10 .*\.$"):
        read_image(BOMBS[kind](0, 10))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_format_size_and_orientation(format):
    exif = Image.Exif()
    exif[274] = 8
    options = {} if format == "BMP" else {"exif": exif}
    header = read_header(encode(Image.new("RGB", (31, 17)), format, **options))
    assert (header.format.upper(), header.width, header.height, header.complete) == (format, 31, 17, True)
    assert header.orientation == (1 if format == "BMP" else 8)


def test_old_bmp_header():
    data = b"BM" + bytes(8) + struct.pack("<IIHHHH", 26, 12, 7, 5, 1, 24) + bytes(5 * 24)
    header = read_header(data)
    assert (header.format, header.width, header.height, header.complete) == ("BMP", 7, 5, True)


def test_offsets_beyond_the_file_are_refused():
    for start in (100, 2**63, 2**64 - 1):
        with pytest.raises(ImageError):
            read_header(b"II+\0" + struct.pack("<HHQ", 8, 0, start) + bytes(40))


@given(
    st.sampled_from(
        [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\0WEBPVP8X", b"II*\0", b"MM\0+", b"BM"]
    ),
    st.binary(max_size=200),
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_behind_a_signature_are_a_header_or_a_sentence(signature, rest):
    try:
        header = read_header(signature + rest)
    except ImageError:
        return
    assert min(header.width, header.height) >= 1
    assert 1 <= header.orientation <= 8


def test_header_alone_is_not_complete():
    """Every proper beginning of a JPEG, PNG, WebP or BMP file says so itself."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 15, 3), np.uint8))
    for format in ("JPEG", "PNG", "WEBP", "BMP"):
        # The last row of a BMP may lack the bytes that fill it up to four: 15 pixels are 45 of 48.
        data = encode(image, format)[: -3 if format == "BMP" else None]
        assert read_header(data).complete
        for end in range(1, len(data)):
            try:
                assert not read_header(data[:end]).complete, (format, end)
            except ImageError:
                continue


def test_sniff_goes_by_the_content_and_is_image_name_by_the_suffix(tmp_path):
    image = Image.new("RGB", (9, 5))
    names = {"WEBP": "WebP", "JPEG2000": "JPEG 2000"}
    for format in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF", "JPEG2000"):
        data = encode(image, format)
        path = tmp_path / "no-suffix"
        path.write_bytes(data)
        assert sniff(data) == sniff(data[:1024]) == sniff(path) == names.get(format, format)
    assert sniff(b"\0\0\0\x18ftypheic\0\0\0\0") == "HEIC"
    for other in (b"", b"hello", b"%PDF-1.7", b"\0\0\0\x18ftypisom", b"BM"):
        assert sniff(other) is None
    with pytest.raises(FileNotFoundError):
        sniff(tmp_path / "none.jpg")
    assert is_image_name("a/B.JPG") and is_image_name("x.heic") and is_image_name("HIDDEN.TIFF")
    assert all(is_image_name(f"a{suffix}") for suffix in IMAGE_SUFFIXES)
    assert not is_image_name("jpg") and not is_image_name("a.jpg.txt")


def test_other_kinds_of_images_are_called_by_name():
    icon = encode(Image.new("RGB", (16, 16)), "ICO")
    for start, name in [
        (b"II\xbc\x01 \0\0\0", "JPEG XR"),
        (b"\xff\x0a\xff\x07", "JPEG XL"),
        (b"v/1\x01\x02\0\0\0", "OpenEXR"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n", "Radiance HDR"),
        (encode(Image.new("RGB", (2, 2)), "PPM"), "PNM"),
        (b"qoif\0\0\0\2", "QOI"),
        (b"DDS |\0\0\0", "DirectDraw"),
        (icon, "Windows icon"),
        (bytes(128) + b"DICM", "DICOM"),
        (b"gimp xcf v011\0", "GIMP"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\0\0\0\x18ftypcrx \0\0\0\1", "Canon raw"),
        (b'<?xml version="1.0"?>\n<!-- made by hand -->\n<svg xmlns="http://www.w3.org/2000/svg"/>', "SVG"),
        (b"<svg>", "SVG"),
    ]:
        with pytest.raises(ImageError, match=f"is a {name}.* file: expected JPEG, PNG"):
            read_image(start)
    for start in (b"P2 is a place", b"<html><body><p>svg</p>"):
        with pytest.raises(ImageError, match="is not an image"):
            read_image(start)
