"""Recipes: loading, overrides, type checks, and conversion to and from plain values."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from faceum.config import check_types, flatten, from_plain, load_recipe, override, recipe_names, to_plain
from faceum.errors import FaceumError, RecipeError


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a made-up config."""

    count: int = 1
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A made-up config."""

    lr: float = 0.1
    steps: int = 10
    fast: bool = False
    sizes: tuple[int, ...] = (1, 2)
    part: Part = Part()
    parts: dict[str, Part] = field(default_factory=lambda: {"left": Part(), "right": Part(count=2)})
    weights: dict[str, float] = field(default_factory=dict)
    pairs: tuple[tuple[Part, tuple[str, ...]], ...] = ((Part(), ("a",)), (Part(count=5), ("b", "c")))


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("lr=3", lambda whole: (whole.lr, type(whole.lr)) == (3.0, float)),
        ("lr=1e-3", lambda whole: whole.lr == 1e-3),
        ("steps=20", lambda whole: whole.steps == 20),
        ("fast=true", lambda whole: whole.fast is True),
        ("sizes=(4,5,6)", lambda whole: whole.sizes == (4, 5, 6)),
        ("sizes=[4]", lambda whole: whole.sizes == (4,)),
        ("part.name=left", lambda whole: whole.part.name == "left"),
        ("part.name=12", lambda whole: whole.part.name == "12"),
        ("part.name=none", lambda whole: whole.part.name is None),
        ("parts.right.count=7", lambda whole: whole.parts["right"].count == 7 and "left" in whole.parts),
        ("parts.left=none", lambda whole: list(whole.parts) == ["right"]),
        ("weights.age=2", lambda whole: whole.weights == {"age": 2.0}),
        ("sizes.1=7", lambda whole: whole.sizes == (1, 7)),
        ("pairs.0.count=7", lambda whole: [pair[0].count for pair in whole.pairs] == [7, 5]),
        ("pairs.1.0.name=x", lambda whole: [pair[0].name for pair in whole.pairs] == [None, "x"]),
        ("pairs.1.1.0=z", lambda whole: whole.pairs[1][1] == ("z", "c")),
    ],
)
def test_override(word: str, found) -> None:
    changed = override(Whole(), dict([word.split("=")]))
    assert found(changed)
    check_types(changed)


def test_settings_that_depend_on_each_other_change_together() -> None:
    """A crop of 64 pixels has 4 x 4 patches and one of 96 has 6 x 6; neither number can change alone."""
    pytest.importorskip("torch")
    run = load_recipe("smoke", ["network.crops.0.0.size=96", "network.crops.0.0.grid=6", "steps=7"])
    assert (run.network.crops[0][0].size, run.network.crops[0][0].grid, run.steps) == (96, 6, 7)
    with pytest.raises(FaceumError, match="size must be 16"):
        load_recipe("smoke", ["network.crops.0.0.size=96"])
    assert override(Whole(), {"weights": "{}", "weights.age": "2", "sizes.0": "4", "sizes.1": "5"}).sizes == (
        4,
        5,
    )


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("stps", "3", "did you mean 'steps'"),
        ("part.cuont", "3", "did you mean 'count'"),
        ("parts.lift.count", "3", "did you mean 'left'"),
        ("parts.middle", "none", "known: left, right"),
        ("steps", "many", "expected int"),
        ("steps", "1.5", "expected int"),
        ("steps", "true", "expected int"),
        ("fast", "1", "expected bool"),
        ("sizes", "(1, 'a')", "sizes"),
        ("part", "3", "expected Part"),
        ("lr.x", "3", "'lr' is 0.1 and has no parts"),
        ("sizes.2", "3", "known: 0, 1"),
        ("pairs.count", "3", "known: 0, 1"),
        ("pairs.0.cuont", "3", "did you mean 'count'"),
    ],
)
def test_override_errors(key: str, text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(said)):
        override(Whole(), {key: text})


@pytest.mark.parametrize(
    "wrong", [Whole(steps="3"), Whole(lr=None), Whole(parts={"left": 3}), Whole(sizes=[1]), Whole(part=3)]
)
def test_check_types(wrong: Whole) -> None:
    with pytest.raises(RecipeError, match="expected"):
        check_types(wrong)


RECIPE = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Config:
    steps: int = 1
    out: str = "x"

{end}
"""


