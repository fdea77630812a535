"""The command line: words in, tables, JSON and files out; whatever goes wrong is one sentence.

Exit codes: 0 done, also when there was no face; 1 when some of several images failed, or when the doctor
finds something broken; 2 for input that cannot be used; 130 when interrupted. Heavy imports happen inside the
commands, and annotations are no strings here and in cli_*.py: both for a quick `faceum --help`.
"""

import errno
import io
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from faceum.cli.convert import convert_app
from faceum.cli.data import data_app
from faceum.cli.eval import evaluate_command
from faceum.cli.export import export_command
from faceum.cli.extract import extract_command
from faceum.cli.inspect import inspect_command
from faceum.cli.train import train_command
from faceum.errors import FaceumError

if TYPE_CHECKING:
    from rich.console import Console

    from faceum.results import Result

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""

WIDE = 140
"""Columns of tables that do not go to a terminal."""


class SpokenErrors(TyperGroup):
    """Runs a command and turns what can go wrong for a user into a sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except FaceumError as error:
            say(str(error))
        except MemoryError:
            say("There is not enough memory for this; use smaller images or fewer threads.")
        except KeyboardInterrupt:
            say("Interrupted; what was written is whole.")
            raise typer.Exit(INTERRUPTED) from None
        except OSError as error:
            if error.errno == errno.EPIPE:  # whoever read our output is gone, and that is all right
                _close_stdout()
                raise typer.Exit(1) from None
            say(f"{error.filename or 'A file'} cannot be used: {error.strerror or error}.")
        raise typer.Exit(2)


app = typer.Typer(
    cls=SpokenErrors,
    name="faceum",
    help="Face perception in one network: identity, age, attributes, expression, parsing, 68 points.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich takes as long to load as everything else together
)

ModelOption = Annotated[str, typer.Option(help="A registered name (see `faceum models`) or a weights file.")]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda or auto.")]
RuntimeOption = Annotated[str, typer.Option(help="onnxruntime, torch, torch-compiled or auto.")]
DetectorOption = Annotated[str, typer.Option(help="A detector's name, or auto.")]
ThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="Threads; by default all that this process may use.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        import faceum

        typer.echo(f"faceum {faceum.__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and end.", callback=_print_version, is_eager=True),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tell on stderr what was chosen.")] = False,
) -> None:
    """What holds for every command."""
    if verbose:
        import logging

        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stderr)


@app.command()
def analyze(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Images, or folders of images.")],
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object an image, a line each.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Write each image's <stem>.json, .png, .parsing.png and .npz into this folder."),
    ] = None,
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Some of recognition, age, attributes, expression, parsing, landmarks, with commas."
        ),
    ] = None,
    model: ModelOption = "compact",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    detector: DetectorOption = "auto",
    max_faces: Annotated[int | None, typer.Option(min=1, help="Only so many of the largest faces.")] = None,
    min_score: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Leave out faces the detector is less sure of.")
    ] = None,
    threads: ThreadsOption = None,
    cropped: Annotated[bool, typer.Option("--cropped", help="Each image is a face, little else.")] = False,
) -> None:
    """Find the faces in images and answer the six tasks for each."""
    from faceum.analyzer import MIN_SCORE, FaceAnalyzer
    from faceum.cli.paths import list_images
    from faceum.save import OutputStems

    images, empty = list_images(paths, leave_out=out)
    analyzer = FaceAnalyzer(
        model,
        tasks=None if tasks is None else [name.strip() for name in tasks.split(",") if name.strip()],
        device=device,
        runtime=runtime,
        detector=detector,
        min_score=MIN_SCORE if min_score is None else min_score,
        max_faces=max_faces,
        threads=threads,
    )
    stems = None if out is None else OutputStems(out, images)
    for sentence in empty:
        say(sentence)
    failed = len(empty)
    for result in analyzer.analyze_many(images, cropped=cropped):
        failed += result.error is not None
        _show(result, json)
        if out is not None and stems is not None:
            _save(result, out, stems.name(result.source), json)
    if failed:
        raise typer.Exit(2 if failed == len(images) + len(empty) else 1)


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="An image with a face.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another one.")],
    json: JsonOption = False,
    model: ModelOption = "compact",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    detector: DetectorOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Print how alike two faces are.

    The cosine between the largest faces of two images: 1 is the same image, about 0 is a stranger.
    """
    import numpy as np

    from faceum.analyzer import FaceAnalyzer

    analyzer = FaceAnalyzer(
        model, tasks=["recognition"], device=device, runtime=runtime, detector=detector, threads=threads
    )
    embeddings = []
    for path in (first, second):
        faces = analyzer.analyze(path)
        if not faces:
            raise FaceumError(f"There is no face in {path}; give an image with one.")
        if len(faces) > 1:
            say(f"There are {len(faces)} faces in {path}; the largest one is compared.")
        embeddings.append(np.asarray(faces[0].embedding))
    cosine = float(embeddings[0] @ embeddings[1])
    if json:
        _print_json({"cosine": cosine, "a": str(first), "b": str(second)})
    else:
        typer.echo(f"cosine {cosine:.4f}")


