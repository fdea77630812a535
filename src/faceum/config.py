"""Load recipes, and override, check, print and rebuild the frozen dataclasses that hold settings.

A recipe is a Python file that ends in `run = SomeConfig(...)`, or that defines a function `recipe(...)` which
returns one, or several by the names of their stages; the function's arguments can be overridden too.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib.resources
import inspect
import logging
import math
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faceum import old_names
from faceum.errors import FaceumError, RecipeError, join_names, unknown_name

LOG = logging.getLogger("faceum")

RECIPES = importlib.resources.files("faceum") / "recipes"
"""The folder of the recipes that ship with the package."""


def recipe_names() -> list[str]:
    """Return the names of the recipes that ship with the package."""
    return sorted(file.name.removesuffix(".py") for file in RECIPES.iterdir() if file.name.endswith(".py"))


def load_recipe(recipe: str | Path, overrides: Iterable[str] = ()) -> Any:
    """Run a recipe and return its settings with the overrides applied; of stages, those of the first.

    recipe: a name from `recipe_names()`, or the path of a .py file, which has a separator if it is a string.
        The file is run as Python.
    overrides: texts such as "lr=0.001" or "sources.celeba.batch_size=8"; old names are accepted.
    Raises RecipeError if the file is missing, is not Python or fails, if it defines no settings, or if a key
    or the type of a value is wrong.
    """
    return next(iter(load_stages(recipe, overrides).values()))


def load_stages(recipe: str | Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Run a recipe and return the settings of its stages by name, in order; see `load_recipe`.

    A recipe without stages has one, whose name is empty. overrides: `stage=NAME` keeps one stage; a key that
    begins with a stage's name, such as "start.steps=500", changes that stage, and other keys change all.
    """
    name, source = _read_source(recipe)
    names = _run(name, source)
    changes = dict(_split(text) for text in overrides)
    if "run" in names:
        defined = names["run"]
    elif "recipe" in names:
        defined = _call(names["recipe"], changes)
    else:
        raise RecipeError(f"The recipe {name} defines neither `run` nor `recipe(...)`; add one of them.")
    stages = dict(defined) if isinstance(defined, Mapping) and defined else {"": defined}
    if "" not in stages and (only := changes.pop("stage", None)) is not None:
        if only not in stages:
            raise RecipeError(unknown_name(only, "stage", stages))
        stages = {only: stages[only]}
    loaded = {}
    for stage, record in stages.items():
        if not _is_record(record):
            raise RecipeError(
                f"The recipe {name} defines a {type(record).__name__}; expected a dataclass of settings."
            )
        check_types(record)
        own = _changes_of(stage, changes, stages)
        loaded[stage] = override(record, _rename_old_keys(record, own))
    return loaded


def _changes_of(stage: str, changes: Mapping[str, str], stages: Mapping[str, Any]) -> dict[str, str]:
    """Return the changes of a stage: those of all stages, and then its own."""
    of_all, own = {}, {}
    for key, text in changes.items():
        first, dot, rest = key.partition(".")
        if not dot or first not in stages:
            of_all[key] = text
        elif first == stage:
            own[rest] = text
    return {**of_all, **own}


def override(record: Any, changes: Mapping[str, str]) -> Any:
    """Return a copy of a nested frozen dataclass with `a.b.c` -> text applied to its fields, all at once.

    A number in a key is an index into a tuple; a field name after a tuple means the one record in it.
    Raises RecipeError for an unknown key or a value of a wrong type.
    """
    parts = [_Change(tuple(key.split(".")), text, key) for key, text in changes.items()]
    return _replace(record, type(record), parts)


def check_types(value: Any, kind: Any = None, path: str = "") -> None:
    """Raise RecipeError if a value in a nested dataclass does not have its annotated type."""
    kind = type(value) if kind is None else kind
    if _is_record(value):
        if not _fits(value, kind):
            raise _make_type_error(path, value, kind)
        for name, hint in typing.get_type_hints(type(value)).items():
            check_types(getattr(value, name), hint, f"{path}.{name}" if path else name)
    elif typing.get_origin(kind) in (dict, Mapping) and isinstance(value, Mapping):
        for name, part in value.items():
            check_types(part, typing.get_args(kind)[1], f"{path}.{name}")
    elif not _fits(value, kind):
        raise _make_type_error(path, value, kind)


