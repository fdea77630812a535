"""Public names are documented and annotated, in every module and in the package itself."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

SPEAKS_FOR_ITSELF = ("forward",)
"""Methods whose meaning is their class's: the class's docstring says what goes in and out."""


def public_definitions(body: list[ast.stmt], owner: str = "") -> Iterator[tuple[str, Definition]]:
    """Public functions, classes and methods of a module; not what is inside functions."""
    for node in body:
        if not isinstance(node, Definition) or node.name.startswith("_"):
            continue
        yield f"{owner}{node.name}", node
        if isinstance(node, ast.ClassDef):
            yield from public_definitions(node.body, f"{owner}{node.name}.")


def is_overload(node: Definition) -> bool:
    return any(getattr(decorator, "id", "") == "overload" for decorator in node.decorator_list)


def test_public_definitions_are_documented(modules: dict[str, Path], trees: dict[Path, ast.Module]) -> None:
    silent = [
        f"{module}.{name}"
        for module, path in modules.items()
        for name, node in public_definitions(trees[path].body)
        if not ast.get_docstring(node) and node.name not in SPEAKS_FOR_ITSELF and not is_overload(node)
    ]
    assert not silent


def test_public_functions_are_annotated(modules: dict[str, Path], trees: dict[Path, ast.Module]) -> None:
    bare = []
    for module, path in modules.items():
        for name, node in public_definitions(trees[path].body):
            if isinstance(node, ast.ClassDef):
                continue
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            arguments += [one for one in (node.args.vararg, node.args.kwarg) if one is not None]
            missing = [
                one.arg for one in arguments if one.annotation is None and one.arg not in ("self", "cls")
            ]
            if missing or node.returns is None:
                bare.append(f"{module}.{name}({', '.join(missing)})")
    assert not bare


def test_exported_names_are_documented() -> None:
    import faceum

    assert len(faceum.__all__) == len(set(faceum.__all__))
    silent = []
    for name in faceum.__all__:
        thing = getattr(faceum, name)
        if (inspect.isclass(thing) or inspect.isroutine(thing)) and not inspect.getdoc(thing):
            silent.append(name)
        elif inspect.isclass(thing) and thing.__doc__ and thing.__doc__.startswith(f"{name}("):
            silent.append(f"{name} (only the signature that dataclass writes)")
    assert not silent


def test_unknown_name_raises_attribute_error() -> None:
    import faceum

    assert not hasattr(faceum, "no_such_name")
