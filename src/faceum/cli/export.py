"""`faceum export`: a model's name in; a checked ONNX file with its sidecar out."""

from pathlib import Path
from typing import Annotated

import typer

from faceum.errors import ModelError
from faceum.extras import INSTALL_TORCH, torch_is_installed


def export_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A registered name or a .safetensors file.")],
    out: Annotated[Path, typer.Option(help="The .onnx file to write; its sidecar is a .json beside it.")],
    format: Annotated[str, typer.Option(help="onnx; there is no other yet.")] = "onnx",
    tasks: Annotated[str | None, typer.Option(help="Only these tasks, with commas.")] = None,
    precision: Annotated[
        str, typer.Option(help="fp32; fp16 (weights stored so, half the size); int8 (needs images).")
    ] = "fp32",
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Images with faces to compare on; int8 calibrates on every other one and compares on the "
            "rest. Without images noise is compared, which proves less. Repeat for more.",
        ),
    ] = None,
    tolerance: Annotated[
        list[str] | None,
        typer.Option(metavar="TASK=NUMBER", help="How far a task's answers may be off. Repeat for more."),
    ] = None,
) -> None:
    """Write a network as an ONNX file that is proven to answer as torch does.

    Distances are counted in each task's unit: 1 - cosine for recognition, years for age, probability for
    attributes and expression, share of pixels for parsing, pixels of the crop for landmarks.
    """
    if format != "onnx":
        raise ModelError(f"There is no format {format!r} to export to; use onnx.")
    if not torch_is_installed():
        raise ModelError(f"An export needs torch: {INSTALL_TORCH.replace('torch]', 'export]')}.")
    from faceum.cli.paths import list_images
    from faceum.export.exporter import export_file
    from faceum.tasks import TASKS

    found = list_images(images or ()).files
    exported = export_file(
        model,
        out,
        tasks=None if tasks is None else [name.strip() for name in tasks.split(",") if name.strip()],
        precision=precision,
        images=found,
        tolerance=dict(_limit(text) for text in tolerance or ()),
    )
    compared = f"{exported.faces} faces" if exported.faces else "noise (give --images for real faces)"
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
        raise ModelError(f"The tolerance {text!r} is not TASK=NUMBER, such as age=0.5.") from None
