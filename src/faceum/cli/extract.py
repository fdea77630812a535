"""`faceum extract`: a model and some of its tasks in; a smaller one with equal answers out."""

from pathlib import Path
from typing import Annotated

import typer


def extract_command(
    tasks: Annotated[
        str, typer.Option(help="What it shall answer: age, or several of the model's tasks with commas.")
    ],
    model: Annotated[str, typer.Option(help="A registered name or a .safetensors file.")] = "compact",
    out: Annotated[
        Path | None, typer.Option(help="The .safetensors file; named after model and tasks by default.")
    ] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Write the ONNX file, which runs without torch, beside it.")
    ] = False,
) -> None:
    """Cut a network of one or a few tasks out of a model; its answers to these equal the whole one's.

    Give the file to --model of any other command. Where only a face's box is known, the whole model first
    predicts points to turn the face by; without the task landmarks the box alone is used.
    """
    from faceum.export.subset import extract_file

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    done = extract_file(model, names, out, onnx=onnx)
    share = done.after / done.before
    typer.echo(
        f"{', '.join(done.tasks)}: {done.after / 1e6:.2f} of {done.before / 1e6:.2f} million parameters "
        f"({share:.0%})."
    )
    for path in done.files:
        typer.echo(f"  -> {path}  {path.stat().st_size / 1e6:.1f} MB")
