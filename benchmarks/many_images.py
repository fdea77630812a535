"""Compare `analyze_many` with the same images one by one, and measure its memory over thousands of images.

    python benchmarks/many_images.py [--model compact] [--images 200] [--rounds 3] [--growth 0]

The images are JPEG files of eight sizes from 0.3 to 6 megapixels with one to three faces, each a head of the
example portrait in front of a part of it without a face. If FACEUM_CORPUS names the corpus, its whole photos
are timed, too. With --growth N, N images, some broken, run through one call of `analyze_many` instead; it
prints the megabytes held on the way, how much the last third holds more than the second, and how much single
values of a third vary.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from in_turn import ROOT, THREADS, claim, in_turn, options, stamp

from faceum.analyzer import FaceAnalyzer
from faceum.image import Source

SIZES = (
    (480, 640),
    (512, 512),
    (768, 1024),
    (720, 1280),
    (1280, 960),
    (1080, 1920),
    (1536, 2048),
    (2000, 3000),
)
"""Height and width."""
HEADS = (0.12, 0.25, 0.5, 0.7)
"""A head's side, as a share of the shorter side of the image."""
SAMPLES = 60
"""How often the memory is looked at."""


def scene(number: int) -> np.ndarray:
    """Return an image (H, W, 3) in BGR: heads in a row before a part of the portrait without a face."""
    random = np.random.default_rng(number)
    portrait = cv2.imread(str(ROOT / "examples" / "astronaut.png"))
    head = portrait[30:230, 125:325]
    height, width = SIZES[number % len(SIZES)]
    image = cv2.resize(portrait[290:], (width, height), interpolation=cv2.INTER_CUBIC)
    heads = 1 + number % 3
    for place in range(heads):
        side = min(round(random.choice(HEADS) * min(height, width)), width // heads)
        method = cv2.INTER_AREA if side < len(head) else cv2.INTER_CUBIC
        left = place * (width // heads) + int(random.integers(0, width // heads - side + 1))
        top = int(random.integers(0, height - side + 1))
        image[top : top + side, left : left + side] = cv2.resize(head, (side, side), interpolation=method)
    return image


def written(folder: Path, count: int) -> list[Path]:
    """So many JPEG files."""
    paths = [folder / f"{number:04d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        cv2.imwrite(str(path), scene(number), [cv2.IMWRITE_JPEG_QUALITY, 90])
    return paths


def corpus_photos(count: int) -> list[bytes]:
    """So many of the corpus' whole photos, as often as need be; none where there is no corpus."""
    if "FACEUM_CORPUS" not in os.environ:
        return []
    import pyarrow.parquet

    file = Path(os.environ["FACEUM_CORPUS"]) / "photos.val.parquet"
    photos = pyarrow.parquet.read_table(file, columns=["image"])["image"].to_pylist()
    return [photos[number % len(photos)] for number in range(count)]


def resident() -> float:
    """Return the megabytes that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def growth(analyzer: FaceAnalyzer, paths: list[Path], count: int) -> None:
    """Print the memory on the way through `count` images."""

    def endless() -> Iterator[Path | bytes]:
        for number in range(count):
            yield b"broken" if number % 97 == 0 else paths[(number * 7) % len(paths)]

    held = []
    for number, result in enumerate(analyzer.analyze_many(endless()), 1):
        assert (result.error is None) == ((number - 1) % 97 != 0)
        if number % max(1, count // SAMPLES) == 0:
            held.append(resident())
            print(f"  {number} images: {held[-1]:.1f} MB", flush=True)
    _, second, last = np.array_split(held, 3)
    print(
        f"  -> the last third holds {last.mean() - second.mean():+.2f} MB more than the second; "
        f"single values stray by {second.std():.2f} and {last.std():.2f} MB"
    )


def compare(what: str, analyzer: FaceAnalyzer, images: list[Source], rounds: int, *, cropped: bool) -> None:
    """Print the ratio of many together to one by one."""
    times = in_turn(
        {
            "analyze_many": lambda: list(analyzer.analyze_many(images, cropped=cropped)),
            "one by one": lambda: [analyzer.analyze(one, cropped=cropped) for one in images],
        },
        rounds,
        warm=0,
    )
    claim(f"{len(images)} {what}: analyze_many / one by one", times, "analyze_many", "one by one")


def main() -> None:
    """Time and print."""
    given = options(__doc__, model="compact", images=200, rounds=3, growth=0, runtime="onnxruntime")
    stamp()
    analyzer = FaceAnalyzer(given.model, runtime=given.runtime, device="cpu", threads=THREADS)
    with tempfile.TemporaryDirectory() as folder:
        paths = written(Path(folder), given.images)
        results = list(analyzer.analyze_many(paths[:24]))  # opens every file, and warms up
        found = sum(len(result.faces or []) for result in results)
        print(
            f"  {found} of {sum(1 + number % 3 for number in range(len(results)))} faces found to warm up\n"
        )
        if given.growth:
            growth(analyzer, paths, given.growth)
            return
        compare("images", analyzer, paths, given.rounds, cropped=False)
        photos = corpus_photos(given.images)
        if photos:
            compare("photos of the corpus", analyzer, photos, given.rounds, cropped=False)
        compare("images taken as cropped faces", analyzer, paths, given.rounds, cropped=True)


if __name__ == "__main__":
    main()
