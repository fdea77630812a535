"""`faceum models`: list the registered weights, or describe one of them."""

from typing import Annotated

import typer

from faceum.cli.options import JsonOption
from faceum.cli.terminal import make_console, print_json


def models_command(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print all about one of them.")] = None,
    json: JsonOption = False,
) -> None:
    """List the weights that ship with the package, or describe one."""
    from dataclasses import asdict

    from faceum.cli.tables import model_details, models_table
    from faceum.errors import ModelError, unknown_name
    from faceum.weights.registry import load_registry

    registry = load_registry()
    if name is not None and name not in registry:
        raise ModelError(unknown_name(name, "model or detector", registry))
    assets = list(registry.values()) if name is None else [registry[name]]
    if json:
        print_json([asdict(asset) for asset in assets])
    else:
        make_console().print(models_table(assets) if name is None else model_details(assets[0]))
