"""`faceum compare`: print how similar the faces in two images are."""

from pathlib import Path
from typing import Annotated

import typer

from faceum.cli.options import (
    DetectorOption,
    DeviceOption,
    JsonOption,
    ModelOption,
    RuntimeOption,
    ThreadsOption,
)
from faceum.cli.terminal import print_json, say
from faceum.errors import FaceumError


def compare_command(
    first: Annotated[Path, typer.Argument(metavar="A", help="An image with a face.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another image with a face.")],
    json: JsonOption = False,
    model: ModelOption = "compact",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    detector: DetectorOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Print the cosine similarity of the largest faces of two images.

    It lies in -1..1. Equal images have 1; values near 0 mean different people.
    """
    import numpy as np

    from faceum.analyzer import FaceAnalyzer

    analyzer = FaceAnalyzer(
        model, tasks=["recognition"], device=device, runtime=runtime, detector=detector, threads=threads
    )
    embeddings = []
    for path in (first, second):
        faces = list(analyzer.analyze(path))
        if not faces:
            raise FaceumError(f"There is no face in {path}; give an image with one.")
        if len(faces) > 1:
            say(f"There are {len(faces)} faces in {path}; the largest one is compared.")
        embeddings.append(np.asarray(faces[0].embedding))
    cosine = float(embeddings[0] @ embeddings[1])
    if json:
        print_json({"cosine": cosine, "a": str(first), "b": str(second)})
    else:
        typer.echo(f"cosine {cosine:.4f}")
