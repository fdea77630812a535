"""Colours of Display P3 and Adobe RGB become those of sRGB; numbers are worked from the primaries."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from faceum.image import read_image
from faceum.image.colour import srgb_transform

# CIE xy of red, green and blue (SMPTE EG 432-1, Adobe RGB (1998), IEC 61966-2-1); all have the white D65.
DISPLAY_P3 = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_RGB = ((0.640, 0.330), (0.210, 0.710), (0.150, 0.060))
SRGB = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
D65 = (0.3127, 0.3290)
D50_XYZ = np.array([0.9642, 1.0, 0.8249])
BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def xyz_of(xy: tuple[float, float]) -> np.ndarray:
    return np.array([xy[0] / xy[1], 1.0, (1 - xy[0] - xy[1]) / xy[1]])


def to_xyz(primaries: tuple[tuple[float, float], ...]) -> np.ndarray:
    """Return the matrix from linear RGB to XYZ under D65: columns scaled so that they sum to the white."""
    columns = np.stack([xyz_of(xy) for xy in primaries], axis=1)
    return columns * np.linalg.solve(columns, xyz_of(D65))


def srgb_curve(linear: np.ndarray) -> np.ndarray:
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * np.maximum(linear, 0) ** (1 / 2.4) - 0.055)


def srgb_inverse(value: np.ndarray) -> np.ndarray:
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def expected_srgb(
    rgb: np.ndarray, primaries: tuple[tuple[float, float], ...], gamma: float | None
) -> np.ndarray:
    """Return what these colours are in sRGB, 0..255, clipped; gamma None: sRGB's own curve."""
    value = rgb / 255
    linear = srgb_inverse(value) if gamma is None else value**gamma
    matrix = np.linalg.solve(to_xyz(SRGB), to_xyz(primaries))
    return np.clip(srgb_curve(np.clip(linear @ matrix.T, 0, 1)), 0, 1) * 255


def profile(primaries: tuple[tuple[float, float], ...], gamma: float | None) -> bytes:
    """Return an ICC profile (version 4, matrix and curves) of these primaries, adapted to D50."""
    scale = np.diag((BRADFORD @ D50_XYZ) / (BRADFORD @ xyz_of(D65)))
    columns = np.linalg.inv(BRADFORD) @ scale @ BRADFORD @ to_xyz(primaries)
    fixed = [
        struct.pack(">4s4x3i", b"XYZ ", *(round(65536 * value) for value in columns[:, at]))
        for at in range(3)
    ]
    white = struct.pack(">4s4x3i", b"XYZ ", *(round(65536 * value) for value in D50_XYZ))
    numbers = [2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045] if gamma is None else [gamma]
    kind = 3 if gamma is None else 0
    curve = struct.pack(
        f">4s4xH2x{len(numbers)}i", b"para", kind, *(round(65536 * value) for value in numbers)
    )
    tags = {b"rXYZ": fixed[0], b"gXYZ": fixed[1], b"bXYZ": fixed[2], b"wtpt": white,
            b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}  # fmt: skip
    table, body = b"", b""
    for tag, data in tags.items():
        table += struct.pack(">4sII", tag, 128 + 4 + 12 * len(tags) + len(body), len(data))
        body += data
    size = 128 + 4 + len(table) + len(body)
    head = struct.pack(">I4sI4s4s4s12x4s", size, bytes(4), 0x04200000, b"mntr", b"RGB ", b"XYZ ", b"acsp")
    illuminant = struct.pack(">3i", *(round(65536 * value) for value in D50_XYZ))
    head = head.ljust(68, b"\0") + illuminant
    return head.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


COLOURS = np.array(
    [[[255, 255, 255], [0, 0, 0], [128, 128, 128], [255, 0, 0], [0, 255, 0], [200, 120, 90], [60, 90, 160],
      [224, 172, 140], [90, 60, 50], [20, 200, 180]]], np.uint8
)  # fmt: skip