def to_plain(value: Any) -> Any:
    """Return dataclasses, mappings, tuples and paths as dicts, lists and strings, ready for JSON."""
    if _is_record(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): to_plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def from_plain(kind: Any, value: Any, path: str = "the config") -> Any:
    """Return a value of the annotated type from plain JSON values: the inverse of `to_plain`.

    kind: a dataclass, tuple, mapping, union with None, int, float, str or bool.
    path: where the value is, for the error.
    Raises RecipeError if a key is unknown or missing, or a value has another type or is not finite.
    """
    if dataclasses.is_dataclass(kind):
        return _record_from_plain(kind, value, path)
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if isinstance(value, list) and (parts[-1] is Ellipsis or len(value) == len(parts)):
            kinds = [parts[0]] * len(value) if parts[-1] is Ellipsis else parts
            pairs = zip(kinds, value, strict=True)
            return tuple(from_plain(part, item, f"{path}[{i}]") for i, (part, item) in enumerate(pairs))
    elif origin in (typing.Union, types.UnionType):
        inner = next(part for part in parts if part is not type(None))
        return None if value is None else from_plain(inner, value, path)
    elif isinstance(origin, type) and issubclass(origin, Mapping):
        if isinstance(value, Mapping):
            return {name: from_plain(parts[1], part, f"{path}.{name}") for name, part in value.items()}
    elif _fits(value, kind) and not (isinstance(value, float) and not math.isfinite(value)):
        return value
    raise RecipeError(f"{path} is {_shorten(value)}; expected {_type_name(kind)}.")


def flatten(value: Any, path: str = "") -> Iterator[str]:
    """Yield one line `key=value` per setting, each in the form that `override` reads."""
    if _is_record(value):
        parts = [(f.name, getattr(value, f.name)) for f in dataclasses.fields(value)]
    elif isinstance(value, Mapping) and value:
        parts = [(str(name), part) for name, part in value.items()]
    elif isinstance(value, tuple) and _holds_record(value):
        parts = [(str(index), part) for index, part in enumerate(value)]
    else:
        yield f"{path}={_spell(value)}"
        return
    for name, part in parts:
        yield from flatten(part, f"{path}.{name}" if path else name)


def _read_source(recipe: str | Path) -> tuple[str, bytes]:
    """Return a recipe's file name and its bytes."""
    text = str(recipe)
    if isinstance(recipe, str) and "/" not in recipe and "\\" not in recipe:
        if recipe not in recipe_names():
            unknown = unknown_name(recipe, "recipe", recipe_names())
            raise RecipeError(f"{unknown} Or give a path, ./{recipe.removesuffix('.py')}.py.")
        return f"{recipe}.py", (RECIPES / f"{recipe}.py").read_bytes()
    path = Path(recipe)
    if path.suffix != ".py":
        raise RecipeError(f"A recipe is a Python file, and {text} does not end in .py.")
    if not path.is_file():
        near = sorted(file.stem for file in path.parent.glob("*.py")) if path.parent.is_dir() else []
        raise RecipeError(f"{text} does not exist. {unknown_name(path.stem, 'recipe', near)}")
    return text, path.read_bytes()


def _run(name: str, source: bytes) -> dict[str, Any]:
    """Run a recipe's source and return what it defines."""
    module = types.ModuleType(f"faceum_recipe_{Path(name).stem}")
    module.__file__ = name
    sys.modules[module.__name__] = module  # dataclasses look up the module of a class
    try:
        exec(compile(source, name, "exec"), module.__dict__)
    except FaceumError:
        raise
    except Exception as error:  # a recipe is the user's own code and may raise anything
        raise RecipeError(f"The recipe {name} failed: {type(error).__name__}: {error}.") from error
    return vars(module)


