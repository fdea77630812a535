"""`faceum cluster`: group the faces of many images by person."""

from pathlib import Path
from typing import Annotated

import typer

from faceum.cli.options import DetectorOption, ModelOption, RecognizerOption, ThreadsOption
from faceum.cli.people import MinQualityOption
from faceum.cli.terminal import escape, say
from faceum.errors import DataError

RATE = 0.5
"""The share of faces that find a stranger above the default threshold; a group's mean is stricter."""


def cluster_command(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGES|PARQUET", help="Images, folders, or one .parquet file of embeddings."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for index.html, contact sheets and clusters.parquet.")],
    threshold: Annotated[
        float | None,
        typer.Option(min=-1.0, max=1.0, help="Mean cosine at which two groups become one."),
    ] = None,
    min_quality: MinQualityOption = 0.0,
    model: ModelOption = "compact",
    recognizer: RecognizerOption = None,
    detector: DetectorOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Group the faces of many images by person.

    Writes an HTML index with a contact sheet per group, and clusters.parquet.

    The default threshold rises with the number of faces. Exit code 1 if some images could not be used.
    """
    from rich.console import Console
    from rich.progress import Progress

    from faceum.analyzer import FaceAnalyzer
    from faceum.cli.paths import ImageList, list_images
    from faceum.files import check_folder
    from faceum.people.cluster_faces import faces_of_images, faces_of_parquet
    from faceum.people.cluster_report import write_clusters
    from faceum.people.clusters import cluster_vectors
    from faceum.weights.thresholds import thresholds

    in_table = len(paths) == 1 and paths[0].suffix == ".parquet"
    listed = ImageList() if in_table else list_images(paths, leave_out=out)
    check_folder(out)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        if in_table:
            faces = faces_of_parquet(paths[0])
        else:
            analyzer = FaceAnalyzer(
                model, tasks=["recognition"], recognizer=recognizer, detector=detector, threads=threads
            )
            task = progress.add_task("Finding faces", total=len(listed.sources))
            faces = faces_of_images(
                analyzer, listed.sources.values(), lambda: progress.advance(task), min_quality=min_quality
            )
            faces.problems += listed.problems
        for sentence in faces.problems:
            say(sentence)
        if not len(faces.vectors):
            raise DataError("There is no face to group; give images with faces.")
        if threshold is None:
            threshold = thresholds(recognizer or model).for_gallery(RATE, len(faces.vectors)).cosine
        task = progress.add_task("Comparing faces", total=len(faces.vectors))
        clustering = cluster_vectors(
            faces.vectors, threshold, progress=lambda done, _: progress.update(task, completed=done)
        )
        page = write_clusters(faces, clustering, out)
    people = int(clustering.labels.max()) + 1
    if faces.left_out:
        say(f"{faces.left_out} faces were left out: their quality is below {min_quality:g}.")
    typer.echo(f"{len(faces.vectors)} faces in {people} groups: {escape(str(page))}")
    if faces.problems:
        raise typer.Exit(1)
