"""`faceum cluster`: group the faces of many images by person."""

from pathlib import Path
from typing import Annotated

import typer

from faceum.cli.options import DetectorOption, ModelOption, RecognizerOption, ThreadsOption
from faceum.cli.people import MinQualityOption
from faceum.cli.terminal import escape, say
from faceum.errors import DataError, count_noun

RATE = 0.5
"""The share of faces that find a stranger above the default threshold; a group's mean is stricter."""


def cluster_command(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="IMAGES|PARQUET", help="Images, folders, one .parquet file, or a batch."),
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

    Embeddings come from the images, from the column `embedding` of a .parquet file, or from the output folder
    of `faceum batch`. The default threshold is that of `faceum compare`, and higher for many faces. Exit code
    1 if some images could not be used.
    """
    from rich.console import Console
    from rich.progress import Progress

    from faceum.analyzer import FaceAnalyzer
    from faceum.cli.paths import ImageList, list_images
    from faceum.files import check_folder
    from faceum.match import FMR
    from faceum.people.cluster_faces import faces_of_images, faces_of_parquet, parquet_files
    from faceum.people.cluster_report import write_clusters
    from faceum.people.clusters import cluster_vectors
    from faceum.weights.thresholds import thresholds

    tables = parquet_files(paths[0]) if len(paths) == 1 else []
    listed = ImageList() if tables else list_images(paths, leave_out=out)
    check_folder(out)
    shown = Console(stderr=True)
    with Progress(console=shown, transient=True, disable=not shown.is_terminal) as progress:
        if tables:
            faces = faces_of_parquet(tables, min_quality=min_quality)
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
        if faces.left_out:
            say(f"{count_noun(faces.left_out, 'face')} of a quality below {min_quality:g} left out.")
        if not len(faces.vectors):
            raise DataError("There is no face to group; give images with faces.")
        if threshold is None:
            _check_model(faces.model, model, recognizer)
            known = thresholds(recognizer or model)
            # Among few faces, strangers are rare at any threshold; two faces still are a pair like any other.
            threshold = max(known.at(FMR).cosine, known.for_gallery(RATE, len(faces.vectors)).cosine)
        task = progress.add_task("Comparing faces", total=len(faces.vectors))
        clustering = cluster_vectors(
            faces.vectors, threshold, progress=lambda done, _: progress.update(task, completed=done)
        )
        page = write_clusters(faces, clustering, out)
    people = int(clustering.labels.max()) + 1
    typer.echo(f"Faces: {len(faces.vectors)}, groups: {people}; see {escape(str(page))}.")
    if faces.problems:
        raise typer.Exit(1)


def _check_model(found: str | None, model: str, recognizer: str | None) -> None:
    """Raise DataError if embeddings of a file are of another network than the one whose thresholds apply."""
    from faceum.analyzer import FaceAnalyzer

    if found is None:
        return
    ours = FaceAnalyzer(model, tasks=["recognition"], recognizer=recognizer).model_id
    if found != ours:
        raise DataError(
            f"The embeddings are of {found}, but the thresholds are of {ours}; name the network by --model "
            "or --recognizer, or give a --threshold."
        )
