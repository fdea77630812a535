"""Compare every runtime and format on real crops: the difference from torch in float32, and the speed.

    python benchmarks/runners.py --model X.safetensors [--faces 100] [--rounds 10] [--compiled 0]

The crops are of faces in the corpus (`FACEUM_CORPUS`: LFW, Helen and AFW, CelebA). The int8 file is
calibrated on as many other faces.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet
from in_turn import THREADS, claim, in_turn, options, stamp

from faceum.crop import crop_face
from faceum.detect.base import load_detector
from faceum.errors import ModelError
from faceum.export.exporter import export_file
from faceum.export.parity import UNITS, distances
from faceum.image import read_image
from faceum.runner import load_runner
from faceum.tasks import TASKS
from faceum.weights.registry import resolve_model

SETS = ("lfw", "helen_afw", "celeba")


def generate_images(count: int, first: int) -> list[np.ndarray]:
    """So many images of the corpus, spread over its sets."""
    folder = os.environ.get("FACEUM_CORPUS")
    if not folder:
        raise SystemExit("Set FACEUM_CORPUS to the folder of the corpus.")
    found = []
    for name in SETS:
        table = pyarrow.parquet.read_table(Path(folder) / f"{name}.val.parquet", columns=["image"])
        images = table.column("image").to_pylist()[first::2]
        share = -(-count // len(SETS))
        found += [read_image(images[i * len(images) // share]) for i in range(min(share, len(images)))]
    return found[:count]


def main() -> None:
    """Compare, time and print."""
    given = options(__doc__, model="compact", faces=100, rounds=10, compiled=0)
    stamp()
    by_torch = load_runner(resolve_model(given.model, "safetensors"), "torch", "cpu", THREADS)
    tasks, spec = by_torch.card.tasks, by_torch.card.crop_of("landmarks")
    detector = load_detector(threads=THREADS)
    crops = []
    for image in generate_images(given.faces, 0):
        crops += [crop_face(image, spec, face.box, face.points5) for face in detector.detect(image)[:1]]
    images, masks = np.stack([c.image for c in crops]), np.stack([c.face_tokens_N for c in crops])
    expected = by_torch.run(images, masks, tasks)
    print(f"{len(crops)} faces; distances in: {UNITS}\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = [folder / f"{number}.png" for number in range(given.faces)]
        for path, image in zip(paths, generate_images(given.faces, 1), strict=False):
            cv2.imwrite(str(path), image[..., ::-1])
        shipped = load_runner(given.model, "onnxruntime", "cpu", THREADS)
        runners = {"torch": by_torch, "onnxruntime, the shipped file": shipped}
        if given.compiled:
            runners["torch-compiled"] = load_runner(given.model, "torch-compiled", "cpu", THREADS)
        for precision in ("fp32", "fp16", "int8"):
            file = folder / f"{precision}.onnx"
            try:
                export_file(
                    given.model,
                    file,
                    precision=precision,
                    images=[path for path in paths if path.exists()],
                )
            except ModelError as error:
                print(f"{precision}: {error}")
                export_file(
                    given.model,
                    file,
                    precision=precision,
                    images=[path for path in paths if path.exists()],
                    tolerance=dict.fromkeys(TASKS, 1e9),
                )
            runners[f"onnxruntime {precision}"] = load_runner(file, "onnxruntime", "cpu", THREADS)
            print(f"{precision}: {file.stat().st_size / 1e6:.1f} MB")
        for name, runner in runners.items():
            found = distances(expected, runner.run(images, masks, tasks), size=spec.size)
            print(f"{name}: " + ", ".join(f"{task} {value:.2e}" for task, value in found.items()))
        alone = {
            task: float(np.abs(shipped.run(images, masks, [task])[task] - value).max())
            for task, value in shipped.run(images, masks, tasks).items()
        }
        print("a task's own network, cut out of the shipped file: largest difference", max(alone.values()))
        for batch in (1, 8, 32):
            some = images[:batch], masks[:batch]
            times = in_turn(
                {name: lambda r=runner, s=some: r.run(*s, tasks) for name, runner in runners.items()},
                given.rounds,
                warm=3,
            )
            for name in list(runners)[1:]:
                claim(f"batch {batch}: {name} / torch", times, name, "torch")


if __name__ == "__main__":
    main()
