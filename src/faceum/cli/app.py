"""The command line's entry: the commands, the options for all of them, and one handler for errors.

Exit codes: 0 done, also when there was no face; 1 when some of several images failed, or when the doctor
finds something broken; 2 for input that cannot be used; 130 when interrupted. Heavy imports happen inside
the commands, for a quick `faceum --help`.
"""

import errno
import io
import os
import sys
import warnings
from types import TracebackType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from faceum.cli.analyze import analyze_command
from faceum.cli.batch import batch_app
from faceum.cli.calibrate import calibrate_command
from faceum.cli.cluster import cluster_command
from faceum.cli.compare import compare_command
from faceum.cli.convert import convert_app
from faceum.cli.data import data_app
from faceum.cli.doctor import doctor_command
from faceum.cli.eval import evaluate_command
from faceum.cli.export import export_command
from faceum.cli.extract import extract_command
from faceum.cli.inspect import inspect_command
from faceum.cli.models import models_command
from faceum.cli.native_stderr import without_decoder_noise
from faceum.cli.people import people_app
from faceum.cli.serve import serve_command
from faceum.cli.terminal import close_stdout, say
from faceum.cli.train import train_command
from faceum.cli.video import video_command
from faceum.errors import FaceumError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as in shells."""

USAGE_ERROR: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "UsageError"
)
"""click's error for wrong options; newer versions of typer carry click under another name."""


class FaceumGroup(TyperGroup):
    """Runs a command and turns every error that a user can cause into a sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except FaceumError as error:
            say(str(error))
        except USAGE_ERROR as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # click prints the help
                raise
            command = getattr(getattr(error, "ctx", None), "command_path", "faceum")
            message = error.format_message().rstrip(".")  # type: ignore[attr-defined]
            say(f"{message}{'' if message.endswith('?') else '.'} See `{command} --help`.")
        except MemoryError:
            say("There is not enough memory for this; use smaller images or fewer threads.")
        except KeyboardInterrupt:
            say("Interrupted; what was written is whole.")
            raise typer.Exit(INTERRUPTED) from None
        except OSError as error:
            if error.errno == errno.EPIPE:  # the reader of our output has gone
                close_stdout()
                raise typer.Exit(1) from None
            say(f"{error.filename or 'A file'} cannot be used: {error.strerror or error}.")
        raise typer.Exit(2)


app = typer.Typer(
    cls=FaceumGroup,
    name="faceum",
    help="Find faces and answer six tasks: recognition, age, attributes, expression, parsing, landmarks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: rich takes as long to load as everything else together
)


def _print_version(given: bool) -> None:
    if given:
        import faceum

        typer.echo(f"faceum {faceum.__version__}")
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Report choices on stderr.")] = False,
) -> None:
    """Handle the options that hold for every command."""
    if verbose:
        import logging

        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s", stream=sys.stderr)


app.command("analyze")(analyze_command)
app.add_typer(batch_app, name="batch")
app.command("compare")(compare_command)
app.add_typer(people_app, name="people")
app.command("cluster")(cluster_command)
app.command("calibrate")(calibrate_command)
app.command("video")(video_command)
app.command("models")(models_command)
app.command("serve")(serve_command)
app.command("doctor")(doctor_command)
app.command("inspect")(inspect_command)
app.command("train")(train_command)
app.command("eval")(evaluate_command)
app.command("export")(export_command)
app.command("extract")(extract_command)
app.add_typer(convert_app, name="convert")
app.add_typer(data_app, name="data")


def main() -> None:
    """Run the command line; never shows a traceback, unless FACEUM_TRACEBACK is set."""
    if not os.environ.get("FACEUM_TRACEBACK"):
        sys.excepthook = _say_unforeseen
    # OpenCV would report broken images on stderr a second time; it reads this when it loads.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    # max_pixels is our limit; Pillow's own warning says nothing that a user could use.
    warnings.filterwarnings("ignore", "Image size .* exceeds limit")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A file's name may hold what the terminal's encoding cannot show; Python does this for stderr.
        sys.stdout.reconfigure(errors="backslashreplace")
    # Called as a command and not as a Typer object, which would replace our exception hook.
    with without_decoder_noise():
        typer.main.get_command(app)(prog_name="faceum")


def _say_unforeseen(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        say("Interrupted; what was written is whole.")
        return
    say(
        f"This is a bug in faceum ({kind.__name__}: {error}); please report it with the output of "
        "FACEUM_TRACEBACK=1."
    )
