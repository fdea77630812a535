"""Every documented variant of TIFF, BMP, PNG, JPEG and WebP is read right, or refused.

The second readers are tifffile with imagecodecs, the arrays that the files were written from, and Pillow.
Cells in AMBIGUOUS have no single right answer, and say which one is taken.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from faceum.errors import ImageError
from faceum.image import read_image

HEIGHT, WIDTH = 36, 52
Y, X = np.mgrid[0:HEIGHT, 0:WIDTH]
RGB = np.stack([X * 4 + 20, Y * 6, 230 - X * 2 - Y * 3], axis=-1).astype(np.uint8)
ALPHA = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))

AMBIGUOUS = {
    "BMP of 32 bits without masks: its fourth byte is unused, not alpha",
    "BMP whose alpha mask covers bytes that are all 0: transparent, so white",
    "TIFF with a fourth channel of no stated meaning (ExtraSamples 0): ignored",
    "animated WebP whose first frame leaves a part of the canvas free: that part is transparent, so white",
    "16-bit or 4-bit PNG with a transparent colour, opened by Pillow: Pillow loses which one it is",
}


def on_white(colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Composite 8-bit colours over white."""
    part = alpha[..., None] / 255
    return np.round(colour * part + 255 * (1 - part))


def far(data: bytes, expected: np.ndarray) -> float | None:
    """Return the largest difference from the expected pixels, or None if the file is refused."""
    try:
        found = read_image(data)
    except ImageError as error:
        assert str(error).endswith(".") and "\n" not in str(error)
        return None
    assert found.shape == expected.shape
    return float(np.abs(found.astype(float) - expected).max())


# --- TIFF --------------------------------------------------------------------------------------------------

PACKED = ["none", "lzw", "deflate", "packbits", "jpeg", "jpeg2000", "png", "jpegxr", "jpegxl", "webp", "zstd",
          "lzma", "lerc"]  # fmt: skip
LAYOUTS = {
    "gray": "minisblack",
    "inverted": "miniswhite",
    "rgb": "rgb",
    "rgba": "rgb",
    "gray-alpha": "minisblack",
}
USUAL = {"none", "lzw", "deflate", "packbits"}
TIFF_READ = {  # bits, layout, planes -> how it may be packed; all others are refused
    **{(8, layout, "contig"): USUAL | {"jpeg", "zstd", "lzma"} for layout in LAYOUTS},
    **{(8, layout, "separate"): USUAL | {"jpeg", "zstd", "lzma"} for layout in ("rgb", "rgba")},
    **{(16, layout, "contig"): USUAL for layout in ("gray", "rgb", "rgba")},
}  # fmt: skip


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.filterwarnings("ignore")
def test_tiff_variants_are_right_or_refused(bits, layout):
    tifffile = pytest.importorskip("tifffile")
    pytest.importorskip("imagecodecs")
    scale = 1 if bits == 8 else 257
    dtype = np.uint8 if bits == 8 else np.uint16
    colour = RGB if "rgb" in layout else RGB[..., :1]
    channels = np.dstack([colour, ALPHA]) if layout in ("rgba", "gray-alpha") else colour
    shown = 255 - RGB[..., :1] if layout == "inverted" else colour
    shown = np.repeat(shown, 3, axis=2) if shown.shape[2] == 1 else shown
    expected = on_white(shown, ALPHA) if channels.shape[2] in (2, 4) else shown.astype(float)
    stored = np.squeeze(channels.astype(dtype) * dtype(scale))
    written = 0
    planes = ("contig", "separate") if stored.ndim == 3 else ("contig",)
    cells = itertools.product(planes, PACKED, (False, True), ((), (16, 32)), "<>")
    for plane, packed, predictor, tile, order in cells:
        options = {"photometric": LAYOUTS[layout], "byteorder": order, "metadata": None}
        options |= {"tile": tile} if tile else {"rowsperstrip": 16}
        options |= {"compression": packed} if packed != "none" else {}
        options |= {"compressionargs": {"level": 98}} if packed in ("jpeg", "jpegxr", "webp") else {}
        options |= {"predictor": True} if predictor else {}
        options |= {"extrasamples": ["unassalpha"]} if channels.shape[2] in (2, 4) else {}
        options |= {"planarconfig": plane} if stored.ndim == 3 else {}
        buffer = io.BytesIO()
        try:
            planar = np.ascontiguousarray(np.moveaxis(stored, -1, 0)) if plane == "separate" else stored
            tifffile.imwrite(buffer, planar, **options)
        except (ValueError, TypeError, KeyError, RuntimeError):
            continue  # tifffile does not write this cell
        written += 1
        difference = far(buffer.getvalue(), expected)
        cell = (bits, layout, plane, packed, predictor, tile, order)
        allowed = packed in TIFF_READ.get((bits, layout, plane), ())
        if predictor and packed in ("none", "packbits", "jpeg"):
            allowed = False
        if difference is None:
            assert not allowed, cell
        elif packed == "jpeg":  # lossy, and as RGB of halved colour by default: compared with Pillow
            with Image.open(io.BytesIO(buffer.getvalue())) as image:
                second = read_image(image)
            assert difference <= 90 and far(buffer.getvalue(), second) == 0, cell
        else:
            assert difference <= 1, cell
            assert allowed, cell
    assert written > 30


