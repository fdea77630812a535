"""`faceum batch`: analyze millions of images, resume after anything, and check what is there."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from faceum.cli.options import (
    CroppedOption,
    DetectorOption,
    DeviceOption,
    JsonOption,
    MaxFacesOption,
    MaxPixelsOption,
    MinScoreOption,
    ModelOption,
    RecognizerOption,
    RuntimeOption,
    TasksOption,
    parse_tasks,
)
from faceum.cli.terminal import escape, make_console, print_json, say
from faceum.errors import count_noun

if TYPE_CHECKING:
    from faceum.jobs.batch import Tally
    from faceum.jobs.worker import Job

PLAIN_SECONDS = 30.0
"""How often a line tells the progress where stderr is no terminal."""

RUN = "run"

SourceArgument = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A folder, glob, list of paths (.txt, or - for standard input), tar shards, Parquet files; "
        "by path or URL (s3://, gs://, hf://).",
    ),
]


class BatchGroup(TyperGroup):
    """Takes `faceum batch SOURCE` for `faceum batch run SOURCE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the name of the default command."""
        if args and args[0] not in (*self.commands, "--help"):
            args = [RUN, *args]
        return super().parse_args(ctx, args)


batch_app = typer.Typer(
    cls=BatchGroup,
    help="Analyze millions of images into Parquet files, with resume.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@batch_app.command(RUN)
def run_command(
    source: SourceArgument,
    out: Annotated[Path, typer.Option(help="Folder for the plan and the results.")],
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; by default as many as there are processors.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each worker.")] = None,
    engine: Annotated[
        str, typer.Option(help="local: processes of this machine. ray: actors of Ray Data.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(help="Address of the Ray cluster; by default RAY_ADDRESS.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Do only the I-th of N parts, for array jobs.")
    ] = None,
    plan_only: Annotated[bool, typer.Option("--plan-only", help="Write the plan and stop.")] = False,
    images_per_shard: Annotated[
        int | None, typer.Option(min=1, help="Images in a result file; 1,000 by default.")
    ] = None,
    column: Annotated[str | None, typer.Option(help="The column of Parquet files to read.")] = None,
    max_failures: Annotated[
        float,
        typer.Option(min=0.0, max=1.0, help="Largest share of failed images for exit code 0."),
    ] = 0.0,
    retry_broken: Annotated[
        bool, typer.Option("--retry-broken", help="Also try broken images again, not only unread ones.")
    ] = False,
    parsing: Annotated[bool, typer.Option("--parsing", help="Keep parsing maps, as PNG.")] = False,
    tasks: TasksOption = None,
    model: ModelOption = "compact",
    device: DeviceOption = "auto",
    runtime: RuntimeOption = "auto",
    detector: DetectorOption = "auto",
    recognizer: RecognizerOption = None,
    max_faces: MaxFacesOption = None,
    min_score: MinScoreOption = None,
    max_pixels: MaxPixelsOption = None,
    cropped: CroppedOption = False,
) -> None:
    """Analyze a source shard by shard.

    Repeat the command to resume; images that could not be read are tried again.
    Exit code 1 if more images failed than --max-failures allows, 2 if the run had to stop.
    """
    from dataclasses import replace

    from faceum.jobs.batch import BatchConfig, Tally, parse_part, prepare_batch, shards_to_do, with_threads
    from faceum.jobs.worker import analyzer_options

    part = parse_part(shard)
    own_device = _choose_device(engine, address, device)
    options = analyzer_options(
        model, tasks=parse_tasks(tasks), max_pixels=max_pixels, device=own_device, runtime=runtime,
        detector=detector, recognizer=recognizer, max_faces=max_faces, min_score=min_score,
    )  # fmt: skip
    config = BatchConfig(
        options=options, cropped=cropped, parsing=parsing, column=column, images_per_shard=images_per_shard
    )
    planned = prepare_batch(source, out, config)
    job = replace(planned, retry_broken=retry_broken, accept_all=max_failures >= 1)
    shards = shards_to_do(job, part)
    images = f"{count_noun(job.manifest.images, 'image')} in " if job.manifest.images else ""
    say(f"{images}{count_noun(job.manifest.shards, 'shard')}; {len(shards):,} to do here.")
    if plan_only or not shards:
        return
    tally, begun = Tally(), time.perf_counter()
    if engine == "ray":
        given_up = _run_ray(with_threads(job, threads or 1), shards, tally, workers, address, device)
    else:
        given_up = _run(job, shards, tally, workers, threads)
    _show_summary(tally, len(shards), time.perf_counter() - begun)
    for number in given_up:
        say(f"Shard {number} ended its worker again and again and is not done; the next run tries it again.")
    if given_up or tally.counts.failed > max_failures * tally.counts.total:
        raise typer.Exit(1)


@batch_app.command("status")
def status_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a batch.")],
    json: JsonOption = False,
) -> None:
    """Show how far a batch is, and what became of its images."""
    from faceum.jobs.check import batch_status

    status = batch_status(folder)
    if json:
        print_json(status.to_dict())
        return
    manifest, counts = status.manifest, status.counts
    rows = {
        "source": escape(manifest.source),
        "model": manifest.settings["model"],
        "shards": f"{status.done:,} of {manifest.shards:,} done, {status.to_retry:,} to retry",
        "images": f"{counts.total:,}" + (f" of {manifest.images:,}" if manifest.images else ""),
        **{name: f"{counts.images[name]:,}" for name in ("ok", "broken", "unread", "crashed")},
        "faces": f"{counts.faces:,}",
        "images a second": "" if status.rate is None else f"{status.rate:,.1f} over the last hour",
        "last result": "" if status.last_written is None else f"{status.last_written:,.0f} s ago",
    }
    _show_table(rows)


@batch_app.command("verify")
def verify_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a batch.")],
) -> None:
    """Check that no image is missing and that no file has changed.

    Every image must have exactly one status, and every file its rows and checksums.

    Exit code 1 if something is wrong.
    """
    from faceum.jobs.check import verify_batch

    problems = verify_batch(folder)
    for problem in problems:
        say(problem)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{escape(str(folder))} is complete: every image has one status.")


def _run(
    job: "Job", shards: list[int], tally: "Tally", workers: int | None, threads: int | None
) -> list[int]:
    """Run the local engine with a bar, or with lines where stderr is no terminal; return what is given up."""
    from faceum.jobs.batch import divide_threads, with_threads
    from faceum.jobs.local import run_local

    workers, threads = divide_threads(job.options, workers, threads)
    workers = min(workers, len(shards))
    say(f"{count_noun(workers, 'worker')} of {count_noun(threads, 'thread')} each.")
    with Progress(job, shards, tally) as progress:
        return run_local(with_threads(job, threads), shards, workers, progress)


def _choose_device(engine: str, address: str | None, device: str) -> str:
    """Return the device of the workers: processors with Ray, where GPUs have actors of their own.

    Raises DataError for an engine that is not known, or cannot do what the other options say.
    """
    from faceum.errors import DataError

    if engine not in ("local", "ray"):
        raise DataError(f"--engine is {engine!r}, expected local or ray.")
    if engine == "local" and address is not None:
        raise DataError("--address is of a Ray cluster; add --engine ray.")
    if engine == "ray" and device not in ("auto", "cpu", "cuda"):
        raise DataError(f"--engine ray takes --device auto, cpu or cuda, not {device}.")
    return "cpu" if engine == "ray" else device


def _run_ray(
    job: "Job", shards: list[int], tally: "Tally", workers: int | None, address: str | None, device: str
) -> list[int]:
    """Run the Ray engine, the network on the cluster's GPUs if there are any; return what is given up."""
    from faceum.errors import DataError
    from faceum.jobs.ray_engine import connect, run_ray
    from faceum.jobs.ray_network import start_networks

    threads = job.options["threads"]
    with connect(address) as cluster:
        gpus = 0 if device == "cpu" else cluster.gpus
        networks = start_networks(cluster.ray, gpus, {**job.options, "device": device})
        if networks is None and device == "cuda":
            raise DataError("The Ray cluster has no free GPU; add nodes with GPUs, or leave out --device.")
        workers = min(workers or max(1, cluster.cpus // threads), len(shards))
        size, on = count_noun(threads, "thread"), count_noun(cluster.cpus, "processor")
        say(f"{count_noun(workers, 'actor')} of {size} each on {on}.")
        if networks is not None:
            gpu_actors = count_noun(len(networks.actors), "GPU actor")
            say(f"The network runs in {gpu_actors}, on {networks.device}.")
        with Progress(job, shards, tally) as progress:
            return run_ray(cluster, job, shards, workers, progress, networks)


class Progress:
    """Shows a run as it goes: images, rate and time left."""

    def __init__(self, job: "Job", shards: list[int], tally: "Tally") -> None:
        """job, shards: what is to be done. tally: is kept up to date."""
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self._tally, self._shards = tally, len(shards)
        per_shard = job.manifest.images / job.manifest.shards
        self._total = round(per_shard * len(shards)) or None
        columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
        stderr = Console(stderr=True)
        self._bar = Bar(*columns, console=stderr, transient=True, disable=not stderr.is_terminal)
        self._task = self._bar.add_task("Starting", total=self._total or self._shards)
        self._begun = self._said = time.perf_counter()

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def advance(self, images: int) -> None:
        """Show more images."""
        self._tally.advance(images)
        self._show()

    def finish(self, shard: int, counts: Any) -> None:
        """Show a finished shard."""
        self._tally.finish(shard, counts)
        self._show()

    def lose(self, shard: int | None, reason: str) -> None:
        """Say that a worker died."""
        self._tally.lose(shard, reason)
        over = "" if shard is None else f" over shard {shard}, which is begun again"
        say(f"A worker ended by {reason}{over}.")

    def _show(self) -> None:
        tally, now = self._tally, time.perf_counter()
        rate = tally.images / max(now - self._begun, 1e-9)
        shards = f"{tally.shards:,} of {count_noun(self._shards, 'shard')}"
        text = f"{count_noun(tally.images, 'image')}, {shards}, {rate:,.1f} images/s"
        done = tally.images if self._total else tally.shards
        self._bar.update(self._task, completed=done, description=text)
        if self._bar.disable and now - self._said > PLAIN_SECONDS:
            self._said = now
            left = (self._total - tally.images) / rate if self._total and rate else None
            say(text + ("" if left is None else f", about {max(left, 0) / 60:,.0f} min left"))


def _show_summary(tally: "Tally", shards: int, seconds: float) -> None:
    counts = tally.counts
    _show_table(
        {
            "shards": f"{tally.shards:,} of {shards:,}",
            "images": f"{counts.total:,}",
            **{name: f"{counts.images[name]:,}" for name in ("ok", "broken", "unread", "crashed")},
            "faces": f"{counts.faces:,}",
            "workers lost": f"{tally.lost:,}",
            "time": f"{seconds:,.1f} s, {tally.images / max(seconds, 1e-9):,.1f} images/s",
        }
    )


def _show_table(rows: dict[str, str]) -> None:
    from rich.table import Table

    table = Table(show_header=False, box=None)
    for name, value in rows.items():
        table.add_row(name, value)
    make_console().print(table)
