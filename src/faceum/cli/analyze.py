"""`faceum analyze`: find the faces in images, print the answers, and write them to files."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faceum.cli.options import (
    CroppedOption,
    DetectorOption,
    DeviceOption,
    MaxFacesOption,
    MaxPixelsOption,
    MinScoreOption,
    ModelOption,
    OverwriteOption,
    RecognizerOption,
    RuntimeOption,
    TasksOption,
    ThreadsOption,
    parse_tasks,
)
from faceum.cli.terminal import escape, make_console, print_json, say
from faceum.errors import FaceumError

if TYPE_CHECKING:
    from faceum.results import Result
    from faceum.save import OutputStems


def analyze_command(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", help="Images, folders, .txt lists of paths, or - for standard input."),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object per image and line.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Write each image's <stem>.json, .png, .parsing.png and .npz into this folder."),
    ] = None,
    overwrite: OverwriteOption = False,
    tasks: TasksOption = None,
    model: ModelOption = "compact",
    recognizer: RecognizerOption = None,
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    detector: DetectorOption = "auto",
    max_faces: MaxFacesOption = None,
    min_score: MinScoreOption = None,
    max_pixels: MaxPixelsOption = None,
    threads: ThreadsOption = None,
    cropped: CroppedOption = False,
) -> None:
    """Find the faces in images and answer the six tasks for each.

    Exit code 1 if some images failed, 2 if all did. Nothing is written without --out.
    """
    from faceum.analyzer import MIN_SCORE, FaceAnalyzer
    from faceum.cli.paths import list_images
    from faceum.files import check_folder
    from faceum.image import MAX_PIXELS
    from faceum.save import OutputStems

    images = list_images(paths, leave_out=out)
    if out is not None:
        check_folder(out)
    stems = None if out is None else OutputStems(out, images.files)
    analyzer = FaceAnalyzer(
        model,
        tasks=parse_tasks(tasks),
        recognizer=recognizer,
        device=device,
        runtime=runtime,
        detector=detector,
        min_score=MIN_SCORE if min_score is None else min_score,
        max_faces=max_faces,
        max_pixels=MAX_PIXELS if max_pixels is None else max_pixels,
        threads=threads,
    )
    for sentence in (*images.problems, *filter(None, [images.summary()])):
        say(sentence)
    failed = len(images.problems)
    results = analyzer.analyze_many(images.sources.values(), cropped=cropped, keep_images=out is not None)
    for name, result in zip(images.sources, results, strict=True):
        error = result.error if result.error is None or name in result.error else f"{name}: {result.error}"
        result = replace(result, source=name, error=error)
        _show(result, json)
        failed += result.error is not None
        if out is not None and stems is not None and not _save(result, out, stems, overwrite, json):
            failed += result.error is None
    if failed:
        raise typer.Exit(2 if failed == len(images.sources) + len(images.problems) else 1)


def _show(result: "Result", json: bool) -> None:
    if result.error is not None:
        say(result.error)
    if json:
        print_json(result.to_dict())
    elif result.error is None:
        from faceum.cli.tables import result_table

        make_console().print(result_table(result))


def _save(result: "Result", out: Path, stems: "OutputStems", overwrite: bool, json: bool) -> bool:
    """Write the files of one image; return False, after a sentence, if that fails."""
    from faceum.cli.paths import result_name
    from faceum.save import save_result

    name = result.source or ""
    try:
        written = save_result(result, result.image, out, stems.name(result_name(name)), overwrite=overwrite)
    except (FaceumError, OSError, MemoryError) as error:  # costs this image's files; the others continue
        reason = error.strerror or str(error) if isinstance(error, OSError) else str(error)
        say(f"The results of {name} were not written: {reason.rstrip('.') or type(error).__name__}.")
        return False
    if not json and result.error is None:
        typer.echo(f"  -> {escape(', '.join(str(path) for path in written))}")
    return True
