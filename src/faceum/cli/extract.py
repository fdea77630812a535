"""`faceum extract`: write a smaller network that answers some of a model's tasks."""

from pathlib import Path
from typing import Annotated

import typer

from faceum.cli.options import TorchModelOption, parse_tasks


def extract_command(
    tasks: Annotated[str, typer.Option(help="The tasks that it answers, separated by commas.")],
    model: TorchModelOption = "compact",
    out: Annotated[
        Path | None, typer.Option(help="The .safetensors file; its default name has the model and the tasks.")
    ] = None,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Write an ONNX file too, which runs without torch.")
    ] = False,
) -> None:
    """Write a network of one or a few tasks of a model.

    It answers these tasks exactly as the whole model does.

    Use the file with --model of any other command. If a detector gives no points, the whole model aligns a
    face by its own landmarks; without the task landmarks the box is used.
    """
    from faceum.export.subset import extract_file

    done = extract_file(model, parse_tasks(tasks) or (), out, onnx=onnx)
    share = done.after / done.before
    typer.echo(
        f"{', '.join(done.tasks)}: {done.after / 1e6:.2f} of {done.before / 1e6:.2f} million parameters "
        f"({share:.0%})."
    )
    for path in done.files:
        typer.echo(f"  -> {path}  {path.stat().st_size / 1e6:.1f} MB")
