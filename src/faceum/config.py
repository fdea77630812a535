"""A recipe file and words like `a.b=c` in; the recipe's record, changed and type-checked, out.

A recipe is flat Python that ends in `run = SomeConfig(...)`, or has a function `recipe(...)` that returns
one; the function's arguments may be given as words, too. This module knows no recipe in particular.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import runpy
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from faceum.errors import RecipeError


def load_recipe(path: str | Path, words: Iterable[str] = ()) -> Any:
    """The record that a recipe file defines, changed by the words `key=value`.

    Raises RecipeError for a missing file, a file that defines no record, a key that does not exist (its
    nearest neighbour is named), and a value of a wrong type.
    """
    path = Path(path)
    if not path.is_file():
        near = sorted(one.stem for one in path.parent.glob("*.py")) if path.parent.is_dir() else []
        raise RecipeError(f"There is no recipe {path}; {_neighbour(path.stem, near)}")
    try:
        names = runpy.run_path(str(path), run_name="recipe")
    except (SyntaxError, NameError, TypeError, ImportError) as error:
        raise RecipeError(f"The recipe {path} cannot be read: {error}; mend it.") from error
    changes = dict(_split(word) for word in words)
    if "run" in names:
        record = names["run"]
    elif "recipe" in names:
        record = _called(names["recipe"], changes)
    else:
        raise RecipeError(f"The recipe {path} defines neither `run` nor `recipe(...)`; add one of them.")
    if not dataclasses.is_dataclass(record) or isinstance(record, type):
        raise RecipeError(f"The recipe {path} gives {type(record).__name__}; a config record is wanted.")
    check_types(record)
    return override(record, changes)


def override(record: Any, changes: Mapping[str, str]) -> Any:
    """A copy of a (nested, frozen) dataclass with `a.b.c` -> text laid over its fields."""
    for key, text in changes.items():
        record = _changed(record, type(record), key.split("."), text, key)
    return record


def check_types(value: Any, kind: Any = None, where: str = "") -> None:
    """Raise RecipeError where a value in a nested dataclass is not of its annotated type."""
    kind = type(value) if kind is None else kind
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        if not _fits(value, kind):
            raise _misfit(where, value, kind)
        for name, hint in typing.get_type_hints(type(value)).items():
            check_types(getattr(value, name), hint, f"{where}.{name}" if where else name)
    elif typing.get_origin(kind) in (dict, Mapping) and isinstance(value, Mapping):
        for name, part in value.items():
            check_types(part, typing.get_args(kind)[1], f"{where}.{name}")
    elif not _fits(value, kind):
        raise _misfit(where, value, kind)


def to_plain(value: Any) -> Any:
    """Dataclasses, mappings, tuples and paths as dicts, lists and strings, ready for JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): to_plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def _split(word: str) -> tuple[str, str]:
    key, equals, text = word.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"{word!r} is no change of a recipe; write key=value, as in lr=0.001.")
    return key.strip(), text.strip()


def _called(recipe: Callable[..., Any], changes: dict[str, str]) -> Any:
    """The recipe function's record; the changes that are its arguments are used up."""
    hints = typing.get_type_hints(recipe)
    given = {}
    for name in inspect.signature(recipe).parameters:
        if name in changes:
            given[name] = _read(changes.pop(name), hints.get(name, str), name)
    return recipe(**given)


def _changed(value: Any, kind: Any, path: list[str], text: str, key: str) -> Any:
    """`value` with what lies at `path` replaced by the text."""
    if not path:
        return _read(text, kind, key)
    name, rest = path[0], path[1:]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = typing.get_type_hints(type(value))
        if name not in hints:
            raise RecipeError(f"There is no key {key!r}; {_neighbour(name, hints)}")
        part = _changed(getattr(value, name), hints[name], rest, text, key)
        return dataclasses.replace(value, **{name: part})
    if isinstance(value, Mapping):
        inner = typing.get_args(kind)[1] if typing.get_args(kind) else Any
        records = any(dataclasses.is_dataclass(part) for part in value.values())
        if name not in value and (rest or records):
            raise RecipeError(f"There is no key {key!r}; {_neighbour(name, value)}")
        if records and not rest and text.lower() == "none":
            return {other: part for other, part in value.items() if other != name}
        return {**value, name: _changed(value.get(name), inner, rest, text, key)}
    raise RecipeError(f"There is no key {key!r}: what stands before {name!r} is {value!r} and has no parts.")


def _read(text: str, kind: Any, key: str) -> Any:
    """Text as a value of the annotated type."""
    options = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    if type(None) in options and text.lower() == "none":
        return None
    if bool in options and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if str in options and not isinstance(value, str):
        value = text
    if float in options and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(value, list):
        value = tuple(value)
    if not _fits(value, kind):
        raise _misfit(key, value, kind)
    return value


def _fits(value: Any, kind: Any) -> bool:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in parts)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis else parts
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_fits(part, parts[1]) for part in value.values())
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind if isinstance(kind, type) else object)


def _misfit(where: str, value: Any, kind: Any) -> RecipeError:
    wanted = kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
    return RecipeError(f"The key {where} is {value!r}; {wanted} is wanted.")


def _neighbour(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"{hint}known: {', '.join(names) or 'none'}."