@app.command()
def models(json: JsonOption = False) -> None:
    """List the weights that are there, with their licence and scores."""
    from dataclasses import asdict

    from faceum.cli.tables import models_table
    from faceum.weights.registry import load_registry

    assets = list(load_registry().values())
    if json:
        _print_json([asdict(asset) for asset in assets])
    else:
        _console().print(models_table(assets))


@app.command()
def doctor(json: JsonOption = False, model: ModelOption = "compact") -> None:
    """Say what is installed, what would be used, and what is missing."""
    from faceum.cli.doctor import examine, is_healthy
    from faceum.cli.tables import findings_table

    findings = examine(model)
    if json:
        _print_json([finding.to_dict() for finding in findings])
    else:
        _console().print(findings_table(findings))
    if not is_healthy(findings):
        raise typer.Exit(1)


app.command("eval")(evaluate_command)
app.command("train")(train_command)
app.command("export")(export_command)
app.command("extract")(extract_command)
app.command("inspect")(inspect_command)
app.add_typer(convert_app, name="convert")
app.add_typer(data_app, name="data")


def main() -> None:
    """Run the command line; never shows a traceback, unless FACEUM_TRACEBACK is set."""
    if not os.environ.get("FACEUM_TRACEBACK"):
        sys.excepthook = _say_unforeseen
    # OpenCV itself would tell of broken images on stderr, too; it reads this when it loads.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name may hold what the terminal's encoding cannot show; stderr is made so by Python itself.
        sys.stdout.reconfigure(errors="backslashreplace")
    # Called as a command and not as a Typer object, which would put its own hook in the place of ours.
    typer.main.get_command(app)(prog_name="faceum")


def say(sentence: str) -> None:
    """One line on stderr."""
    typer.echo(f"faceum: {sentence}", err=True)


def _say_unforeseen(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        say("Interrupted; what was written is whole.")
        return
    say(
        f"This is a mistake in faceum itself ({kind.__name__}: {error}); please report it, "
        "with what FACEUM_TRACEBACK=1 shows."
    )


def _show(result: "Result", json: bool) -> None:
    if result.error is not None:
        say(result.error)
    if json:
        _print_json(result.to_dict())
    elif result.error is None:
        from faceum.cli.tables import result_table

        _console().print(result_table(result))


def _save(result: "Result", out: Path, stem: str, json: bool) -> None:
    from faceum.image import read_image
    from faceum.save import save_result

    image = None if result.error is not None or result.source is None else read_image(result.source)
    written = save_result(result, image, out, stem)
    if not json and result.error is None:
        typer.echo(f"  -> {', '.join(str(path) for path in written)}")


def _print_json(value: Any) -> None:
    import json

    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:  # a name that this encoding has no letters for; JSON's escapes do
        text = json.dumps(value, allow_nan=False)
    typer.echo(text)


def _console() -> "Console":
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=WIDE)


def _close_stdout() -> None:
    # Python would complain about the broken pipe once more when it flushes at the end.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
