"""The commands `faceum data pack` and `faceum data check`."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from faceum.cli.terminal import say
from faceum.errors import count_noun

MOST_SKIPPED = 20
"""Skipped samples that are named."""

data_app = typer.Typer(
    help="Pack data sets into Parquet, and check them.", no_args_is_help=True, rich_markup_mode=None
)


@data_app.command("pack")
def pack_command(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET", help="The data set: celeba, utkface, lfw, ... An unknown name lists them all."
        ),
    ],
    root: Annotated[
        Path, typer.Argument(metavar="ROOT", help="The folder of the data set, or for bin its file.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for <name>.<split>.parquet.")],
    split: Annotated[str, typer.Option(help="A split, as the data set names it.")] = "train",
    name: Annotated[
        str | None, typer.Option(help="Name of the packed set; by default that of the data set.")
    ] = None,
    margin: Annotated[float, typer.Option(help="Side of the cut in face sizes; 0 keeps whole images.")] = 2.6,
    face_pixels: Annotated[
        int, typer.Option(help="Shrink larger faces to this many pixels; 0 keeps their size.")
    ] = 150,
    detector: Annotated[
        str, typer.Option(help="A detector's name, auto, or none for the boxes of the set.")
    ] = "auto",
    refuse: Annotated[
        bool, typer.Option("--refuse", help="Stop at the first wrong label instead of skipping it.")
    ] = False,
) -> None:
    """Pack a public data set into a Parquet file.

    Verification sets get a file of pairs, too.
    """
    from rich.console import Console

    from faceum.data.pack import PackConfig, PackReport, pack, pack_pairs
    from faceum.datasets.registry import PAIR_SETS, read_dataset
    from faceum.detect.base import load_detector

    config = PackConfig(margin=margin or None, face_pixels=face_pixels or None, refuse=refuse)
    path = out / f"{name or dataset}.{split}.parquet"
    pairs = PAIR_SETS[dataset](root, split) if dataset in PAIR_SETS else None
    samples = pairs.samples if pairs else read_dataset(dataset, root, split)
    with Console(stderr=True).status("packing") as status:

        def show(report: PackReport) -> None:
            status.update(f"{report.written} packed, {len(report.skipped)} skipped")

        finder = None if detector == "none" else load_detector(detector)
        report = pack(samples, path, config=config, detector=finder, progress=show)
    for sentence in report.skipped[:MOST_SKIPPED]:
        say(f"skipped: {sentence}")
    typer.echo(f"{path}: {count_noun(report.written, 'face')}, {len(report.skipped):,} skipped")
    if pairs:
        place = out / f"{name or dataset}-pairs.{split}.parquet"
        packed = pack_pairs(pairs, place, skipped=report.skipped_ids)
        left = len(pairs.pairs) - packed
        typer.echo(
            f"{place}: {count_noun(packed, 'pair')}"
            + (f", left out for skipped faces: {left:,}" if left else "")
        )


@data_app.command("check")
def check_command(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH", help="Packed Parquet files, or folders of them.")
    ],
    limit: Annotated[int, typer.Option(min=0, help="Print at most this many problems of each kind.")] = 10,
) -> None:
    """Check packed files.

    Finds broken images, wrong labels, doubled ids, and people or images in two splits.

    The exit code is 1 if there are problems.
    """
    from faceum.data.check import check_packed

    counts: Counter[str] = Counter()
    for problem in check_packed(paths):
        counts[problem.kind] += 1
        if counts[problem.kind] <= limit:
            typer.echo(f"{problem.kind}: {problem.place}: {problem.sentence}")
    found = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    typer.echo(f"{count_noun(sum(counts.values()), 'problem')}{f' ({found})' if found else ''}")
    if counts:
        raise typer.Exit(1)