def _split(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise RecipeError(f"Cannot read the override {text!r}; write key=value, such as lr=0.001.")
    return key.strip(), value.strip()


def _call(recipe: Callable[..., Any], changes: dict[str, str]) -> Any:
    """Call a recipe function with the changes that are its arguments, and remove those from `changes`."""
    hints = typing.get_type_hints(recipe)
    arguments = {}
    for name in inspect.signature(recipe).parameters:
        if name in changes:
            arguments[name] = _parse(changes.pop(name), hints.get(name, str), name)
    return recipe(**arguments)


def _rename_old_keys(record: Any, changes: Mapping[str, str]) -> dict[str, str]:
    """Replace keys that older versions used, and log the renamed ones once."""
    renamed = {key: old_names.rename_setting(key) for key in changes if not _exists(record, key.split("."))}
    renamed = {old: new for old, new in renamed.items() if old != new}
    if renamed:
        LOG.warning("renamed settings: %s", ", ".join(f"{old} is now {new}" for old, new in renamed.items()))
    return {renamed.get(key, key): text for key, text in changes.items()}


def _exists(value: Any, path: list[str]) -> bool:
    """Return whether a record has a field or an entry at the path."""
    if not path:
        return True
    if isinstance(value, Mapping):
        return path[0] in value and _exists(value[path[0]], path[1:])
    return _is_record(value) and hasattr(value, path[0]) and _exists(getattr(value, path[0]), path[1:])


@dataclass(frozen=True)
class _Change:
    """A new value, as text, for the part at `path` below some value; key is the whole path, for errors."""

    path: tuple[str, ...]
    text: str
    key: str


def _replace(value: Any, kind: Any, changes: list[_Change]) -> Any:
    """Return `value` with all changes applied at once, so that a record is checked when it is whole."""
    for number, change in reversed(list(enumerate(changes))):
        if not change.path:
            value, changes = _parse(change.text, kind, change.key), changes[number + 1 :]
            break
    if not changes:
        return value
    if _is_record(value):
        hints = typing.get_type_hints(type(value))
        groups = _by_name(changes, hints)
        return dataclasses.replace(
            value, **{name: _replace(getattr(value, name), hints[name], own) for name, own in groups.items()}
        )
    if isinstance(value, Mapping):
        return _replace_in_mapping(value, kind, changes)
    if isinstance(value, tuple):
        return _replace_in_tuple(value, kind, changes)
    key, depth = changes[0].key, len(changes[0].path)
    parent = ".".join(key.split(".")[:-depth])
    raise RecipeError(f"Cannot set {key!r}: {parent!r} is {value!r} and has no parts.")


def _by_name(changes: list[_Change], known: Iterable[str] | None) -> dict[str, list[_Change]]:
    """Return name -> the changes below it. known: allowed names, None for any."""
    groups: dict[str, list[_Change]] = {}
    for change in changes:
        name = change.path[0]
        if known is not None and name not in known:
            raise _make_key_error(change.key, name, known)
        groups.setdefault(name, []).append(dataclasses.replace(change, path=change.path[1:]))
    return groups


def _replace_in_mapping(value: Mapping[str, Any], kind: Any, changes: list[_Change]) -> dict[str, Any]:
    inner = typing.get_args(kind)[1] if typing.get_args(kind) else Any
    has_records = any(map(_is_record, value.values()))
    replaced = dict(value)
    for name, own in _by_name(changes, None).items():
        if name not in value and (has_records or own[0].path):
            raise _make_key_error(own[0].key, name, value)
        if has_records and not own[-1].path and own[-1].text.lower() == "none":
            del replaced[name]
        else:
            replaced[name] = _replace(value.get(name), inner, own)
    return replaced


def _replace_in_tuple(value: tuple[Any, ...], kind: Any, changes: list[_Change]) -> tuple[Any, ...]:
    kinds = typing.get_args(kind) or (Any, ...)
    indices = [str(index) for index in range(len(value))]
    records = [index for index, part in zip(indices, value, strict=True) if _is_record(part)]
    # A field's name in place of an index is a field of the one record in the tuple.
    changes = [
        dataclasses.replace(change, path=(records[0], *change.path))
        if not change.path[0].isdecimal() and len(records) == 1
        else change
        for change in changes
    ]
    replaced = list(value)
    for name, own in _by_name(changes, indices).items():
        inner = kinds[0] if kinds[-1] is Ellipsis else kinds[int(name)]
        replaced[int(name)] = _replace(value[int(name)], inner, own)
    return tuple(replaced)


def _parse(text: str, kind: Any, key: str) -> Any:
    """Return the text as a value of the annotated type."""
    options = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    if type(None) in options and text.lower() == "none":
        return None
    if bool in options and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # what literal_eval documents
        value = text
    if str in options and not isinstance(value, str):
        value = text
    if float in options and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(value, list):
        value = tuple(value)
    if not _fits(value, kind):
        raise _make_type_error(key, value, kind)
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


def _record_from_plain(kind: Any, value: Any, path: str) -> Any:
    if not isinstance(value, Mapping):
        raise RecipeError(f"{path} is {_shorten(value)}; expected {_type_name(kind)}.")
    hints = typing.get_type_hints(kind)
    required = {
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    unknown, absent = sorted(map(str, value.keys() - hints)), sorted(required - value.keys())
    if unknown or absent:
        raise RecipeError(
            f"{path} has unknown keys: {join_names(unknown)}; and lacks keys: {join_names(absent)}."
        )
    return kind(**{name: from_plain(hints[name], part, f"{path}.{name}") for name, part in value.items()})


def _is_record(value: Any) -> bool:
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def _holds_record(value: Any) -> bool:
    return _is_record(value) or (isinstance(value, tuple) and any(map(_holds_record, value)))


def _spell(value: Any) -> str:
    """Return a value as it is written in an override."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else repr(value)


def _make_key_error(key: str, name: str, known: Iterable[str]) -> RecipeError:
    return RecipeError(f"Cannot set {key!r}. {unknown_name(name, 'key', known)}")


def _make_type_error(path: str, value: Any, kind: Any) -> RecipeError:
    return RecipeError(f"{path} is {_shorten(value)}; expected {_type_name(kind)}.")


def _type_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
