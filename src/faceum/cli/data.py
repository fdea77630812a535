"""The commands `faceum data pack` and `faceum data check`."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faceum.errors import FaceumError

if TYPE_CHECKING:
    from rich.console import Console

data_app = typer.Typer(help="Pack data sets into Parquet, and check them.", no_args_is_help=True)


@data_app.command("pack")
def pack_command(
    dataset: Annotated[
        str, typer.Argument(help="Data set: celeba, utkface, lfw, ... An unknown name lists them all.")
    ],
    root: Annotated[Path, typer.Argument(help="Folder of the data set (for bin: its file).")],
    out: Annotated[Path, typer.Argument(help="Folder for <name>.<split>.parquet.")],
    split: Annotated[str, typer.Option(help="Split, as named by the data set.")] = "train",
    name: Annotated[
        str | None, typer.Option(help="Name of the packed set. Default: that of the data set.")
    ] = None,
    margin: Annotated[float, typer.Option(help="Side of the cut in face sizes. 0 keeps whole images.")] = 2.6,
    face_pixels: Annotated[int, typer.Option(help="Shrink larger faces to so many pixels. 0: never.")] = 150,
    detect: Annotated[bool, typer.Option(help="Find boxes and points with the detector.")] = True,
    refuse: Annotated[bool, typer.Option(help="Stop at the first wrong label instead of skipping.")] = False,
) -> None:
    """Pack a public data set into a Parquet file. Verification sets get a file of pairs, too."""
    from faceum.data.pack import PackConfig, PackReport, pack, pack_pairs
    from faceum.datasets.registry import PAIR_SETS, read_dataset
    from faceum.detect.base import load_detector

    config = PackConfig(margin=margin or None, face_pixels=face_pixels or None, refuse=refuse)
    path = out / f"{name or dataset}.{split}.parquet"
    try:
        pairs = PAIR_SETS[dataset](root, split) if dataset in PAIR_SETS else None
        samples = pairs.samples if pairs else read_dataset(dataset, root, split)
        with _errors().status("packing") as status:

            def show(report: PackReport) -> None:
                status.update(f"{report.written} packed, {len(report.skipped)} skipped")

            detector = load_detector() if detect else None
            report = pack(samples, path, config=config, detector=detector, progress=show)
        packed = None
        if pairs:
            place = out / f"{name or dataset}-pairs.{split}.parquet"
            packed = pack_pairs(pairs, place, skipped=report.skipped_ids)
    except FaceumError as error:
        raise _refusal(error) from error
    for sentence in report.skipped[:20]:
        _errors().print(f"skipped: {sentence}", markup=False, highlight=False, soft_wrap=True)
    typer.echo(f"{path}: {report.written} faces, {len(report.skipped)} skipped")
    if pairs:
        left = len(pairs.pairs) - (packed or 0)
        typer.echo(
            f"{place}: {packed} pairs" + (f", {left} left out: they name skipped faces" if left else "")
        )


@data_app.command("check")
def check_command(
    paths: Annotated[list[Path], typer.Argument(help="Packed Parquet files, or folders of them.")],
    limit: Annotated[int, typer.Option(help="Print at most so many problems of each kind.")] = 10,
) -> None:
    """Check packed files for broken images, wrong labels, doubled ids, and people or images in two splits.

    The exit code is 1 if there are problems.
    """
    from faceum.data.check import check_packed

    counts: Counter[str] = Counter()
    try:
        for problem in check_packed(paths):
            counts[problem.kind] += 1
            if counts[problem.kind] <= limit:
                typer.echo(f"{problem.kind}: {problem.place}: {problem.sentence}")
    except FaceumError as error:
        raise _refusal(error) from error
    found = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    typer.echo(f"{sum(counts.values())} problems{f' ({found})' if found else ''}")
    if counts:
        raise typer.Exit(1)


def _errors() -> "Console":
    from rich.console import Console

    return Console(stderr=True)


def _refusal(error: FaceumError) -> typer.Exit:
    _errors().print(str(error), markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(2)
