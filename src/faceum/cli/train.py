"""`faceum train`: run a recipe with overrides."""

from typing import Annotated

import typer

from faceum.config import flatten, load_stages, recipe_names
from faceum.errors import RecipeError, count_noun
from faceum.extras import missing, torch_is_installed

RECIPE_HELP = (
    f"One of {', '.join(recipe_names())}, or the path of a .py file (./mine.py). A recipe is Python, and "
    "its code is run."
)
CHANGES_HELP = "Override any setting, as in steps=500 sources.celeba.batch_size=8."


def train_command(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help=RECIPE_HELP)],
    changes: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help=CHANGES_HELP)] = None,
    show: Annotated[
        bool, typer.Option("--show", help="Print all settings as key=value lines and do not train.")
    ] = False,
) -> None:
    """Train a network with a recipe, or resume a run.

    `faceum train RECIPE --show` lists every setting with its value; each printed line can be given as an
    override. faceum.train.RunConfig documents them. The stages of a recipe run in order, and complete ones
    are skipped; stage=NAME runs one. Several processes: torchrun --nproc-per-node 2 -m faceum train RECIPE.
    """
    if not torch_is_installed():
        raise RecipeError(missing("Training", "torch"))
    stages = load_stages(recipe, changes or ())
    from faceum.train import RunConfig, train
    from faceum.train.distributed import join_processes, rank
    from faceum.train.stages import is_complete

    for name, run in stages.items():
        if not isinstance(run, RunConfig):
            raise RecipeError(
                f"The recipe {recipe} defines a {type(run).__name__}; expected a faceum.train.RunConfig."
            )
        if show:
            for line in flatten(run):
                typer.echo(f"{name}.{line}" if len(stages) > 1 else line)
    if show:
        return
    with join_processes():
        for run in stages.values():
            if len(stages) > 1 and is_complete(run):
                message = f"{run.out}: complete, skipped"
            else:
                train(run)
                steps = count_noun(run.steps, "step")
                message = f"{run.out}: trained for {steps}; wrote {run.out}/network.safetensors"
            if rank() == 0:
                typer.echo(message)