@pytest.mark.parametrize(("primaries", "gamma"), [(DISPLAY_P3, None), (ADOBE_RGB, 563 / 256)])
@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "AVIF", "JPEG2000"])
def test_display_p3_and_adobe_rgb_become_srgb(format, primaries, gamma):
    expected = expected_srgb(COLOURS, primaries, gamma)
    assert np.abs(expected - COLOURS).max() > 15
    image = Image.fromarray(COLOURS.repeat(8, axis=0).repeat(8, axis=1))
    options = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100, "subsampling": "4:4:4"}}.get(format, {})
    buffer = io.BytesIO()
    image.save(buffer, format, icc_profile=profile(primaries, gamma), **options)
    with Image.open(io.BytesIO(buffer.getvalue())) as second:
        if "icc_profile" not in second.info:
            pytest.skip(f"Pillow writes no profile into {format}")
        by_pil = read_image(second)
    found = read_image(buffer.getvalue())
    tolerance = 8 if format == "AVIF" else 2
    assert np.abs(found[4::8, 4::8][:1] - expected).max() <= tolerance
    assert np.abs(found.astype(int) - by_pil).max() <= 1


def test_known_colours_worked_by_hand():
    """sRGB's red is (0.9176, 0.2003, 0.1386) in Display P3, as the CSS Color specification's samples say."""
    data = io.BytesIO()
    red = np.round(np.array([[[0.9176, 0.2003, 0.1386]]]) * 255).astype(np.uint8)
    Image.fromarray(red.repeat(4, axis=0)).save(data, "PNG", icc_profile=profile(DISPLAY_P3, None))
    assert np.abs(read_image(data.getvalue())[0, 0].astype(int) - [255, 0, 0]).max() <= 9
    assert np.abs(expected_srgb(red, DISPLAY_P3, None)[0, 0] - [255, 0, 0]).max() <= 9


def test_jpeg_with_a_profile_in_several_pieces_is_converted():
    icc = profile(DISPLAY_P3, None)
    data = io.BytesIO()
    image = Image.fromarray(COLOURS.repeat(16, axis=0).repeat(16, axis=1))
    image.save(data, "JPEG", quality=100, subsampling=0, icc_profile=icc)
    whole = data.getvalue()
    at = whole.index(b"\xff\xe2")
    length = int.from_bytes(whole[at + 2 : at + 4], "big")
    half = len(icc) // 2
    pieces = b"".join(
        b"\xff\xe2" + struct.pack(">H12sBB", 16 + len(piece), b"ICC_PROFILE\0", number, 2) + piece
        for number, piece in ((2, icc[half:]), (1, icc[:half]))  # in the wrong order, as the numbers say
    )
    split = whole[:at] + pieces + whole[at + 2 + length :]
    np.testing.assert_array_equal(read_image(split), read_image(whole))
    assert np.abs(read_image(whole)[8::16, 8::16][:1] - expected_srgb(COLOURS, DISPLAY_P3, None)).max() <= 4


@pytest.mark.parametrize(
    "icc",
    [
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        profile(SRGB, None),
        b"no profile",
        b"",
        profile(DISPLAY_P3, None)[:200],
    ],
    ids=["Little CMS", "by hand", "foreign bytes", "none", "cut"],
)
def test_srgb_and_broken_profiles_leave_pixels_as_they_are(icc):
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert srgb_transform(icc) is None
    for format in ("PNG", "JPEG"):
        plain, marked = io.BytesIO(), io.BytesIO()
        Image.fromarray(values).save(plain, format)
        Image.fromarray(values).save(marked, format, **({"icc_profile": icc} if icc else {}))
        np.testing.assert_array_equal(read_image(marked.getvalue()), read_image(plain.getvalue()))


def test_transparent_parts_of_a_converted_image_stay_white():
    rgba = np.dstack([COLOURS.repeat(4, axis=0), np.zeros((4, 10), np.uint8)])
    data = io.BytesIO()
    Image.fromarray(rgba).save(data, "PNG", icc_profile=profile(ADOBE_RGB, 563 / 256))
    assert (read_image(data.getvalue()) == 255).all()