def test_tiff_of_other_numbers_and_colours_is_refused_by_name():
    tifffile = pytest.importorskip("tifffile")
    for stored, options, name in [
        (np.zeros((9, 9), np.float32), {}, "floating-point"),
        (np.zeros((9, 9, 3), np.float16), {"photometric": "rgb"}, "floating-point"),
        (np.zeros((9, 9), np.int16), {}, "signed"),
        (np.zeros((9, 9), np.uint32), {}, "32 bits"),
        (np.zeros((9, 9, 3), np.uint8), {"photometric": "cielab"}, "CIELab"),
        (
            np.zeros((3, 9, 9), np.uint16),
            {"photometric": "rgb", "planarconfig": "separate"},
            "separate planes",
        ),
        (np.zeros((9, 9), np.uint16), {"photometric": "miniswhite"}, "16 bits"),
    ]:
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, stored, metadata=None, **options)
        with pytest.raises(ImageError, match=name):
            read_image(buffer.getvalue())


def test_damaged_strips_of_a_tiff_are_refused(capfd):
    for mode, compression in itertools.product(("RGB", "I;16"), ("tiff_lzw", "tiff_deflate")):
        noisy = np.random.default_rng(0).integers(0, 255, RGB.shape, np.uint8)
        image = Image.fromarray(noisy if mode == "RGB" else noisy[..., 0].astype(np.uint16) * 257)
        buffer = io.BytesIO()
        image.save(buffer, "TIFF", compression=compression)
        damaged = bytearray(buffer.getvalue())
        damaged[1000:1200] = b"\xff" * 200  # neither codes of LZW nor blocks of deflate
        with pytest.raises(ImageError):
            read_image(bytes(damaged))
    assert capfd.readouterr().err == ""


# --- BMP ---------------------------------------------------------------------------------------------------


