"""Images come out upright, RGB and whole from every format and source; all others are one sentence."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from faceum.errors import ImageError, OutputError
from faceum.image import read_image, source_name, write_image

HEIGHT, WIDTH = 36, 52


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    """An image without any symmetry, smooth enough for lossy formats."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([x * 4 + 20, y * 6, 230 - x * 2 - y * 3], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def image(rgb) -> Image.Image:
    return Image.fromarray(rgb)


def encode(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def far(first: np.ndarray, second: np.ndarray) -> int:
    """The largest difference of two images of the same shape."""
    assert first.dtype == np.uint8
    assert first.shape == second.shape
    return int(np.abs(first.astype(int) - second).max())


# --- formats ---------------------------------------------------------------------------------------------

# What to save, how, and how far the pixels may lie from Pillow's reading of the same file.
FORMATS: dict[str, tuple[str, str, dict, int]] = {
    "jpeg": ("RGB", "JPEG", {"quality": 95}, 2),
    "jpeg progressive": ("RGB", "JPEG", {"progressive": True}, 2),
    "jpeg gray": ("L", "JPEG", {}, 1),
    "jpeg cmyk": ("CMYK", "JPEG", {"quality": 95}, 2),
    "png": ("RGB", "PNG", {}, 0),
    "png gray": ("L", "PNG", {}, 0),
    "png palette": ("P", "PNG", {}, 0),
    "png one bit": ("1", "PNG", {}, 0),
    "webp": ("RGB", "WEBP", {}, 2),
    "webp lossless": ("RGB", "WEBP", {"lossless": True}, 0),
    "bmp": ("RGB", "BMP", {}, 0),
    "bmp gray": ("L", "BMP", {}, 0),
    "bmp palette": ("P", "BMP", {}, 0),
    "bmp one bit": ("1", "BMP", {}, 0),
    "tiff": ("RGB", "TIFF", {}, 0),
    "tiff gray": ("L", "TIFF", {}, 0),
    "tiff palette": ("P", "TIFF", {}, 0),
    "tiff one bit": ("1", "TIFF", {}, 0),
    "tiff lzw": ("RGB", "TIFF", {"compression": "tiff_lzw"}, 0),
    "tiff deflate": ("RGB", "TIFF", {"compression": "tiff_deflate"}, 0),
    "tiff big": ("RGB", "TIFF", {"big_tiff": True}, 0),
    "tiff cmyk": ("CMYK", "TIFF", {}, 2),
}


@pytest.mark.parametrize("case", FORMATS)
def test_formats_equal_pillow(case, image):
    mode, format, options, tolerance = FORMATS[case]
    data = encode(image.convert(mode), format, **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert far(read_image(data), expected) <= tolerance
    assert far(read_image(Image.open(io.BytesIO(data))), expected) == 0


def test_paths_bytes_and_arrays_give_the_same(tmp_path, rgb, image):
    data = encode(image, "PNG")
    path = tmp_path / "an image.png"
    path.write_bytes(data)
    sources = [path, str(path), data, bytearray(data), memoryview(data), image, Image.open(path), rgb]
    for source in sources:
        found = read_image(source)
        assert found.flags.c_contiguous
        assert found.flags.writeable
        np.testing.assert_array_equal(found, rgb)


def test_content_decides_not_the_name(tmp_path, rgb, image):
    path = tmp_path / "is-a-png.jpg"
    path.write_bytes(encode(image, "PNG"))
    np.testing.assert_array_equal(read_image(path), rgb)


def strip_adobe(data: bytes) -> bytes:
    """The JPEG without its Adobe marker."""
    start = data.index(b"\xff\xee")
    length = int.from_bytes(data[start + 2 : start + 4], "big")
    return data[:start] + data[start + 2 + length :]


def as_ycck(data: bytes) -> bytes:
    """The JPEG whose Adobe marker calls the four channels YCCK."""
    transform = data.index(b"Adobe") + 11
    return data[:transform] + b"\x02" + data[transform + 1 :]


@pytest.mark.parametrize("change", [bytes, strip_adobe, as_ycck])
def test_cmyk_jpeg_of_every_kind_equals_pillow(change, image):
    cmyk = image.convert("CMYK")
    black = Image.fromarray(np.tile(np.arange(WIDTH, dtype=np.uint8) * 2, (HEIGHT, 1)))
    data = change(encode(Image.merge("CMYK", (*cmyk.split()[:3], black)), "JPEG", quality=95))
    expected = Image.open(io.BytesIO(data))
    assert expected.mode == "CMYK"
    assert far(read_image(data), np.asarray(expected.convert("RGB"))) <= 3


@pytest.mark.parametrize("extension", [".png", ".tiff"])
def test_sixteen_bits_become_eight(extension, rgb):
    deep = rgb.astype(np.uint16) * 257
    for stored, expected in ((deep[..., ::-1], rgb), (deep[..., 0], np.repeat(rgb[..., :1], 3, axis=2))):
        _, encoded = cv2.imencode(extension, stored)
        data = encoded.tobytes()
        np.testing.assert_array_equal(read_image(data), expected)
        assert far(read_image(Image.open(io.BytesIO(data))), expected) == 0


def test_sixteen_bits_are_rounded():
    values = np.array([[0, 128, 129, 65406, 65407, 65535]], np.uint16)
    _, encoded = cv2.imencode(".png", values)
    assert read_image(encoded.tobytes())[0, :, 0].tolist() == [0, 0, 1, 254, 255, 255]


def on_white(rgba: np.ndarray) -> np.ndarray:
    alpha = rgba[..., 3:] / 255
    return np.round(rgba[..., :3] * alpha + 255 * (1 - alpha)).astype(np.uint8)


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True, "exact": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
def test_transparent_parts_show_white(format, options, rgb):
    alpha = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
    rgba = np.dstack([rgb, alpha])
    data = encode(Image.fromarray(rgba), format, **options)
    assert far(read_image(data), on_white(rgba)) <= 1
    assert far(read_image(Image.open(io.BytesIO(data))), on_white(rgba)) == 0
    assert far(read_image(rgba), on_white(rgba)) == 0


def test_transparency_of_sixteen_bits_gray_and_palettes(rgb, image):
    alpha = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
    rgba = np.dstack([rgb, alpha])
    for extension in (".png", ".tiff"):
        _, encoded = cv2.imencode(extension, rgba[..., [2, 1, 0, 3]].astype(np.uint16) * 257)
        assert far(read_image(encoded.tobytes()), on_white(rgba)) <= 1
    gray = Image.fromarray(np.dstack([rgb[..., 0], alpha]))
    expected = on_white(np.dstack([rgb[..., :1].repeat(3, axis=2), alpha]))
    assert far(read_image(encode(gray, "PNG")), expected) <= 1
    assert far(read_image(gray), expected) <= 1
    palette = image.quantize(16)
    data = encode(palette, "PNG", transparency=3)
    expected = on_white(np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")))
    assert (expected == 255).all(axis=-1).any()
    assert far(read_image(data), expected) == 0
    assert far(read_image(Image.open(io.BytesIO(data))), expected) == 0


@pytest.mark.parametrize("mode", ["HSV", "YCbCr", "LAB", "PA", "La", "RGBa", "1", "P", "I;16", "I"])
def test_every_pil_mode_gives_an_image(mode, image):
    if mode.startswith("I"):
        source = Image.fromarray(np.full((4, 5), 65535, np.uint16)).convert(mode)
        assert (read_image(source) == 255).all()
    else:
        source = image.convert("RGBA").convert("LA" if mode in ("La", "PA") else "RGBA")
        source = (source if mode in ("La", "RGBa", "PA") else image).convert(mode)
        assert read_image(source).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("format", ["TIFF", "PNG", "WEBP"])
def test_first_of_several_images_is_read(format, rgb, image):
    if format == "WEBP" and int(cv2.__version__.split(".")[0]) < 5:
        pytest.skip("OpenCV 4 reads no animated WebP")
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode(image, format, save_all=True, append_images=[image.rotate(180)], **options)
    np.testing.assert_array_equal(read_image(data), rgb)


# --- orientation -----------------------------------------------------------------------------------------


LEAST_LOSS = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}


def turned(image: Image.Image, orientation: int, format: str) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return encode(image, format, exif=exif, **LEAST_LOSS.get(format, {}))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_of_every_format_and_source(format, orientation, tmp_path, image):
    data = turned(image, orientation, format)
    upright = Image.fromarray(np.asarray(image))
    upright.getexif()[274] = orientation
    expected = np.asarray(ImageOps.exif_transpose(upright))
    path = tmp_path / "turned.bin"
    path.write_bytes(data)
    for source in (data, path, str(path), Image.open(path)):
        assert far(read_image(source), expected) <= (10 if format == "JPEG" else 0)


def plain_tiff(rgb: np.ndarray, orientation: int, order: str, kind: str) -> bytes:
    """An uncompressed TIFF written by hand; its orientation a 16-bit ("H") or a 32-bit ("I") number."""
    height, width = rgb.shape[:2]
    fields = [
        (256, "H", width), (257, "H", height), (258, "H", 8), (259, "H", 1), (262, "H", 2), (273, "I", 8),
        (274, kind, orientation), (277, "H", 3), (278, "H", height), (279, "I", rgb.size),
    ]  # fmt: skip
    directory = struct.pack(order + "H", len(fields))
    for tag, letter, value in fields:
        entry = struct.pack(order + "HHI" + letter, tag, {"H": 3, "I": 4}[letter], 1, value)
        directory += entry.ljust(12, b"\0")
    start = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 8 + rgb.size)
    return start + rgb.tobytes() + directory + bytes(4)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", ["H", "I"])
def test_tiff_of_both_byte_orders_is_turned_once(order, kind, rgb):
    data = plain_tiff(rgb, 6, order, kind)
    assert far(read_image(data), np.rot90(rgb, -1)) == 0


def test_invalid_orientation_is_ignored(rgb, image):
    for block in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0" + b"\0" * 40):
        assert far(read_image(encode(image, "JPEG", quality=95, exif=block)), rgb) <= 10
    assert far(read_image(turned(image, 9, "PNG")), rgb) == 0


# --- arrays ----------------------------------------------------------------------------------------------


def test_arrays_of_every_shape(rgb):
    gray = rgb[..., 0]
    expected = np.repeat(gray[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_image(gray), expected)
    np.testing.assert_array_equal(read_image(gray[..., None]), expected)
    np.testing.assert_array_equal(read_image(rgb[..., ::-1], bgr=True), rgb)
    rgba = np.dstack([rgb, np.full((HEIGHT, WIDTH), 255, np.uint8)])
    np.testing.assert_array_equal(read_image(rgba), rgb)
    np.testing.assert_array_equal(read_image(rgba[..., [2, 1, 0, 3]], bgr=True), rgb)
    np.testing.assert_array_equal(read_image(rgb[:, ::-1]), rgb[:, ::-1])


def test_bgr_speaks_of_arrays_only(rgb, image):
    np.testing.assert_array_equal(read_image(image, bgr=True), rgb)
    np.testing.assert_array_equal(read_image(encode(image, "PNG"), bgr=True), rgb)


def test_answer_is_the_callers_own(rgb):
    given = rgb.copy()
    read_image(given)[:] = 0
    np.testing.assert_array_equal(given, rgb)


@pytest.mark.parametrize("shape", [(1, 1), (100, 20_000), (20_000, 100)])
def test_odd_sizes_are_images(shape):
    plain = np.full((*shape, 3), 99, np.uint8)
    np.testing.assert_array_equal(read_image(encode(Image.fromarray(plain), "PNG")), plain)
    np.testing.assert_array_equal(read_image(plain), plain)


# --- hostile ---------------------------------------------------------------------------------------------


def sentence_of(source, **options) -> str:
    """The one sentence with which a source is refused."""
    with pytest.raises(ImageError) as caught:
        read_image(source, **options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_files_are_refused_wherever_they_end(format, progressive, tmp_path, image):
    data = encode(image, format, **({"progressive": True} if progressive and format == "JPEG" else {}))
    path = tmp_path / "cut.jpg"
    ends = {*range(1, len(data) - 1, max(1, len(data) // 60)), len(data) - 2, len(data) - 1}
    for end in sorted(ends):
        path.write_bytes(data[:end])
        assert sentence_of(path).startswith(str(path))
    if format != "WEBP":  # which Pillow refuses to open at all
        assert "PIL image" in sentence_of(Image.open(io.BytesIO(data[: len(data) * 4 // 5])))


def test_jpeg_whose_end_is_zeros_is_refused(image):
    data = encode(image, "JPEG")
    half = len(data) * 3 // 4
    assert "ends too early" in sentence_of(data[:half] + b"\0" * (len(data) - half))


def test_bytes_after_a_jpegs_end_do_no_harm(rgb, image):
    assert far(read_image(encode(image, "JPEG", quality=95) + b"\xff\xd8\xff trailer"), rgb) <= 10


@pytest.mark.parametrize("orientation", [1, 6])
def test_thumbnails_end_is_not_the_images_end(orientation, image):
    """A whole JPEG inside the EXIF block must not hide that the outer one is cut."""
    thumbnail = encode(image.resize((8, 8)), "JPEG")
    exif = Image.Exif()
    exif[274] = orientation
    data = encode(image, "JPEG", exif=exif.tobytes() + thumbnail)
    assert read_image(data).shape == ((HEIGHT, WIDTH, 3) if orientation == 1 else (WIDTH, HEIGHT, 3))
    assert "ends too early" in sentence_of(data[:-40])


def test_empty_random_and_foreign_bytes(tmp_path):
    random = np.random.default_rng(0).bytes(2000)
    path = tmp_path / "face.png"
    for content, word in [
        (b"", "empty"), (random, "not an image"), (b"hello", "not an image"),
        (b"GIF89a" + random, "GIF"), (b"%PDF-1.7" + random, "PDF"), (b"\0\0\0\x18ftypheic" + random, "HEIC"),
        (b"BM" + random, "not an image"),
    ]:  # fmt: skip
        path.write_bytes(content)
        assert word in sentence_of(path)
        assert word in sentence_of(content)
    assert str(path) in sentence_of(path)


def test_folders_and_missing_files(tmp_path):
    assert "is a folder" in sentence_of(tmp_path)
    assert "does not exist" in sentence_of(tmp_path / "none.jpg")
    assert "none.jpg" in sentence_of(str(tmp_path / "none.jpg"))
    assert "folder" in sentence_of("")
    assert "regular file" in sentence_of("/dev/null")
    sentence_of("a\0b.png")


def test_bomb_that_expands_is_refused():
    side = 15_000
    assert "15000 x 15000" in sentence_of(encode(Image.new("1", (side, side)), "PNG"))


def test_limit_can_be_set_and_holds_for_every_source(tmp_path, rgb, image):
    path = tmp_path / "a.png"
    path.write_bytes(encode(image, "PNG"))
    for source in (path, path.read_bytes(), image, rgb):
        assert "52 x 36" in sentence_of(source, max_pixels=HEIGHT * WIDTH - 1)
        assert read_image(source, max_pixels=HEIGHT * WIDTH).shape == rgb.shape


def test_oversized_file_is_not_read(tmp_path):
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        file.truncate(2**40)
    assert "larger than any image" in sentence_of(path, max_pixels=100)


@pytest.mark.parametrize(
    ("array", "word"),
    [
        (np.full((4, 4, 3), np.nan), "NaN"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4, 3), np.uint16), "uint16"),
        (np.zeros((4, 4), bool), "bool"),
        (np.array([[None]]), "object"),
        (np.zeros((4, 4, 2), np.uint8), "(4, 4, 2)"),
        (np.zeros((3, 4, 4, 3), np.uint8), "(3, 4, 4, 3)"),
        (np.zeros(4, np.uint8), "(4,)"),
        (np.zeros((0, 4, 3), np.uint8), "(0, 4, 3)"),
    ],
)
def test_wrong_arrays(array, word):
    assert word in sentence_of(array)


@pytest.mark.parametrize("source", [None, 3, [[1, 2]], object()])
def test_files_that_are_no_images(source):
    assert type(source).__name__ in sentence_of(source)


def test_floating_point_images_are_refused(image):
    deep = Image.fromarray(np.zeros((4, 4), np.float32))
    assert "floating-point" in sentence_of(deep)
    assert "floating-point" in sentence_of(encode(deep, "TIFF"))
    assert "16 bits" in sentence_of(Image.fromarray(np.full((4, 4), 70_000, np.int32)))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_damaged_files_give_an_image_or_a_sentence(format, image):
    """Random bytes change; nothing but an image or an ImageError may come of it."""
    data = encode(image, format)
    random = np.random.default_rng(0)
    for _ in range(150):
        damaged = bytearray(data)
        reach = len(data) if random.random() < 0.5 else 60
        for _ in range(random.integers(1, 8)):
            damaged[random.integers(0, min(reach, len(data)))] = random.integers(0, 256)
        try:
            found = read_image(bytes(damaged), max_pixels=1_000_000)
        except ImageError as error:
            assert str(error).endswith(".")
        else:
            assert found.dtype == np.uint8
            assert found.shape[2] == 3


# --- names and writing -----------------------------------------------------------------------------------


def test_source_names(tmp_path, rgb, image):
    path = tmp_path / "a.png"
    image.save(path)
    assert source_name(path) == source_name(str(path)) == str(path)
    assert source_name(Image.open(path)) == str(path)
    for source in (image, rgb, path.read_bytes(), None):
        assert source_name(source) is None


@pytest.mark.parametrize("extension", [".png", ".jpg", ".JPEG", ".webp", ".bmp", ".tif", ".tiff"])
def test_written_images_read_back(extension, tmp_path, rgb):
    path = tmp_path / f"new{extension}"
    write_image(path, rgb)
    assert far(read_image(path), rgb) <= 8
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_failed_writing_leaves_the_old_file(tmp_path, rgb):
    path = tmp_path / "a.png"
    path.write_bytes(b"old")
    with pytest.raises(ImageError, match=r"\.png"):
        write_image(tmp_path / "a.docx", rgb)
    with pytest.raises(ImageError, match="RGB uint8"):
        write_image(path, rgb.astype(np.float32))
    with pytest.raises(ImageError, match="fit"):
        write_image(tmp_path / "wide.webp", np.zeros((1, 20_000, 3), np.uint8))
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(OutputError, match="folder of that name"):
        write_image(tmp_path / "folder.png", rgb)
    assert path.read_bytes() == b"old"
    assert {file.name for file in Path(tmp_path).iterdir()} == {"a.png", "folder.png"}


def test_released_memoryview_and_a_matrix(rgb, image):
    view = memoryview(encode(image, "PNG"))
    view.release()
    assert "released" in sentence_of(view)
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix(rgb[..., 0])
    np.testing.assert_array_equal(read_image(matrix), np.repeat(rgb[..., :1], 3, axis=2))
