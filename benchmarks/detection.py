"""Measure how well and how fast faces are found; prints the tables of docs/log.md.

    FACEUM_CORPUS=... python benchmarks/detection.py recall --mtcnn FOLDER
    FACEUM_CORPUS=... python benchmarks/detection.py sets
    FACEUM_CORPUS=... python benchmarks/detection.py time --mtcnn FOLDER

FOLDER holds MTCNN's three networks (tools/convert_detectors.py); without it that candidate is left out.

A face counts as found if a detection's box and the box of its 68 landmarks, with the top raised by 25 % of
its height, have an intersection over union of at least 0.4; if several do, the best one counts. The error of
a found face is the mean distance of its five points to those of the landmarks (eyes: mean of six; nose tip:
point 30; mouth: 48 and 54, counted from 0), divided by the distance of the eyes. The size of a face is the
square root of that raised box's area. Times are medians of the candidates in turn in one process with two
threads, together with the processor time they took; ratios are to the first candidate's processor time on
the same image, which other load on the machine disturbs least.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet
from mtcnn_candidate import Mtcnn

from faceum.crop import points5_from_landmarks
from faceum.detect.base import Detection, Detector, load_detector
from faceum.detect.candidates import suppress_overlaps
from faceum.detect.centerface import decode_cells, network_input
from faceum.geometry import boxes_iou
from faceum.image import read_image
from faceum.onnx_session import LazySession, onnxruntime
from faceum.weights.registry import asset_path

FOUND = 0.4
RAISED = 0.25
SCORES = (0.25, 0.4, 0.5)
SIZES = (24, 48, 96)
SETS = ("helen_afw", "celebamask", "lfw", "celeba", "masked", "utkface", "ferplus", "ytf")
THREADS = 2
CANVAS = (1080, 1920)
LARGEST_RESCALED = 4000

Photo = tuple[np.ndarray, list[np.ndarray]]
"""An image and the landmarks (68, 2) of its annotated faces."""


class PlainCenterFace:
    """CenterFace as published: one look at the whole image, its own points, faces from 0.5."""

    name = "centerface, one look"

    def __init__(self) -> None:
        self._session = LazySession(
            lambda: asset_path("centerface", "faces", kind="detector"), threads=THREADS
        )

    def detect(self, image_HWC: np.ndarray, *, min_score: float = 0.5) -> list[Detection]:
        found = decode_cells(*self._session.run(network_input(image_HWC)[None]), min_score=min(SCORES))
        return suppress_overlaps(found, 0.3).detections()


def candidates(mtcnn: Path | None) -> dict[str, Detector]:
    """Return the detectors to compare, ours first."""
    found: dict[str, Detector] = {"ours": load_detector(threads=THREADS), "centerface": PlainCenterFace()}
    return found if mtcnn is None else {**found, "mtcnn": Mtcnn(mtcnn, threads=THREADS)}


# ------------------------------------------------------------------------------------------------- images


def rows_of(name: str, columns: Sequence[str]) -> list[dict]:
    """Return the rows of one file of the corpus."""
    folder = os.environ.get("FACEUM_CORPUS")
    if not folder:
        raise SystemExit("Set FACEUM_CORPUS to the folder of the corpus.")
    return pyarrow.parquet.read_table(Path(folder) / f"{name}.val.parquet", columns=list(columns)).to_pylist()


def photos() -> list[Photo]:
    """Return the whole photos with their annotated faces."""
    return [
        (read_image(row["image"]), [np.array(face).reshape(68, 2) for face in row["landmarks68"]])
        for row in rows_of("photos", ["image", "landmarks68"])
    ]


def raised_box(landmarks: np.ndarray) -> np.ndarray:
    """Return the box (4,) of the landmarks, its top raised by a share of its height."""
    (x0, y0), (x1, y1) = landmarks.min(axis=0), landmarks.max(axis=0)
    return np.array([x0, y0 - RAISED * (y1 - y0), x1, y1])


def face_size(landmarks: np.ndarray) -> float:
    """Return the square root of the area of the raised box, pixels."""
    x0, y0, x1, y1 = raised_box(landmarks)
    return float(np.sqrt((x1 - x0) * (y1 - y0)))


def scaled(photo: np.ndarray, faces: Sequence[np.ndarray], scale: float) -> Photo:
    """Return a photo and its faces, `scale` times as large."""
    height, width = photo.shape[:2]
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    real = np.array([size[0] / width, size[1] / height])
    return cv2.resize(photo, size, interpolation=method), [face * real for face in faces]


def with_face_of(size: int) -> Iterator[Photo]:
    """Yield every annotated face once: its photo, rescaled so that this face has the size."""
    for photo, faces in photos():
        for face in faces:
            scale = size / face_size(face)
            if max(photo.shape[:2]) * scale <= LARGEST_RESCALED:
                yield scaled(photo, [face], scale)


def mosaics(size: int) -> Iterator[Photo]:
    """Yield the same small photos laid side by side on canvases of 1920 x 1080."""
    canvas, faces, x, y, shelf = np.full((*CANVAS, 3), 127, np.uint8), [], 0, 0, 0
    for photo, marked in with_face_of(size):
        height, width = photo.shape[:2]
        if x + width > CANVAS[1]:
            x, y, shelf = 0, y + shelf, 0
        if y + height > CANVAS[0]:
            yield canvas, faces
            canvas, faces, x, y, shelf = np.full((*CANVAS, 3), 127, np.uint8), [], 0, 0, 0
        canvas[y : y + height, x : x + width] = photo
        faces = [*faces, *(face + (x, y) for face in marked)]
        x, shelf = x + width, max(shelf, height)
    yield canvas, faces


# ------------------------------------------------------------------------------------------------- measures


def best_match(box: np.ndarray, detections: Sequence[Detection]) -> Detection | None:
    """Return the detection that overlaps the box most, or None if that is not enough."""
    if not detections:
        return None
    overlaps = boxes_iou(box[None], np.stack([face.box for face in detections]))[0]
    best = int(overlaps.argmax())
    return detections[best] if overlaps[best] >= FOUND else None


def judge(images: Iterator[Photo] | Sequence[Photo], detector: Detector) -> str:
    """Return one row of the table: recall at each score, mean and median point error."""
    found, errors = [], []
    for image, faces in images:
        detections = detector.detect(image, min_score=min(SCORES))
        for face in faces:
            match = best_match(raised_box(face), detections)
            found.append(0.0 if match is None else match.score)
            if match is not None:
                points = points5_from_landmarks(face)
                distance = np.linalg.norm(match.points5 - points, axis=1).mean()
                errors.append(distance / np.linalg.norm(points[1] - points[0]))
    recalls = " | ".join(f"{np.mean(np.array(found) >= score):.3f}" for score in SCORES)
    return f"{len(found)} | {recalls} | {np.mean(errors):.4f} | {np.median(errors):.4f}"


def print_recall(detectors: Mapping[str, Detector]) -> None:
    """Table: images x detectors."""
    print(
        "| images | detector | faces | recall at score "
        + " | ".join(map(str, SCORES))
        + " | error | median |"
    )
    for name, detector in detectors.items():
        print(f"| photos as they are | {name} | {judge(photos(), detector)} |", flush=True)
        for size in SIZES:
            print(f"| face of {size} px | {name} | {judge(with_face_of(size), detector)} |", flush=True)
        print(f"| 24 px, in 1920 x 1080 | {name} | {judge(mosaics(24), detector)} |", flush=True)


def print_sets(detector: Detector, most: int) -> None:
    """Table: share of other sets' images in which the face that the corpus names is found."""
    print("| set | images | found at score " + " | ".join(map(str, SCORES)) + " | faces an image at 0.5 |")
    for name in SETS:
        rows = rows_of(name, ["image", "box"])
        rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))[:most]]
        found, count = [], []
        for row in rows:
            detections = detector.detect(read_image(row["image"]), min_score=min(SCORES))
            match = best_match(np.array(row["box"]), detections)
            found.append(0.0 if match is None else match.score)
            count.append(sum(face.score >= 0.5 for face in detections))
        shares = " | ".join(f"{np.mean(np.array(found) >= score):.3f}" for score in SCORES)
        print(f"| {name} | {len(rows)} | {shares} | {np.mean(count):.2f} |", flush=True)


