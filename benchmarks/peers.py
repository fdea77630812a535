"""Compare the whole job on the example portrait with other packages, if they are installed.

    python benchmarks/peers.py [--dlib-python VENV/bin/python] [--node-folder FOLDER] [--rounds 10]

dlib: an environment with `dlib-bin` and `face-recognition-models` (detector, 68 points, recognition).
Human: a folder in which the npm packages of peer_human.mjs are installed (faces, mesh, age, emotion,
embedding). Each runs in its own process and waits while the others run. The image is decoded beforehand.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

from in_turn import ROOT, THREADS, in_turn, options, ratio, show, stamp

from faceum.analyzer import FaceAnalyzer
from faceum.image import read_image

HERE = Path(__file__).parent
IMAGE = ROOT / "examples" / "astronaut.png"


def peer(*command: str) -> Callable[[], object]:
    """Start a process that does its job once per line; return a function that asks for one turn."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None

    def turn() -> None:
        process.stdin.write("\n")
        process.stdin.flush()
        seconds, faces = process.stdout.readline().split()[-2:]
        assert int(faces) >= 1, (command, seconds, faces)

    return turn


def main() -> None:
    """Time and print."""
    given = options(__doc__, model="compact", dlib_python="", node_folder="", rounds=10)
    stamp()
    analyzer = FaceAnalyzer(given.model, runtime="onnxruntime", device="cpu", threads=THREADS)
    some = FaceAnalyzer(
        given.model,
        tasks=["recognition", "landmarks"],
        runtime="onnxruntime",
        device="cpu",
        threads=THREADS,
    )
    image = read_image(IMAGE)
    things: dict[str, Callable[[], object]] = {
        "faceum, six tasks": lambda: analyzer.analyze(image),
        "faceum, recognition and 68 points": lambda: some.analyze(image),
    }
    pairs = []
    if given.dlib_python:
        things["dlib"] = peer(given.dlib_python, str(HERE / "peer_dlib.py"), str(IMAGE))
        pairs.append(("faceum, recognition and 68 points", "dlib"))
    if given.node_folder:
        script = str(HERE / "peer_human.mjs")
        things["human"] = peer("node", script, str(IMAGE), given.node_folder)
        pairs.append(("faceum, six tasks", "human"))
    times = in_turn(things, given.rounds, warm=2)
    show(times)
    for one, other in pairs:
        # What a process that goes on has worked is not known here; the clock alone speaks of both.
        print(f"  -> one portrait of 512 x 512: {one} / {other}: {ratio(times, one, other, work=False)}\n")


if __name__ == "__main__":
    main()
