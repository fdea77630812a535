"""The options that several commands share, each with its help in one place.

Annotations are real objects, not strings, here and in every command's file: typer then needs no second look
at them, which keeps `faceum --help` quick.
"""

from typing import Annotated

import typer

ModelOption = Annotated[str, typer.Option(help="A registered name (see `faceum models`) or a weights file.")]
TorchModelOption = Annotated[
    str, typer.Option(help="A registered name (see `faceum models`) or a .safetensors file.")
]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
RuntimeOption = Annotated[str, typer.Option(help="onnxruntime, torch, torch-compiled or auto.")]
DetectorOption = Annotated[str, typer.Option(help="A detector's name, or auto.")]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="Number of threads; by default all that this process may use.")
]
TasksOption = Annotated[
    str | None,
    typer.Option(
        help="Only these tasks, separated by commas: "
        "recognition, age, attributes, expression, parsing, landmarks."
    ),
]
RecognizerOption = Annotated[
    str | None,
    typer.Option(help="An ONNX file in insightface's convention that recognizes in place of the model."),
]
MaskedOption = Annotated[bool, typer.Option("--masked", help="Use the thresholds for faces with masks.")]
CroppedOption = Annotated[
    bool, typer.Option("--cropped", help="The image is one face and nothing more; skip the detector.")
]
MaxFacesOption = Annotated[int | None, typer.Option(min=1, help="Keep only this many largest faces.")]
MinScoreOption = Annotated[
    float | None, typer.Option(min=0.0, max=1.0, help="Leave out faces with a lower detector score.")
]
MaxPixelsOption = Annotated[
    int | None, typer.Option(min=1, help="Refuse images of more pixels; 100,000,000 by default.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
OverwriteOption = Annotated[
    bool, typer.Option("--overwrite", help="Replace files that faceum did not write; never an input.")
]


def parse_tasks(text: str | None) -> list[str] | None:
    """Return the task names of a `--tasks` value; None, for all tasks, if the option is absent."""
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]
