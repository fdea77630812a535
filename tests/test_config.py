"""Recipes are read, changed by words, and refused with their neighbour's name or the wanted type."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from faceum.config import check_types, load_recipe, override, to_plain
from faceum.errors import RecipeError


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
    ],
)
def test_a_word_changes_what_it_names(word: str, found) -> None:
    changed = override(Whole(), dict([word.split("=")]))
    assert found(changed)
    check_types(changed)


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("stps", "3", "did you mean 'steps'"),
        ("part.cuont", "3", "did you mean 'count'"),
        ("parts.lift.count", "3", "did you mean 'left'"),
        ("parts.middle", "none", "known: left, right"),
        ("steps", "many", "int is wanted"),
        ("steps", "1.5", "int is wanted"),
        ("steps", "true", "int is wanted"),
        ("fast", "1", "bool is wanted"),
        ("sizes", "(1, 'a')", "sizes"),
        ("part", "3", "Part is wanted"),
        ("lr.x", "3", "has no parts"),
    ],
)
def test_what_does_not_fit_is_a_sentence(key: str, text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said.replace("(", r"\(")):
        override(Whole(), {key: text})


@pytest.mark.parametrize(
    "wrong", [Whole(steps="3"), Whole(lr=None), Whole(parts={"left": 3}), Whole(sizes=[1]), Whole(part=3)]
)
def test_a_recipes_own_values_are_checked(wrong: Whole) -> None:
    with pytest.raises(RecipeError, match="is wanted"):
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


def test_a_recipe_is_a_record_or_a_function(tmp_path: Path) -> None:
    assert load_recipe(recipe(tmp_path, "run = Config(steps=4)"), ["out=y=z"]).__dict__ == {
        "steps": 4,
        "out": "y=z",
    }
    path = recipe(tmp_path, "def recipe(size: int = 2) -> Config:\n    return Config(steps=10 * size)")
    assert load_recipe(path).steps == 20
    assert load_recipe(path, ["size=5", "out=q"]).steps == 50
    with pytest.raises(RecipeError, match="int is wanted"):
        load_recipe(path, ["size=big"])


@pytest.mark.parametrize(
    ("end", "said"),
    [("", "neither `run` nor"), ("run = 3", "config record"), ("run = Confg()", "cannot be read"),
     ("run = Config(step=1)", "cannot be read"), ("run = (", "cannot be read")],
)  # fmt: skip
def test_a_broken_recipe_is_a_sentence(tmp_path: Path, end: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        load_recipe(recipe(tmp_path, end))


def test_a_missing_recipe_names_its_neighbour(tmp_path: Path) -> None:
    recipe(tmp_path, "run = Config()")
    with pytest.raises(RecipeError, match="did you mean 'mine'"):
        load_recipe(tmp_path / "mien.py")
    with pytest.raises(RecipeError, match="key=value"):
        load_recipe(recipe(tmp_path, "run = Config()"), ["steps"])


def test_records_become_plain_values() -> None:
    plain = json.loads(json.dumps(to_plain(Whole())))
    assert plain["parts"]["right"] == {"count": 2, "name": None} and plain["sizes"] == [1, 2]