def bmp(pixels: np.ndarray, *, compression: int = 0, masks: tuple[int, ...] = (), header: int = 40,
        palette: bytes = b"", top_down: bool = False, bits: int | None = None) -> bytes:  # fmt: skip
    """Return an uncompressed BMP of rows of numbers (h, w) or bytes (h, w, c)."""
    height, width = pixels.shape[:2]
    rows = pixels if top_down else pixels[::-1]
    body = b"".join(row.tobytes() + bytes(-len(row.tobytes()) % 4) for row in rows)
    bits = bits or 8 * pixels[0, 0].nbytes
    start = struct.pack("<IiiHHIIiiII", header, width, -height if top_down else height, 1, bits, compression,
                        len(body), 0, 0, len(palette) // 4, 0)  # fmt: skip
    after = struct.pack(f"<{len(masks)}I", *masks)
    if header > 40:
        start, after = (start + after).ljust(header, b"\0"), b""
    offset = 14 + len(start) + len(after) + len(palette)
    return b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + start + after + palette + body


def five(values: np.ndarray, bits: int) -> np.ndarray:
    return values.astype(int) >> (8 - bits)


@pytest.mark.parametrize("fourth", [0, 128, 255])
@pytest.mark.parametrize("header", [40, 52, 56, 108, 124])
def test_bmp_of_32_bits(header, fourth):
    stored = np.dstack([RGB[..., ::-1], np.full((HEIGHT, WIDTH), fourth, np.uint8)])
    usual = (0xFF0000, 0xFF00, 0xFF)
    assert far(bmp(stored, header=header), RGB) == 0  # its fourth byte is unused
    no_alpha = (*usual, 0) if header >= 56 else usual
    assert far(bmp(stored, compression=3, masks=no_alpha, header=header), RGB) == 0
    swapped = (0xFF, 0xFF00, 0xFF0000, 0)[: len(no_alpha)]
    assert far(bmp(stored[..., [2, 1, 0, 3]], compression=3, masks=swapped, header=header), RGB) == 0
    if header >= 56:
        data = bmp(stored, compression=3, masks=(*usual, 0xFF000000), header=header)
        assert far(data, on_white(RGB, stored[..., 3])) <= 1
    ten = five(RGB[..., 0], 8) << 22 | five(RGB[..., 1], 8) << 12 | five(RGB[..., 2], 8) << 2
    data = bmp(ten.astype("<u4"), compression=3, masks=(0x3FF00000, 0xFFC00, 0x3FF), header=header)
    assert far(data, RGB) <= 1
    unlike = (
        (RGB[..., 0].astype(int) << 24)
        | (RGB[..., 1].astype(int) >> 1)
        | (RGB[..., 2].astype(int) >> 2 << 16)
    )
    data = bmp(unlike.astype("<u4"), compression=3, masks=(0xFF000000, 0x7F, 0x3F0000), header=header)
    assert far(data, RGB) <= 4
    damaged = bmp(stored, compression=3, masks=(0xFF0000, 0xF0F0, 0xFF), header=header)
    with pytest.raises(ImageError, match="colour mask 0xf0f0"):
        read_image(damaged)


@pytest.mark.parametrize("header", [40, 52, 56, 108, 124])
def test_bmp_of_16_bits(header):
    for red, green, blue, masks in [
        (5, 5, 5, (0x7C00, 0x3E0, 0x1F)),
        (5, 6, 5, (0xF800, 0x7E0, 0x1F)),
        (4, 4, 4, (0xF00, 0xF0, 0xF)),
    ]:
        parts = [five(RGB[..., at], bits) for at, bits in enumerate((red, green, blue))]
        number = (parts[0] << (green + blue) | parts[1] << blue | parts[2]).astype("<u2")
        expected = np.stack(
            [part * 255 / (2**bits - 1) for part, bits in zip(parts, (red, green, blue), strict=True)], -1
        )
        assert far(bmp(number, compression=3, masks=masks, header=header), expected) <= 1
        if green == 5:
            assert far(bmp(number, header=header), expected) <= 1


def test_bmp_of_24_bits_palettes_and_the_old_header():
    assert far(bmp(RGB[..., ::-1]), RGB) == 0
    assert far(bmp(RGB[..., ::-1], top_down=True), RGB) == 0
    assert far(bmp(RGB[..., ::-1], header=124), RGB) == 0
    colours = np.random.default_rng(0).integers(0, 256, (256, 4), np.uint8)
    index = ((X + 3 * Y) % 256).astype(np.uint8)
    assert far(bmp(index, palette=colours.tobytes()), colours[index][..., 2::-1]) == 0
    half = index % 16
    packed = half[:, ::2] << 4 | half[:, 1::2]
    data = bytearray(bmp(packed, palette=colours[:16].tobytes(), bits=4))
    data[18:22] = struct.pack("<i", WIDTH)
    assert far(bytes(data), colours[half][..., 2::-1]) == 0
    one = np.packbits(index % 2, axis=1)
    data = bytearray(bmp(one, palette=colours[:2].tobytes(), bits=1))
    data[18:22] = struct.pack("<i", WIDTH)
    assert far(bytes(data), colours[index % 2][..., 2::-1]) == 0
    body = RGB[::-1, :, ::-1].tobytes()  # 52 pixels of 3 bytes need no filling up
    old = b"BM" + struct.pack("<IHHIIHHHH", 26 + len(body), 0, 0, 26, 12, WIDTH, HEIGHT, 1, 24) + body
    assert far(old, RGB) == 0


def test_bmp_with_run_lengths():
    colours = np.random.default_rng(0).integers(0, 256, (256, 4), np.uint8)
    index = ((X // 3 + 3 * Y) % 16).astype(np.uint8)
    for bits, literal in ((8, False), (8, True), (4, False)):
        body = b""
        for row in index[::-1]:
            if literal:
                body += bytes([0, WIDTH]) + row.tobytes() + b"\0\0"
            else:
                body += b"".join(bytes([1, value if bits == 8 else value << 4]) for value in row) + b"\0\0"
        body += b"\0\1"
        palette = colours[: 2**bits].tobytes()
        start = struct.pack("<IiiHHIIiiII", 40, WIDTH, HEIGHT, 1, bits, 1 if bits == 8 else 2, len(body),
                            0, 0, 2**bits, 0)  # fmt: skip
        offset = 54 + len(palette)
        data = b"BM" + struct.pack("<IHHI", offset + len(body), 0, 0, offset) + start + palette + body
        assert far(data, colours[index][..., 2::-1]) == 0


@pytest.mark.parametrize(("compression", "name"), [(4, "JPEG"), (5, "PNG"), (6, "alpha masks")])
def test_bmp_with_another_file_inside_is_refused_by_name(compression, name):
    with pytest.raises(ImageError, match=name):
        read_image(bmp(RGB, compression=compression))


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"header": 48}, "header of 48 bytes"),
        ({"header": 64, "compression": 3}, "Huffman"),
        ({"header": 64, "compression": 4}, "24 bits"),
        ({"bits": 2}, "2 bits a pixel"),
        ({"bits": 64}, "64 bits a pixel"),
    ],
)
def test_bmp_that_no_decoder_here_reads_is_refused_by_name(options, name):
    with pytest.raises(ImageError, match=name):
        read_image(bmp(RGB, **options))


