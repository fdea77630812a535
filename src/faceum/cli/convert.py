"""`faceum convert`: a file of FaRL's or of the published code in; a strict safetensors file out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from faceum.errors import ModelError
from faceum.extras import INSTALL_TORCH, torch_is_installed

if TYPE_CHECKING:
    from faceum.model.convert import Account

convert_app = typer.Typer(
    help="Bring FaRL's encoder, or a checkpoint of the published code, into a file of ours.",
    no_args_is_help=True,
)

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The file to read; it is left as it is.")]
OutOption = Annotated[Path, typer.Option(help="The .safetensors file to write, whole or not at all.")]
DropOption = Annotated[
    list[str] | None,
    typer.Option(metavar="PREFIX", help="Leave aside the names that begin so. Repeat for more."),
]
HalfOption = Annotated[
    bool, typer.Option("--half", help="Store half precision; answers then differ slightly.")
]


@convert_app.command()
def farl(
    file: FileArgument,
    out: OutOption,
    drop: DropOption = None,
    half: HalfOption = False,
    seed: Annotated[int, typer.Option(min=0, help="Of what starts fresh: gates, experts and heads.")] = 0,
) -> None:
    """FaRL's ViT-B/16 becomes the start of a training run, with fresh gates, experts and heads."""
    _convert("farl", file, out, drop=drop, half=half, seed=seed)


@convert_app.command()
def reference(file: FileArgument, out: OutOption, drop: DropOption = None, half: HalfOption = False) -> None:
    """A checkpoint trained with the published code becomes a network of ours with the same answers."""
    _convert("reference", file, out, drop=drop, half=half)


def _convert(kind: str, file: Path, out: Path, *, drop: list[str] | None, half: bool, seed: int = 0) -> None:
    if not torch_is_installed():
        raise ModelError(f"Conversion reads torch files, and torch is not installed: {INSTALL_TORCH}.")
    if out.suffix != ".safetensors":
        raise ModelError(f"The file to write is {str(out)!r}; give it the ending .safetensors.")
    if out.is_dir():
        raise ModelError(f"{out} is a folder; name the file to write.")
    from faceum.model.convert import convert_file

    account = convert_file(kind, file, out, drop=drop or (), half=half, seed=seed)
    for line in _told(account):
        typer.echo(line)
    typer.echo(f"Wrote {out}.")


def _told(account: "Account") -> list[str]:
    lines = [f"{len(account.used)} tensors taken over."]
    if account.by_rule:
        lines.append(f"{len(account.by_rule)} dropped by rule: no answer depends on them.")
    if account.by_name:
        lines.append(f"{len(account.by_name)} dropped by name: {', '.join(account.by_name[:10])}.")
    if account.fresh:
        lines.append(f"{len(account.fresh)} tensors of ours start fresh.")
    return lines
