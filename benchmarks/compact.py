"""Compare the compact network and the main job with one ViT-S/16 at 224 pixels, all in onnxruntime.

    python benchmarks/compact.py [--model compact] [--rounds 30] [--folder results/benchmarks]

Prints ratios of times: six tasks of one crop / ViT-S; each task alone / all six; reading, detecting, cropping
and answering a 1080p photo with one face / (decoding it + ViT-S); the stages; the whole job for 1, 8 and 64
faces.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from in_turn import ROOT, THREADS, claim, in_turn, options, show, stamp
from networks import vit_small

from faceum.analyzer import FaceAnalyzer
from faceum.crop import crop_face
from faceum.decode import decode_answers
from faceum.detect.base import load_detector
from faceum.image import read_image
from faceum.runner import load_runner


def photo(faces: int, height: int = 1080, width: int = 1920) -> np.ndarray:
    """Return a gray photo with so many copies of the example portrait's face, one of them in full size."""
    portrait = read_image(ROOT / "examples" / "astronaut.png")[:256, 100:356]
    canvas = np.full((height, width, 3), 110, np.uint8)
    if faces == 1:
        canvas[300 : 300 + 512, 700 : 700 + 512] = cv2.resize(portrait, (512, 512))
        return canvas
    columns = int(np.ceil(np.sqrt(faces * width / height)))
    side = min(width // columns, height // int(np.ceil(faces / columns)))
    for number in range(faces):
        row, column = divmod(number, columns)
        canvas[row * side : (row + 1) * side, column * side : (column + 1) * side] = cv2.resize(
            portrait, (side, side), interpolation=cv2.INTER_AREA
        )
    return canvas


def main() -> None:
    """Time and print."""
    given = options(__doc__, model="compact", rounds=30, folder="results/benchmarks", runtime="onnxruntime")
    stamp()
    vit, vit_input = vit_small(Path(given.folder), THREADS)
    runner = load_runner(given.model, given.runtime, "cpu", THREADS)
    tasks = runner.card.tasks
    image = photo(1)
    encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    detector = load_detector(threads=THREADS)
    (face,) = detector.detect(image)
    spec = runner.card.crop_of("landmarks")
    crop = crop_face(image, spec, face.box, face.points5)
    inputs = crop.image[None], crop.face_tokens_N[None]

    times = in_turn(
        {
            "six tasks": lambda: runner.run(*inputs, tasks),
            "ViT-S/16-224": lambda: vit.run(None, vit_input),
            **{task: lambda task=task: runner.run(*inputs, [task]) for task in tasks},
        },
        given.rounds,
        warm=3,
    )
    claim("compact, six tasks, one crop / ViT-S/16-224", times, "six tasks", "ViT-S/16-224")
    for task in tasks:
        claim(f"{task} alone / all six", times, task, "six tasks")

    analyzer = FaceAnalyzer(given.model, runtime=given.runtime, device="cpu", threads=THREADS)
    answers = runner.run(*inputs, tasks)

    def found_and_cut() -> None:
        (found,) = detector.detect(image)
        crop_face(image, spec, found.box, found.points5)

    times = in_turn(
        {
            "decode JPEG": lambda: read_image(encoded),
            "detect": lambda: detector.detect(image),
            "crop": lambda: crop_face(image, spec, face.box, face.points5),
            "network": lambda: runner.run(*inputs, tasks),
            "decode answers": lambda: decode_answers(answers, [crop]),
            "detect, crop, decode JPEG": lambda: (read_image(encoded), found_and_cut()),
            "detect, crop, decode answers": lambda: (found_and_cut(), decode_answers(answers, [crop])),
            "decode JPEG, ViT-S": lambda: (read_image(encoded), vit.run(None, vit_input)),
            "whole job": lambda: analyzer.analyze(encoded),
        },
        given.rounds,
        warm=2,
    )
    show(times)
    for part in ("detect, crop, decode JPEG", "detect, crop, decode answers", "whole job"):
        claim(f"1080p, one face: {part} / (decode JPEG + ViT-S)", times, part, "decode JPEG, ViT-S")

    crowds = {f"{faces} faces": photo(faces) for faces in (1, 8, 64)}
    for name, crowd in crowds.items():
        found = len(analyzer.analyze(crowd))
        assert name == f"{found} faces", f"{found} of {name} were found"
    times = in_turn(
        {name: lambda crowd=crowd: analyzer.analyze(crowd) for name, crowd in crowds.items()},
        max(3, given.rounds // 3),
    )
    for name in ("8 faces", "64 faces"):
        claim(f"whole job: {name} / 1 faces", times, name, "1 faces")


if __name__ == "__main__":
    main()
