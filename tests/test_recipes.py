"""Every recipe loads, says how it is run and what to expect, and names a network and readers that exist."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from faceum.config import flatten, load_recipe, load_stages  # noqa: E402
from faceum.datasets.registry import DATASETS  # noqa: E402
from faceum.errors import ModelError, RecipeError  # noqa: E402
from faceum.model.network import FaceUM  # noqa: E402
from faceum.train import RunConfig  # noqa: E402
from faceum.train.loop import stream  # noqa: E402

RECIPES = sorted((Path(__file__).resolve().parents[1] / "src" / "faceum" / "recipes").glob("*.py"))


@pytest.fixture(params=RECIPES, ids=lambda path: path.stem)
def recipe(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_recipes_are_there() -> None:
    expected = {"smoke", "compact", "compact_dense", "base_faceptor_mix", "finetune_expression"}
    assert expected <= {path.stem for path in RECIPES}


def test_it_loads(recipe: Path) -> None:
    run = load_recipe(recipe)
    assert isinstance(run, RunConfig)
    assert recipe.stem in Path(run.out).parts
    assert {source.reader for source in run.sources.values()} <= {None, *DATASETS}


def test_it_says_how_it_is_run(recipe: Path) -> None:
    reported = ast.get_docstring(ast.parse(recipe.read_text(encoding="utf-8"))) or ""
    for said in (f"faceum train {recipe.stem}", "Hardware: "):
        assert said in reported, f"{recipe.name} does not say: {said}"
    assert re.search(r"[Tt]ime\b.*?(\d|minutes|not run)", reported, re.DOTALL), (
        "how long it takes, or 'not run'"
    )
    assert re.search(r"[Ee]xpected\b.*?(\d|not run)", reported, re.DOTALL), "measured scores, or 'not run'"


def test_its_network_can_be_built_and_every_source_trains_something(recipe: Path) -> None:
    run = load_recipe(recipe)
    if run.network is None:
        pytest.skip("takes the network of its initial weights")
    with torch.device("meta"):
        network = FaceUM(run.network)
    faces = {source: [object()] for source in run.sources}  # nobody is drawn here
    parts = stream(run, network, type("Data", (), {"faces": faces}))
    assert len(parts) == run.steps * run.accumulate
    for source in run.sources:
        assert any(dataset.tasks[source] for dataset in parts.datasets), source


def test_wrong_key_names_its_neighbour(recipe: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'steps'"):
        load_recipe(recipe, ["stesp=3"])


@pytest.mark.parametrize(
    ("word", "said"),
    [("learn=tails", "learn"), ("task_weights.agee=1", "did you mean 'age'"),
     ("steps=0", "must be at least 1"), ("network=none", "network"),
     ("sources.drawn.tasks=('aeg',)", "did you mean 'age'"),
     ("sources.drown.batch_size=3", "did you mean 'drawn'"), ("lr=fast", "expected float"),
     ("margin.kind=softface", "cosface"), ("network.moe.router.num_experts=0", "k_max"),
     ("network.moe.router.kind=reference", "class_token")],
)  # fmt: skip
def test_wrong_word_gives_a_sentence(word: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_recipe(RECIPES[0].with_name("smoke.py"), [word])


def test_dense_twin_differs_in_its_experts_alone() -> None:
    whole, dense = load_stages("compact"), load_stages("compact_dense")
    assert list(whole) == list(dense)
    for name, one in whole.items():
        unlike = {field for field in vars(one) if getattr(one, field) != getattr(dense[name], field)}
        assert unlike == ({"network", "out"} if name == "start" else {"initial", "out"})
    assert whole["start"].network.moe.routed and not dense["start"].network.moe.routed


def test_each_stage_starts_from_the_network_of_the_one_before() -> None:
    for name in ("compact", "compact_dense"):
        stages = load_stages(name, ["out=elsewhere"])
        assert [run.out for run in stages.values()] == [f"elsewhere/{stage}" for stage in stages]
        for one, after in itertools.pairwise(stages.values()):
            assert after.initial == f"{one.out}/network.safetensors" and after.network is None


def test_overrides_reach_all_stages_or_one() -> None:
    stages = load_stages("compact", ["steps=5", "refine.steps=7", "data=x"])
    assert {name: run.steps for name, run in stages.items()} == {**dict.fromkeys(stages, 5), "refine": 7}
    assert {run.data for run in stages.values()} == {"x"}
    (alone,) = load_stages("compact", ["stage=knowledge", "initial=compact", "steps=9"]).values()
    assert (alone.steps, alone.initial, alone.out) == (9, "compact", "runs/compact/knowledge")
    with pytest.raises(RecipeError, match="did you mean 'refine'"):
        load_stages("compact", ["stage=refin"])


def test_settings_that_a_router_ignores_are_refused() -> None:
    smoke = ["network.class_token=true", "network.moe.router.kind=reference"]
    assert load_recipe("smoke", smoke).network.moe.router.kind == "reference"
    with pytest.raises(ModelError, match="top_p has no effect"):
        load_recipe("smoke", [*smoke, "network.moe.router.top_p=0.3"])


def test_crop_can_be_overridden() -> None:
    run = load_recipe("smoke", ["network.crops.0.face_tokens=touched"])
    assert run.network.crops[0][0].face_tokens == "touched"


def test_printed_settings_are_overrides(recipe: Path) -> None:
    stages = load_stages(recipe)
    lines = [f"{name}.{line}" if name else line for name, run in stages.items() for line in flatten(run)]
    assert load_stages(recipe, lines) == stages
