"""Benchmark: faces turned by all multiples of 15 degrees, and what checking them costs on upright photos.

    FACEUM_CORPUS=... python benchmarks/turned.py [--model compact] [--faces 10] [--step 15] [--rounds 5]

The example portrait and the first `--faces` images of each of five corpus sets are turned about their middle,
edges repeated. A face counts as found if the middle of its box lies within half its size of the turned middle
of the upright face; its embedding is compared with that of the upright face. "before" takes the detector's
points as they are. Images in which no upright face is found are left out and counted. Printed are both shares
per angle, the disagreement of landmarks and points in good and bad cases, and the time per upright photo.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet
from in_turn import ROOT, in_turn, options, stamp

from faceum import Face, FaceAnalyzer, read_image
from faceum.detect.base import Detection

SETS = ("lfw.val", "celebawild.val", "appareal.val", "helen_afw.val", "fgnet.val")
GOOD = 0.9
"""Cosine from which on a turned face counts as recognized."""


def corpus_images(faces: int) -> Iterator[np.ndarray]:
    """Yield the portrait and the first images of each set."""
    yield read_image(ROOT / "examples" / "astronaut.png")
    if "FACEUM_CORPUS" in os.environ:
        for name in SETS:
            file = pyarrow.parquet.ParquetFile(Path(os.environ["FACEUM_CORPUS"]) / f"{name}.parquet")
            for row in next(file.iter_batches(faces, columns=["image"])).to_pylist():
                yield read_image(bytes(row["image"]))


def turn(image: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the image turned counter-clockwise on a canvas that holds it, and the (2, 3) matrix to it."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = round(height * sine + width * cosine), round(height * cosine + width * sine)
    matrix[:, 2] += np.array(size) / 2 - (width / 2, height / 2)
    centred = matrix.copy()
    centred[:, 2] += matrix[:, :2].sum(axis=1) * 0.5 - 0.5  # OpenCV's whole numbers are pixel centres
    return cv2.warpAffine(image, centred, size, borderMode=cv2.BORDER_REPLICATE), matrix


def nearest(faces: list[Detection] | list[Face], middle: np.ndarray, side: float) -> int | None:
    """Return the index of the face whose box contains the middle, None if there is none."""
    apart = [float(np.linalg.norm((face.box[:2] + face.box[2:]) / 2 - middle)) for face in faces]
    return int(np.argmin(apart)) if apart and min(apart) <= side / 2 else None


def print_angles(analyzer: FaceAnalyzer, faces: int, step: int) -> None:
    """Print the table of angles and the disagreements."""
    angles = list(range(0, 360, step))
    found = {angle: [] for angle in angles}
    cosines: dict[str, dict[int, list[float]]] = {key: {a: [] for a in angles} for key in ("before", "after")}
    apart: dict[bool, list[float]] = {True: [], False: []}
    left_out = 0
    for image in corpus_images(faces):
        upright = analyzer.analyze(image)
        if not upright:
            left_out += 1
            continue
        face = upright[0]
        side = float((face.box[2:] - face.box[:2]).max())
        for angle in angles:
            turned, matrix = turn(image, angle)
            middle = matrix[:, :2] @ ((face.box[:2] + face.box[2:]) / 2) + matrix[:, 2]
            after = analyzer.analyze(turned)
            place = nearest(list(after), middle, side)
            found[angle].append(place is not None)
            cosine = -1.0 if place is None else face.similarity(after[place])
            cosines["after"][angle].append(cosine)
            raw = analyzer._detector.detect(turned)
            seen = nearest(raw, middle, side)
            if seen is None:
                cosines["before"][angle].append(-1.0)
                continue
            if place is None or not np.array_equal(raw[seen].points5, after[place].points5):
                (plain,) = analyzer.analyze(turned, boxes=[raw[seen].box], points5=[raw[seen].points5])
                cosine = face.similarity(plain)
            cosines["before"][angle].append(cosine)
            apart[cosine >= GOOD] += analyzer._aligner._disagreements(turned, [raw[seen]])
    print(f"{len(found[0])} faces, {left_out} images without an upright face left out\n")
    print(f"| angle | found | cosine >= {GOOD} | before |")
    for angle in angles:
        good, before = (np.mean(np.array(cosines[key][angle]) >= GOOD) for key in ("after", "before"))
        print(f"| {angle} | {100 * np.mean(found[angle]):.1f} | {100 * good:.1f} | {100 * before:.1f} |")
    everything = {key: np.concatenate([each[a] for a in angles]) for key, each in cosines.items()}
    good, before = (100 * np.mean(everything[key] >= GOOD) for key in ("after", "before"))
    every = 100 * np.mean(np.concatenate([found[a] for a in angles]))
    print(f"| all | {every:.1f} | {good:.1f} | {before:.1f} |\n")
    for name, values in (("good", apart[True]), ("bad", apart[False])):
        if values:
            low, middle, high = np.percentile(values, (1, 50, 99))
            print(f"disagreement of points, {name}: {middle:.3f} (1 % {low:.3f}, 99 % {high:.3f})")


def print_times(model: str, rounds: int) -> None:
    """Print the time of an upright photo with and without the check, and of an image without a face."""
    analyzers = {key: FaceAnalyzer(model, threads=1) for key in ("without", "with")}
    analyzers["without"]._aligner._spec = None
    portrait = read_image(ROOT / "examples" / "astronaut.png")
    images = {"portrait": portrait, "no face": np.ascontiguousarray(portrait[:, 320:])}
    if "FACEUM_CORPUS" in os.environ:
        file = pyarrow.parquet.ParquetFile(Path(os.environ["FACEUM_CORPUS"]) / "photos.val.parquet")
        for number, row in enumerate(next(file.iter_batches(10, columns=["image"])).to_pylist()):
            images[f"photo {number}"] = read_image(bytes(row["image"]))
    shares, totals = [], np.zeros(2)
    for name, image in images.items():
        things = {key: (lambda one=one, image=image: one.analyze(image)) for key, one in analyzers.items()}
        times = in_turn(things, rounds)
        share = float(np.median(times["with"].processor / times["without"].processor))
        if name != "no face":
            shares.append(share)
            totals += [float(np.median(times[key].processor)) for key in ("with", "without")]
        size = f"{image.shape[1]} x {image.shape[0]}"
        print(f"{name} {size}: x {share:.3f} ({times['with'].spoken()})", flush=True)
    print(
        f"upright photos: x {totals[0] / totals[1]:.3f} in all, x {np.median(shares):.3f} in the median of "
        f"{len(shares)} (processor time)"
    )


if __name__ == "__main__":
    given = options(__doc__, model="compact", faces=10, step=15, rounds=5)
    stamp()
    analyzer = FaceAnalyzer(given.model, tasks=["recognition", "landmarks"], threads=1)
    print_angles(analyzer, given.faces, given.step)
    print_times(given.model, given.rounds)
