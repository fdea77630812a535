"""`faceum train`: a recipe and words like `lr=0.001` in; a run's folder out."""

from pathlib import Path
from typing import Annotated

import typer

from faceum.config import load_recipe
from faceum.errors import RecipeError
from faceum.extras import INSTALL_TORCH, torch_is_installed

RECIPES = (Path("recipes"), Path(__file__).resolve().parents[1] / "recipes")
"""Where a recipe that is given by its name is looked for."""


def train_command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A file, or the name of one in recipes/.")],
    changes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Changes, as in steps=500 sources.celeba.batch_size=8."
        ),
    ] = None,
) -> None:
    """Train a network by a recipe, or go on where its folder says that it stopped.

    Several processes: torchrun --nproc-per-node 2 -m faceum train RECIPE.
    """
    if not torch_is_installed():
        raise RecipeError(f"Training needs torch, and it is not installed: {INSTALL_TORCH}.")
    run = load_recipe(recipe_path(recipe), changes or ())
    from faceum.train import RunConfig, train
    from faceum.train.distributed import joined, rank

    if not isinstance(run, RunConfig):
        raise RecipeError(
            f"The recipe {recipe} gives {type(run).__name__}; faceum.train.RunConfig is wanted."
        )
    with joined():
        train(run)
        if rank() == 0:
            typer.echo(
                f"{run.out}: trained to step {run.steps}; the network is {run.out}/network.safetensors"
            )


def recipe_path(name: str) -> Path:
    """A recipe's file by its path or its name; the last place that was looked in where there is none."""
    path = Path(name)
    if path.suffix == ".py" or path.is_file():
        return path
    places = [folder / f"{name}.py" for folder in RECIPES]
    return next((place for place in places if place.is_file()), places[-1])