def timed_images() -> dict[str, np.ndarray]:
    """Return the images to time: photos, and the example portrait in 1920 x 1080 pixels with one face."""
    portrait = read_image(Path(__file__).parents[1] / "examples" / "astronaut.png")
    full = cv2.resize(portrait[:288], CANVAS[::-1], interpolation=cv2.INTER_CUBIC)
    some = {f"photo {index}": photo for index, (photo, _) in enumerate(photos()[:40:4])}
    return {"1920 x 1080, one face": full, "1920 x 1080, crowd": next(mosaics(24))[0], **some}


def print_times(detectors: Mapping[str, Detector], rounds: int) -> None:
    """Table: median milliseconds, their quartiles, and the ratio to the first detector's."""
    print("| image | detector | ms (quartiles) | processor ms | ratio |")
    for name, image in timed_images().items():
        spent: dict[str, list[tuple[float, float]]] = {key: [] for key in detectors}
        for turn in range(rounds + 1):
            for key, detector in detectors.items():
                start, start_busy = time.perf_counter(), time.process_time()
                detector.detect(image)
                spent[key] += [(time.perf_counter() - start, time.process_time() - start_busy)] * (turn > 0)
        busy = {key: np.median([seconds[1] for seconds in each]) for key, each in spent.items()}
        first = next(iter(busy.values()))
        for key, each in spent.items():
            low, middle, high = np.percentile([seconds[0] for seconds in each], [25, 50, 75]) * 1e3
            used = f"{busy[key] * 1e3:.0f} | {busy[key] / first:.2f}"
            size = f"{image.shape[1]} x {image.shape[0]}" if name.startswith("photo") else name
            print(f"| {size} | {key} | {middle:.0f} ({low:.0f}-{high:.0f}) | {used} |", flush=True)


def main() -> None:
    """Command line: which table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", choices=("recall", "sets", "time"))
    parser.add_argument("--mtcnn", type=Path, help="folder of the three networks of MTCNN")
    parser.add_argument("--most", type=int, default=400, help="images of each set (default 400)")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    print(f"commit {commit.stdout.strip()}, {platform.machine()}, {os.cpu_count()} processors")
    print(f"{THREADS} threads, onnxruntime {onnxruntime.__version__}, opencv {cv2.__version__}")
    if given.table == "recall":
        print_recall(candidates(given.mtcnn))
    elif given.table == "sets":
        print_sets(load_detector(threads=THREADS), given.most)
    else:
        print_times(candidates(given.mtcnn), given.rounds)


if __name__ == "__main__":
    main()
