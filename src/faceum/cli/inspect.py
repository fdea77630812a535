"""`faceum inspect`: show the experts that each part of a face takes, as tables, JSON or a drawing."""

import json as json_format
import sys
from pathlib import Path
from typing import Annotated

import typer

from faceum.cli.options import (
    CroppedOption,
    DetectorOption,
    JsonOption,
    TasksOption,
    TorchModelOption,
    parse_tasks,
)
from faceum.errors import FaceumError, ModelError, count_noun
from faceum.extras import missing, torch_is_installed

WIDE = 140
"""Width in columns of output that is not a terminal."""


def inspect_command(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="An image with a face.")],
    out: Annotated[
        Path | None, typer.Option(help="Draw the maps into this image file, such as a .png.")
    ] = None,
    json: JsonOption = False,
    tasks: TasksOption = None,
    face: Annotated[int, typer.Option(min=1, help="Number of the face; 1 is the largest.")] = 1,
    model: TorchModelOption = "compact",
    detector: DetectorOption = "auto",
    cropped: CroppedOption = False,
) -> None:
    """Show which experts each part of a face takes for each task.

    Tables say which tasks share experts.

    The number in a map is the first expert of a token; face tokens are highlighted.
    """
    from faceum.analyzer import FaceAnalyzer
    from faceum.image import read_image, write_image
    from faceum.model.routing_stats import inspect_face
    from faceum.weights.load import load_model

    if not torch_is_installed():
        raise ModelError(missing("Inspecting a network", "torch"))
    analyzer = FaceAnalyzer(
        model, tasks=parse_tasks(tasks), detector=detector
    )  # cuts the crops of the network
    pixels = read_image(image)
    faces = analyzer.analyze(pixels, cropped=cropped)
    if len(faces) < face:
        found = count_noun(len(faces), "face") if faces else "no face"
        raise FaceumError(f"Found {found} in {image}; cannot inspect face {face}.")
    place = faces[face - 1]
    inspection = inspect_face(load_model(model), pixels, place.box, place.points5, analyzer.tasks)
    if json:
        contents = {"source": str(image), "face": face, "box": place.box.tolist(), **inspection.to_dict()}
        typer.echo(json_format.dumps(contents, ensure_ascii=False, allow_nan=False))
    else:
        from rich.console import Console

        from faceum.cli.tables import inspection_tables

        # In a file, wide enough for the maps of six tasks in a row.
        console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDE)
        console.print(inspection_tables(inspection))
    if out is not None:
        from faceum.render.experts import render_experts

        write_image(out, render_experts(inspection, image.name))
        if not json:
            typer.echo(f"  -> {out}")
