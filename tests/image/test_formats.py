"""GIF, AVIF, JPEG 2000, HEIC and animations are read; metadata agrees with what Pillow says."""

from __future__ import annotations

import io
import logging
import sys
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin, TiffImagePlugin

from faceum import image as image_module
from faceum.errors import ImageError
from faceum.image import read_image

HEIGHT, WIDTH = 48, 64
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH]
RGB = np.stack([X * 3 + 20, Y * 4, 230 - X * 2 - Y], axis=-1).astype(np.uint8)
TURNED = np.rot90(RGB, -1)  # as orientation 6 asks for
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def far(first: np.ndarray, second: np.ndarray) -> int:
    assert first.shape == second.shape
    return int(np.abs(first.astype(int) - second).max())


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(image_module, "_SAID", set())


def heic(image: Image.Image, **options: object) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=100, chroma=444, **options)
    return buffer.getvalue()


def test_formats_that_pillow_reads(tmp_path):
    image = Image.fromarray(RGB)
    palette = image.quantize(200)
    shown = np.asarray(palette.convert("RGB"))
    cases = {
        "GIF": (encode(palette, "GIF"), shown, 0),
        "JPEG 2000": (encode(image, "JPEG2000"), RGB, 0),
        "JPEG 2000 codestream": (encode(image, "JPEG2000", no_jp2=True), RGB, 0),
        "AVIF": (encode(image, "AVIF", quality=100, subsampling="4:4:4"), RGB, 6),
        "HEIC": (heic(image), RGB, 10),
    }
    for name, (data, expected, tolerance) in cases.items():
        path = tmp_path / "no-suffix"
        path.write_bytes(data)
        for source in (data, path):
            assert far(read_image(source), expected) <= tolerance, name


def test_heic_without_its_extra_names_it(monkeypatch):
    data = heic(Image.fromarray(RGB))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"extra \[formats\].*moe-faceum\[formats\]"):
        read_image(data)


def test_gif_transparency_shows_white():
    image = Image.fromarray(RGB).quantize(16)
    data = encode(image, "GIF", transparency=3)
    with Image.open(io.BytesIO(data)) as second:
        rgba = np.asarray(second.convert("RGBA"))
    clear = rgba[..., 3] == 0
    assert clear.any() and not clear.all()
    found = read_image(data)
    assert (found[clear] == 255).all()
    assert (found[~clear] == rgba[~clear][:, :3]).all()


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_animation_reads_first_frame_and_logs_once(format, caplog):
    frames = [Image.fromarray(RGB), Image.fromarray(RGB[::-1]), Image.fromarray(RGB[:, ::-1])]
    options = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}.get(format, {})
    data = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as second:
        assert second.n_frames == 3
        expected = np.asarray(second.convert("RGB"))
    with caplog.at_level(logging.WARNING, logger="faceum"):
        for _ in range(2):
            assert far(read_image(data), expected) <= (6 if format == "AVIF" else 0)
    assert len([record for record in caplog.records if "first" in record.message]) == 1


def test_webp_first_frame_smaller_than_canvas():
    clear = Image.new("RGBA", (WIDTH, HEIGHT), (0, 0, 0, 0))
    part = clear.copy()
    part.paste(Image.fromarray(RGB[:20, :30]), (10, 8))
    for options in ({"lossless": True}, {"quality": 100, "alpha_quality": 100}):
        data = encode(part, "WEBP", save_all=True, append_images=[clear], minimize_size=True, **options)
        with Image.open(io.BytesIO(data)) as second:
            rgba = np.asarray(second.convert("RGBA")).astype(int)
        alpha = rgba[..., 3:] / 255
        expected = np.round(rgba[..., :3] * alpha + 255 * (1 - alpha))
        assert far(read_image(data), expected) <= 1


# --- metadata ----------------------------------------------------------------------------------------------


def exif_block(kind: int = 3) -> bytes:
    """Return an EXIF block with orientation 6 as BYTE (1), SHORT (3) or LONG (4)."""
    value = {1: b"\6\0\0\0", 3: b"\0\6\0\0", 4: b"\0\0\0\6"}[kind]
    return b"MM\0*\0\0\0\x08\0\1\1\x12\0" + bytes([kind]) + b"\0\0\0\1" + value + bytes(4)


