"""The command `faceum eval`: score a model on labelled sets and write a report."""

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faceum.cli.options import DeviceOption, ModelOption, RuntimeOption, ThreadsOption

if TYPE_CHECKING:
    from faceum.crop import Crop
    from faceum.detect.base import Detector
    from faceum.evaluate.protocols import LabelledSet
    from faceum.runner import Runner

RESULTS = Path("results", "eval")
"""Folder of reports without --out, each in a folder with the name of its model."""

EXPERT_FACES = 64
"""Number of faces of each set over which the load of the experts is counted."""

app = typer.Typer()


@app.command("eval")
def evaluate_command(
    sets: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="NAME=PATH",
            help="A set: its name, and its Parquet file, .bin file, or LAYOUT/SPLIT:FOLDER. Can be repeated.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for the report. Default: results/eval/MODEL."),
    ] = None,
    model: ModelOption = "compact",
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this protocol: verification, masked, identification, age, ... Can be repeated."
        ),
    ] = None,
    detector: Annotated[
        str, typer.Option(help="A detector's name, auto, or none for the boxes of the sets.")
    ] = "auto",
    runtime: RuntimeOption = "auto",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use at most this many faces or pairs of each set.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the painted face masks.")] = 0,
    overlays: Annotated[bool, typer.Option(help="Draw the best and worst faces of the sets.")] = True,
    experts: Annotated[bool, typer.Option(help="Count the load of the experts (needs torch).")] = True,
) -> None:
    """Score a model on labelled sets and write a report.

    Protocols are the published ones.
    """
    from faceum.detect.base import load_detector
    from faceum.evaluate.protocols import evaluate_set
    from faceum.evaluate.report import score_line, write_report
    from faceum.evaluate.sets import load_set, parse_sets
    from faceum.files import check_folder
    from faceum.runner import load_runner

    labelled = [load_set(name, place) for name, place in parse_sets(sets).items()]
    runner = load_runner(model, runtime, device, threads)
    finder = None if detector == "none" else load_detector(detector, threads=threads)
    folder = RESULTS / Path(model).stem if out is None else out
    check_folder(folder)
    evaluations = []
    for one in labelled:
        for evaluation in evaluate_set(one, runner, finder, protocol or (), limit=limit, seed=seed):
            typer.echo(score_line(evaluation))
            evaluations.append(evaluation)
    about = {
        "model": model,
        "network": runner.card.name,
        "runtime": f"{runner.runtime} on {runner.device}",
        "detector": "none, the sets' own boxes" if finder is None else finder.name,
        "faces": "all" if limit is None else f"at most {limit} of each set, or {limit} pairs",
        "mask seed": seed,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
    }
    load, note = _load_of_experts(model, runner, labelled, finder) if experts else ({}, "")
    report = write_report(evaluations, folder, about, expert_load=load, expert_note=note, overlays=overlays)
    if note:
        typer.echo(note)
    typer.echo(f"Report: {report}")


def _load_of_experts(
    model: str, runner: "Runner", sets: "list[LabelledSet]", detector: "Detector | None"
) -> tuple[dict[str, dict[str, dict[str, list[float]]]], str]:
    """Return set -> region -> task -> load of the experts over its first faces; or {} and the reason."""
    from itertools import islice

    from faceum.data.face import read_face
    from faceum.evaluate.samples import cut_faces
    from faceum.extras import INSTALL_TORCH, torch_is_installed
    from faceum.model.routing_stats import expert_load
    from faceum.weights.load import load_model
    from faceum.weights.registry import has_part

    if not torch_is_installed():
        return {}, f"The experts' load was not counted: it needs torch, {INSTALL_TORCH}."
    if not has_part(model, "safetensors"):
        return {}, f"The experts' load was not counted: it needs the safetensors file of {model}."
    network = load_model(model)
    load: dict[str, dict[str, dict[str, list[float]]]] = {}
    for one in sets:
        for _, tasks in runner.card.crops:
            rows = (read_face(sample, parsing=False) for sample in islice(one.faces(), EXPERT_FACES))
            asked = None if one.aligned else detector
            faces = cut_faces(rows, runner, asked, task=tasks[0], tight=one.tight)
            crops: list[Crop] = [face.crop for face in faces]
            for region, by_task in expert_load(network, crops, tasks).items():
                load.setdefault(one.name, {}).setdefault(region, {}).update(by_task)
    return load, "" if load else f"The experts' load was not counted: {model} has no experts."