def recipe(folder: Path, end: str) -> Path:
    path = folder / "mine.py"
    path.write_text(RECIPE.format(end=end))
    return path


def test_recipe_is_a_record_or_a_function(tmp_path: Path) -> None:
    assert load_recipe(recipe(tmp_path, "run = Config(steps=4)"), ["out=y=z"]).__dict__ == {
        "steps": 4,
        "out": "y=z",
    }
    path = recipe(tmp_path, "def recipe(size: int = 2) -> Config:\n    return Config(steps=10 * size)")
    assert load_recipe(path).steps == 20
    assert load_recipe(path, ["size=5", "out=q"]).steps == 50
    with pytest.raises(RecipeError, match="expected int"):
        load_recipe(path, ["size=big"])


@pytest.mark.parametrize(
    ("end", "said"),
    [("", "neither `run` nor"), ("run = 3", "expected a dataclass"), ("run = Confg()", "NameError"),
     ("run = Config(step=1)", "TypeError"), ("run = (", "SyntaxError"), ("1 / 0", "ZeroDivisionError")],
)  # fmt: skip
def test_broken_recipe(tmp_path: Path, end: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        load_recipe(recipe(tmp_path, end))


def test_missing_recipe_names_the_nearest(tmp_path: Path) -> None:
    recipe(tmp_path, "run = Config()")
    with pytest.raises(RecipeError, match="did you mean 'mine'"):
        load_recipe(tmp_path / "mien.py")
    with pytest.raises(RecipeError, match="key=value"):
        load_recipe(recipe(tmp_path, "run = Config()"), ["steps"])


def test_to_plain_and_back() -> None:
    plain = json.loads(json.dumps(to_plain(Whole())))
    assert from_plain(Whole, plain) == Whole()
    assert plain["parts"]["right"] == {"count": 2, "name": None} and plain["sizes"] == [1, 2]


@pytest.mark.parametrize(
    "change",
    [{"lr": "fast"}, {"lr": float("nan")}, {"steps": True}, {"extra": 1}, {"sizes": 3},
     {"part": {"cuont": 1}}, {"parts": []}, {"pairs": [[{}]]}, {"weights": {"age": None}}],
)  # fmt: skip
def test_from_plain_errors(change: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=next(iter(change))):
        from_plain(Whole, {**to_plain(Whole()), **change})


def test_flattened_lines_are_overrides() -> None:
    whole = Whole(lr=2.5, part=Part(name="x"), weights={"age": 1.5}, pairs=((Part(count=3), ()),))
    lines = list(flatten(whole))
    assert {"lr=2.5", "fast=false", "part.name=x", "weights.age=1.5", "pairs.0.0.count=3"} <= set(lines)
    start = Whole(weights={"age": 0.0}, pairs=((Part(), ("q",)),))
    assert override(start, dict(line.split("=", 1) for line in lines)) == whole


def test_names_mean_packaged_recipes_and_paths_mean_python_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"smoke", "compact", "compact_dense", "base_faceptor_mix", "finetune_expression"} <= {
        *recipe_names()
    }
    with pytest.raises(RecipeError, match="did you mean 'smoke'"):
        load_recipe("smok")
    monkeypatch.chdir(tmp_path)
    assert recipe(tmp_path, "run = Config()").name == "mine.py"
    with pytest.raises(RecipeError, match=r"no recipe 'mine\.py'.*give a path, \./mine\.py"):
        load_recipe("mine.py")
    assert load_recipe("./mine.py").steps
    archive = tmp_path / "recipe.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("__main__.py", "raise SystemExit('run')")
    with pytest.raises(RecipeError, match="does not end in .py"):
        load_recipe(archive)
    with pytest.raises(RecipeError, match="failed"):
        load_recipe(archive.rename(tmp_path / "recipe.py"))


def test_old_keys_are_renamed_with_one_notice(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("torch")
    run = load_recipe("smoke", ["shares.drawn.count=8", "network.moe.router.tau=0.4", "clip=3", "steps=5"])
    assert (run.sources["drawn"].batch_size, run.network.moe.router.top_p, run.grad_clip) == (8, 0.4, 3.0)
    (notice,) = caplog.messages
    assert "shares.drawn.count is now sources.drawn.batch_size" in notice and "steps" not in notice