def raw_profile(kind: str) -> PngImagePlugin.PngInfo:
    """Return ImageMagick's text chunk of an EXIF block."""
    block = b"Exif\0\0" + exif_block()
    numbers = block.hex()
    lines = "\n".join(numbers[at : at + 72] for at in range(0, len(numbers), 72))
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n{len(block):8}\n{lines}\n", zip=kind == "zTXt")
    return info


def xmp_text() -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    return info


def with_tags(**tags: object) -> TiffImagePlugin.ImageFileDirectory_v2:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    for name, (kind, value) in tags.items():
        tag = {"orientation": 274, "xmp": 700}[name]
        info.tagtype[tag] = kind
        info[tag] = value
    return info


def turned_files() -> dict[str, bytes]:
    """Return files whose orientation, 6, is in unusual places."""
    image = Image.fromarray(RGB)
    lossless = {"lossless": True}
    files = {
        "PNG raw profile": encode(image, "PNG", pnginfo=raw_profile("tEXt")),
        "PNG packed raw profile": encode(image, "PNG", pnginfo=raw_profile("zTXt")),
        "PNG XMP": encode(image, "PNG", pnginfo=xmp_text()),
        "JPEG XMP": encode(image, "JPEG", quality=100, subsampling=0, xmp=XMP),
        "WebP XMP": encode(image, "WEBP", xmp=XMP, **lossless),
        "TIFF XMP": encode(image, "TIFF", tiffinfo=with_tags(xmp=(1, XMP))),
        "TIFF BYTE": encode(image, "TIFF", tiffinfo=with_tags(orientation=(1, 6))),
        "TIFF LONG": encode(image, "TIFF", tiffinfo=with_tags(orientation=(4, 6))),
    }
    for kind, name in ((1, "BYTE"), (3, "SHORT"), (4, "LONG")):
        block = exif_block(kind)
        files[f"JPEG {name}"] = encode(image, "JPEG", quality=100, subsampling=0, exif=b"Exif\0\0" + block)
        files[f"PNG {name}"] = encode(image, "PNG", exif=block)
        files[f"WebP {name}"] = encode(image, "WEBP", exif=block, **lossless)
    return files


def test_orientation_in_unusual_places_is_the_same_by_path_and_by_pil(tmp_path):
    for name, data in turned_files().items():
        path = tmp_path / "turned"
        path.write_bytes(data)
        tolerance = 4 if name.startswith("JPEG") else 0
        assert far(read_image(path), TURNED) <= tolerance, name
        with Image.open(path) as image:
            assert far(read_image(image), TURNED) <= tolerance, name


def test_exif_comes_before_xmp():
    image, block = Image.fromarray(RGB), exif_block().replace(b"\0\6\0\0", b"\0\3\0\0")
    for format, options in (("JPEG", {"quality": 100, "subsampling": 0}), ("WEBP", {"lossless": True})):
        data = encode(image, format, exif=b"Exif\0\0" + block, xmp=XMP, **options)
        assert far(read_image(data), RGB[::-1, ::-1]) <= 4
        with Image.open(io.BytesIO(data)) as second:
            assert far(read_image(second), RGB[::-1, ::-1]) <= 4


def test_packed_text_that_expands_is_not_unpacked_whole():
    bomb = zlib.compress(bytes(2**28))
    info = PngImagePlugin.PngInfo()
    info.add(b"zTXt", b"Raw profile type exif\0\0" + bomb)
    assert far(read_image(encode(Image.fromarray(RGB), "PNG", pnginfo=info)), RGB) == 0


def test_large_jpeg_2000_is_refused():
    data = encode(Image.fromarray(RGB), "JPEG2000", no_jp2=True)
    large = data[:8] + (6000).to_bytes(4, "big") * 2 + data[16:]  # SIZ: the width and height of the grid
    large = large[:24] + (6000).to_bytes(4, "big") * 2 + large[32:]  # one tile as large
    with pytest.raises(ImageError, match="6000 x 6000 pixels, which needs too much memory"):
        read_image(large)