# --- PNG ---------------------------------------------------------------------------------------------------

ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed_rows(values: np.ndarray, bits: int) -> bytes:
    """Return numbers (h, w, c) as rows of `bits` each, every row behind its filter byte."""
    rows = values.reshape(len(values), -1)
    if bits >= 8:
        return b"".join(b"\0" + row.astype(">u2" if bits == 16 else np.uint8).tobytes() for row in rows)
    planes = (rows[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return b"".join(b"\0" + np.packbits(row.astype(np.uint8).ravel()).tobytes() for row in planes)


def png(values: np.ndarray, bits: int, colour: int, interlaced: bool, *before: bytes) -> bytes:
    """Return a PNG of numbers (h, w, c)."""
    if interlaced:
        parts = [values[y::down, x::right] for x, y, right, down in ADAM7]
        raw = b"".join(packed_rows(part, bits) for part in parts if part.size)
    else:
        raw = packed_rows(values, bits)
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, colour, 0, 0, interlaced)
    chunks = (chunk(b"IHDR", head), *before, chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("clear", [False, True])
@pytest.mark.parametrize(
    ("colour", "bits"),
    [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (2, 8), (2, 16), (3, 1), (3, 2), (3, 4), (3, 8), (4, 8),
     (4, 16), (6, 8), (6, 16)],
)  # fmt: skip
def test_png_variants(colour, bits, clear, interlaced):
    """colour: 0 gray, 2 RGB, 3 palette, 4 gray and alpha, 6 RGB and alpha. clear: with a tRNS chunk."""
    if clear and colour in (4, 6):
        pytest.skip("tRNS is not allowed here")
    channels, top = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour], 2**bits - 1
    y, x = np.mgrid[0:9, 0:13]
    values = np.stack(
        [(x * (31 + 7 * c) + y * (53 + 11 * c) + c) % (top + 1) for c in range(channels)], axis=-1
    )
    before, alpha = [], np.full((9, 13), 255)
    shown = np.round(values * 255 / top)
    if colour == 3:
        palette = np.random.default_rng(1).integers(0, 256, (top + 1, 3)).astype(np.uint8)
        before.append(chunk(b"PLTE", palette.tobytes()))
        shown = palette[values[..., 0]]
        if clear:
            levels = np.linspace(0, 255, top + 1).astype(np.uint8)[: max(1, top)]
            before.append(chunk(b"tRNS", levels.tobytes()))
            alpha = np.append(levels, [255] * (top + 1 - len(levels)))[values[..., 0]]
    elif clear:
        before.append(chunk(b"tRNS", values[2, 3].astype(">u2").tobytes()))
        alpha = np.where((values == values[2, 3]).all(axis=-1), 0, 255)
    if colour in (4, 6):
        shown, alpha = shown[..., :-1], shown[..., -1]
    if shown.shape[2] == 1:
        shown = np.repeat(shown, 3, axis=2)
    assert far(png(values, bits, colour, interlaced, *before), on_white(shown, alpha)) <= 1


def test_noise_about_chunks_that_make_no_pixels_is_not_heard(capfd):
    values = RGB.astype(int)
    before = [
        chunk(b"iCCP", b"x\0\0" + zlib.compress(b"no profile")),
        chunk(b"gAMA", bytes(4)),
        chunk(b"sRGB", b"\x09"),
    ]
    assert far(png(values, 8, 2, False, *before, *before), RGB) == 0
    assert capfd.readouterr().err == ""


def test_png_with_wrong_checksum_is_refused(capfd):
    data = bytearray(png(RGB.astype(int), 8, 2, False))
    data[len(data) // 2] ^= 1
    with pytest.raises(ImageError, match="checksum"):
        read_image(bytes(data))
    large = bytearray(png(np.zeros((1, 1, 3), int), 8, 2, False))
    large[16:24] = struct.pack(">II", 9000, 9000)
    large[29:33] = struct.pack(">I", zlib.crc32(large[12:29]))
    with pytest.raises(ImageError, match="too early"):
        read_image(bytes(large))
    assert capfd.readouterr().err == ""


# --- JPEG --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("restart", [0, 3])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_variants_equal_pillow(mode, restart, subsampling, progressive):
    buffer = io.BytesIO()
    options = {"subsampling": subsampling} if mode != "L" else {}
    Image.fromarray(RGB).convert(mode).save(
        buffer, "JPEG", quality=95, progressive=progressive, restart_marker_blocks=restart, **options
    )
    with Image.open(io.BytesIO(buffer.getvalue())) as image:
        second = np.asarray(image.convert("RGB")).astype(float)
    assert far(buffer.getvalue(), second) <= 3


def test_jpegs_that_no_decoder_here_reads_are_called_by_name():
    codecs = pytest.importorskip("imagecodecs")
    deep = RGB.astype(np.uint16) << 4
    for name, encode in [
        ("JPEG-LS", lambda: codecs.jpegls_encode(RGB)),
        ("lossless JPEG", lambda: codecs.ljpeg_encode(deep[..., 0], bitspersample=12)),
        ("12-bit JPEG", lambda: codecs.jpeg8_encode(deep, bitspersample=12)),
    ]:
        data = bytes(encode())
        assert data[:3] == b"\xff\xd8\xff"
        with pytest.raises(ImageError, match=name):
            read_image(data)


@pytest.mark.parametrize(("marker", "name"), [(0xC3, "lossless"), (0xC5, "hierarchical"), (0xF7, "JPEG-LS")])
def test_other_jpeg_processes_are_called_by_name(marker, name):
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, "JPEG")
    data = buffer.getvalue().replace(b"\xff\xc0", bytes([0xFF, marker]))
    with pytest.raises(ImageError, match=name):
        read_image(data)


# --- WebP --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("animated", [False, True])
@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("transparency", ["none", "half", "binary", "colours kept", "all"])
@pytest.mark.parametrize("extra", ["none", "exif", "icc", "odd size"])
def test_webp_variants(transparency, lossless, animated, extra):
    """Lossy, lossless and animated, with alpha of all kinds, behind the plain and the extended header."""
    if animated and int(cv2.__version__.split(".")[0]) < 5:
        pytest.skip("OpenCV 4 reads no animated WebP")
    colour = RGB[:35, :51] if extra == "odd size" else RGB
    alpha = {
        "none": np.full_like(ALPHA, 255), "half": ALPHA, "binary": (ALPHA > 127) * np.uint8(255),
        "colours kept": ALPHA, "all": np.zeros_like(ALPHA),
    }[transparency][: len(colour), : colour.shape[1]]  # fmt: skip
    pixels = colour if transparency == "none" else np.dstack([colour, alpha])
    options = {"lossless": lossless, "quality": 100, "exact": transparency == "colours kept"}
    if extra == "exif":
        exif = Image.Exif()
        exif[0x010E] = "a description"
        options["exif"] = exif.tobytes()
    if extra == "icc":
        options["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if animated:
        options |= {"save_all": True, "append_images": [Image.fromarray(255 - pixels)], "duration": 40}
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", **options)
    with Image.open(io.BytesIO(buffer.getvalue())) as image:
        assert getattr(image, "n_frames", 1) == 1 + animated
        second = np.asarray(image.convert("RGBA")).astype(float)
    expected = on_white(second[..., :3], second[..., 3])
    if animated:
        expected[alpha == 0] = 255  # Pillow's files have no frame there, and Pillow reads that as black
    difference = far(buffer.getvalue(), expected)
    assert difference is not None and difference <= (1 if lossless else 3)
    if lossless:
        assert far(buffer.getvalue(), on_white(colour, alpha)) <= 1
