"""`faceum calibrate`: measure when two faces are one person, for a network that has no thresholds yet."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faceum.cli.options import DetectorOption, ThreadsOption
from faceum.cli.terminal import make_console
from faceum.errors import DataError

if TYPE_CHECKING:
    from rich.table import Table

    from faceum.evaluate.record import Evaluation


def calibrate_command(
    sets: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="NAME=PATH",
            help="A set with pairs: lfw=lfw:FOLDER, a packed Parquet file with its pairs, or a .bin file.",
        ),
    ],
    recognizer: Annotated[
        Path, typer.Option(help="The ONNX recognition network, in insightface's convention.")
    ],
    detector: DetectorOption = "auto",
    limit: Annotated[int | None, typer.Option(min=2, help="Use only this many pairs of the set.")] = None,
    threads: ThreadsOption = None,
) -> None:
    """Measure the thresholds of a recognition network.

    They are written next to it, as NAME.thresholds.json.

    Thresholds for faces with masks are measured, too, on painted masks, unless faces of the set wear masks
    already. So is the quality of a face, if the set has several folds. Use pairs of people that the network
    has not learned from.
    """
    from faceum.detect.base import load_detector
    from faceum.evaluate.protocols import evaluate_set
    from faceum.evaluate.sets import load_set, parse_sets
    from faceum.evaluate.thresholds import threshold_table, thresholds_of
    from faceum.recognizer import Recognizer, RecognizerRunner
    from faceum.runner import load_runner
    from faceum.weights.thresholds import Thresholds, write_thresholds

    network = Recognizer(recognizer, threads=threads)
    runner = RecognizerRunner(load_runner("compact", threads=threads, tasks=["landmarks"]), network)
    finder = load_detector(detector, threads=threads)
    evaluations: list[Evaluation] = []
    for name, place in parse_sets(sets).items():
        labelled = load_set(name, place)
        requested = [one for one in labelled.protocols if one in ("verification", "masked")]
        if labelled.pairs is not None and len(set(labelled.pairs.fold)) > 1:
            requested.append("quality")
        evaluations += evaluate_set(labelled, runner, finder, requested, limit=limit)
    measured = thresholds_of(evaluations)
    if not measured:
        raise DataError("These sets have too few pairs for thresholds; give a set with a list of pairs.")
    path = write_thresholds(network.path, Thresholds.from_dict(measured))
    for evaluation in evaluations:
        if evaluation.thresholds is not None:
            table = threshold_table(evaluation.thresholds)
            make_console().print(f"{evaluation.dataset}, {evaluation.protocol}")
            make_console().print(_make_table(table.columns, table.rows))
    typer.echo(f"Thresholds: {path}")


def _make_table(columns: tuple[str, ...], rows: tuple[tuple[str | int | float | None, ...], ...]) -> "Table":
    from rich import box
    from rich.table import Table

    shown = Table(*columns, box=box.SIMPLE)
    for row in rows:
        shown.add_row(*(f"{cell:.1f}" if isinstance(cell, float) else str(cell) for cell in row))
    return shown
