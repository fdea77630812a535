"""`faceum export`: write a checked ONNX file and its description."""

from pathlib import Path
from typing import Annotated

import typer

from faceum.cli.options import TasksOption, TorchModelOption, parse_tasks
from faceum.errors import ModelError, count_noun
from faceum.extras import missing, torch_is_installed


def export_command(
    out: Annotated[Path, typer.Option(help="The .onnx file to write; a .json file next to it describes it.")],
    model: TorchModelOption = "compact",
    format: Annotated[str, typer.Option(help="onnx.")] = "onnx",
    tasks: TasksOption = None,
    precision: Annotated[
        str, typer.Option(help="fp32; fp16 (half the file size); int8 (needs images).")
    ] = "fp32",
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Images with faces, or a folder, to compare on; int8 calibrates on every other one. Without "
            "images the file is compared on noise. Can be repeated.",
        ),
    ] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK=NUMBER", help="Largest accepted distance of a task. Can be repeated."),
    ] = None,
) -> None:
    """Write a network as an ONNX file.

    Its answers are compared with torch.

    Distances are in each task's unit: 1 - cosine for recognition, years for age, probability for
    attributes and expression, part of the pixels for parsing, pixels of the crop for landmarks.
    """
    if format != "onnx":
        raise ModelError(f"There is no format {format!r}; use onnx.")
    if not torch_is_installed():
        raise ModelError(missing("Exporting a network", "onnxscript"))
    from faceum.cli.paths import list_images
    from faceum.export.exporter import export_file
    from faceum.tasks import TASKS

    found = list_images(images or ()).files
    exported = export_file(
        model,
        out,
        tasks=parse_tasks(tasks),
        precision=precision,
        images=found,
        tolerance=dict(_limit(text) for text in tolerance or ()),
    )
    compared = (
        count_noun(exported.faces, "face") if exported.faces else "noise (give --images for real faces)"
    )
    typer.echo(f"Compared with torch on {compared}:")
    for task in TASKS:
        if task in exported.distances:
            typer.echo(f"  {task} is off by {exported.distances[task]:.2g}")
    typer.echo(f"Wrote {exported.file} and {exported.sidecar}.")


def _limit(text: str) -> tuple[str, float]:
    task, _, number = text.partition("=")
    try:
        return task.strip(), float(number)
    except ValueError:
        raise ModelError(f"Cannot read the tolerance {text!r}; write TASK=NUMBER, such as age=0.5.") from None
