"""`faceum convert`: turn FaRL's file, or a checkpoint of the published code, into a safetensors file."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faceum.errors import ModelError, count_noun
from faceum.extras import missing, torch_is_installed

if TYPE_CHECKING:
    from faceum.model.convert import Account

convert_app = typer.Typer(
    help="Convert FaRL's encoder or a checkpoint of the published code.",
    no_args_is_help=True,
)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The file to read.")]
OutOption = Annotated[Path, typer.Option(help="The .safetensors file to write.")]
DropOption = Annotated[
    list[str] | None,
    typer.Option(metavar="PREFIX", help="Ignore tensors whose names start with this. Can be repeated."),
]
HalfOption = Annotated[
    bool, typer.Option("--half", help="Store in half precision; answers then differ slightly.")
]


@convert_app.command()
def farl(
    file: FileArgument,
    out: OutOption,
    drop: DropOption = None,
    half: HalfOption = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the new gates, experts and heads.")] = 0,
) -> None:
    """Convert FaRL's ViT-B/16 to start a training run.

    Gates, experts and heads are newly initialized.
    """
    _convert("farl", file, out, drop=drop, half=half, seed=seed)


@convert_app.command()
def reference(file: FileArgument, out: OutOption, drop: DropOption = None, half: HalfOption = False) -> None:
    """Convert a checkpoint of the published code.

    The network has the same answers.
    """
    _convert("reference", file, out, drop=drop, half=half)


def _convert(kind: str, file: Path, out: Path, *, drop: list[str] | None, half: bool, seed: int = 0) -> None:
    if not torch_is_installed():
        raise ModelError(missing("Conversion", "torch"))
    if out.suffix != ".safetensors":
        raise ModelError(f"The file to write is {str(out)!r}; its name must end in .safetensors.")
    if out.is_dir():
        raise ModelError(f"{out} is a folder; give a file to write.")
    from faceum.model.convert import convert_file

    account = convert_file(kind, file, out, drop=drop or (), half=half, seed=seed)
    for line in _describe(account):
        typer.echo(line)
    typer.echo(f"Wrote {out}.")


def _describe(account: "Account") -> list[str]:
    lines = [f"{count_noun(len(account.used), 'tensor')} converted."]
    if account.by_rule:
        lines.append(f"{len(account.by_rule)} dropped by rule, since no answer depends on them.")
    if account.by_name:
        lines.append(f"{len(account.by_name)} dropped by name: {', '.join(account.by_name[:10])}.")
    if account.fresh:
        lines.append(f"{count_noun(len(account.fresh), 'tensor')} newly initialized.")
    return lines
