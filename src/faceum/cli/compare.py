"""`faceum compare`: whether two images show the same person, at a stated error rate."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faceum.cli.options import (
    DetectorOption,
    DeviceOption,
    JsonOption,
    MaskedOption,
    ModelOption,
    RecognizerOption,
    RuntimeOption,
    ThreadsOption,
)
from faceum.cli.terminal import make_console, print_json, say
from faceum.errors import FaceumError

if TYPE_CHECKING:
    from faceum.analyzer import FaceAnalyzer
    from faceum.results import Face


def compare_command(
    first: Annotated[Path, typer.Argument(metavar="A", help="An image with a face.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another image with a face.")],
    fmr: Annotated[
        float, typer.Option(help="Share of pairs of different people that may be taken for one person.")
    ] = 0.001,
    best: Annotated[
        bool, typer.Option("--best", help="Compare only the largest face of each image.")
    ] = False,
    masked: MaskedOption = False,
    json: JsonOption = False,
    model: ModelOption = "compact",
    recognizer: RecognizerOption = None,
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    detector: DetectorOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Say whether two images show the same person.

    Prints the cosine similarity, the threshold, the verdict and both error rates; every face of A with every
    face of B if there are several. Exit code 0 for the same person (in any pair), 1 for different people, 2
    if an image cannot be used or shows no face.
    """
    from faceum.analyzer import FaceAnalyzer
    from faceum.match import match_faces

    analyzer = FaceAnalyzer(
        model, tasks=["recognition"], recognizer=recognizer, device=device, runtime=runtime,
        detector=detector, threads=threads,
    )  # fmt: skip
    thresholds = analyzer.thresholds()
    thresholds.at(fmr, masked=masked)  # a rate that cannot be had is said before the images are searched
    faces_a, faces_b = (_faces(analyzer, path, best) for path in (first, second))
    matches = [
        (i, j, match_faces(a, b, thresholds, fmr, masked=masked))
        for i, a in enumerate(faces_a)
        for j, b in enumerate(faces_b)
    ]
    if json:
        pairs = [{"face_a": i, "face_b": j, **match.to_dict()} for i, j, match in matches]
        print_json({"a": str(first), "b": str(second), "pairs": pairs})
    elif len(matches) == 1:
        typer.echo(str(matches[0][2]))
    else:
        from faceum.cli.people_tables import match_table

        make_console().print(match_table(matches))
        i, j, nearest = max(matches, key=lambda one: one[2].cosine)
        typer.echo(f"The nearest pair is face {i + 1} of A and face {j + 1} of B. {nearest}")
        say(f"{len(matches)} pairs were compared, and each has this chance of a false match.")
    if not any(match.same for _, _, match in matches):
        raise typer.Exit(1)


def _faces(analyzer: "FaceAnalyzer", path: Path, best: bool) -> "list[Face]":
    """Return the faces of an image, largest first, or only the first; raises FaceumError if there is none."""
    faces = list(analyzer.analyze(path).faces or ())
    if not faces:
        raise FaceumError(f"There is no face in {path}; give an image with one.")
    if best and len(faces) > 1:
        say(f"There are {len(faces)} faces in {path}; the largest one is compared.")
    return faces[:1] if best else faces
