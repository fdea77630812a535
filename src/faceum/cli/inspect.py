"""`faceum inspect`: an image in; which experts its face met, as tables, JSON or a drawing out."""

import json as json_format
import sys
from pathlib import Path
from typing import Annotated

import typer

from faceum.errors import FaceumError, ModelError
from faceum.extras import INSTALL_TORCH, torch_is_installed

WIDE = 140
"""Columns of what does not go to a terminal."""


def inspect_command(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image with a face.")],
    out: Annotated[Path | None, typer.Option(help="Draw it all into this file, best a .png.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    tasks: Annotated[str | None, typer.Option(help="Only these tasks, with commas.")] = None,
    face: Annotated[int, typer.Option(min=1, help="Which face, 1 being the largest.")] = 1,
    model: Annotated[str, typer.Option(help="A registered name or a .safetensors file.")] = "compact",
    detector: Annotated[str, typer.Option(help="A detector's name, or auto.")] = "auto",
    cropped: Annotated[bool, typer.Option("--cropped", help="The image is a face, little else.")] = False,
) -> None:
    """Look inside: which experts each piece of a face takes for each task, and which tasks share them.

    In the maps, a number is the expert that a token takes first; tokens on the face are set off.
    """
    from faceum.analyzer import FaceAnalyzer
    from faceum.image import read_image, write_image
    from faceum.model.routing_stats import inspect_face
    from faceum.weights.load import load_model

    if not torch_is_installed():
        raise ModelError(f"Looking inside needs torch, and it is not installed: {INSTALL_TORCH}.")
    names = None if tasks is None else [name.strip() for name in tasks.split(",") if name.strip()]
    analyzer = FaceAnalyzer(model, tasks=names, detector=detector)  # its crops are what the network meets
    pixels = read_image(image)
    faces = analyzer.analyze(pixels, cropped=cropped)
    if len(faces) < face:
        found = {0: "no face", 1: "one face"}.get(len(faces), f"{len(faces)} faces")
        raise FaceumError(f"There is {found} in {image}, and face {face} was asked for.")
    place = faces[face - 1]
    inspection = inspect_face(load_model(model), pixels, place.box, place.points5, analyzer.tasks)
    if json:
        contents = {"source": str(image), "face": face, "box": place.box.tolist(), **inspection.to_dict()}
        typer.echo(json_format.dumps(contents, ensure_ascii=False, allow_nan=False))
    else:
        from rich.console import Console

        from faceum.cli.tables import inspection_tables

        # Beside a terminal, wide enough for six tasks' maps in a row.
        console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
        console.print(inspection_tables(inspection))
    if out is not None:
        from faceum.render.experts import render_experts

        write_image(out, render_experts(inspection, image.name))
        if not json:
            typer.echo(f"  -> {out}")
