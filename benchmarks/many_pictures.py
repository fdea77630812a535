"""Benchmark: `analyze_many` beside the same pictures one by one, and its memory over thousands of pictures.

    python benchmarks/many_pictures.py [--model compact] [--pictures 200] [--rounds 3] [--growth 0]

The pictures are the example portrait at mixed sizes, as JPEG files, one face each. With --growth N,
N of them, some broken, run through one `analyze_many`, and the memory is printed on the way.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
from in_turn import ROOT, THREADS, claim, in_turn, options, stamp

from faceum.pipeline import FaceAnalyzer

SIDES = (256, 384, 512, 640, 800, 1024)


def written(folder: Path, count: int) -> list[Path]:
    """So many JPEG files of mixed sizes."""
    portrait = cv2.imread(str(ROOT / "examples" / "astronaut.png"))
    paths = []
    for number in range(count):
        side = SIDES[number % len(SIDES)]
        shown = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_AREA)
        paths.append(folder / f"{number:04d}.jpg")
        cv2.imwrite(str(paths[-1]), shown)
    return paths


def resident() -> float:
    """Megabytes that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def growth(analyzer: FaceAnalyzer, paths: list[Path], count: int) -> None:
    """Print the memory on the way through `count` pictures."""

    def endless() -> Iterator[Path | bytes]:
        for number in range(count):
            yield b"broken" if number % 97 == 0 else paths[(number * 7) % len(paths)]

    for number, result in enumerate(analyzer.analyze_many(endless()), 1):
        assert (result.error is None) == ((number - 1) % 97 != 0)
        if number % max(1, count // 20) == 0:
            print(f"  {number} pictures: {resident():.1f} MB", flush=True)


def main() -> None:
    """Time and print."""
    given = options(__doc__, model="compact", pictures=200, rounds=3, growth=0, runtime="onnxruntime")
    stamp()
    analyzer = FaceAnalyzer(given.model, runtime=given.runtime, device="cpu", threads=THREADS)
    with tempfile.TemporaryDirectory() as folder:
        paths = written(Path(folder), given.pictures)
        if given.growth:
            growth(analyzer, paths, given.growth)
            return
        for cropped in (False, True):
            times = in_turn(
                {
                    "analyze_many": lambda c=cropped: list(analyzer.analyze_many(paths, cropped=c)),
                    "one by one": lambda c=cropped: [analyzer.analyze(path, cropped=c) for path in paths],
                },
                given.rounds,
                warm=0,
            )
            words = "cropped faces" if cropped else "pictures, faces searched"
            claim(f"{given.pictures} {words}: analyze_many / one by one", times, "analyze_many", "one by one")


if __name__ == "__main__":
    main()
