"""House numbers: lengths of files and functions, numbers of arguments; and two banned habits."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef

LONGEST_FILE, MEDIAN_FILE = 500, 200
LONGEST_FUNCTION, NINTH_DECILE_FUNCTION = 80, 45
MOST_ARGUMENTS = 8

RUNS_RECIPES = {("config.py", "exec")}
"""(file, call) that runs the Python file that a user chose as a recipe."""

MIRRORS_A_COMMAND = {("analyzer.py", "__init__")}
"""(file, function) whose keyword-only arguments are the options of a command."""


def functions(tree: ast.Module) -> Iterator[Function]:
    """Every function of a file, those inside classes and functions too."""
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node


def length(function: Function) -> int:
    """Lines from `def` to the end."""
    return (function.end_lineno or function.lineno) - function.lineno + 1


def arguments(function: Function) -> int:
    """How many arguments a caller may give; the object itself is not one."""
    names = [
        argument.arg
        for argument in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    ]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def is_a_command(function: Function) -> bool:
    """Whether it is a command of the command line, whose arguments are its options.

    Such a function is decorated by typer, or its name ends in `_command`.
    """
    return function.name.endswith("_command") or any(
        isinstance(decorator, ast.Call) and getattr(decorator.func, "attr", "") in ("command", "callback")
        for decorator in function.decorator_list
    )


def is_a_kernel(function: Function) -> bool:
    """Whether it is a Triton kernel: pointers, sizes and constants come one by one."""
    return any(ast.unparse(decorator) == "triton.jit" for decorator in function.decorator_list)


def test_files_are_short(python_files: list[Path]) -> None:
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in python_files}
    assert not {name: lines for name, lines in lengths.items() if lines > LONGEST_FILE}


def test_functions_are_short(trees: dict[Path, ast.Module]) -> None:
    long = {
        f"{path}:{one.lineno} {one.name}": length(one)
        for path, tree in trees.items()
        for one in functions(tree)
        if length(one) > LONGEST_FUNCTION
    }
    assert not long


def test_functions_take_few_arguments(trees: dict[Path, ast.Module]) -> None:
    wide = {
        f"{path}:{one.lineno} {one.name}": arguments(one)
        for path, tree in trees.items()
        for one in functions(tree)
        if arguments(one) > MOST_ARGUMENTS
        and not is_a_command(one)
        and not is_a_kernel(one)
        and (path.name, one.name) not in MIRRORS_A_COMMAND
    }
    assert not wide


def test_median_file_is_short(modules: dict[str, Path]) -> None:
    lengths = [len(path.read_text(encoding="utf-8").splitlines()) for path in modules.values()]
    assert statistics.median(lengths) <= MEDIAN_FILE


def test_ninth_decile_of_functions_is_short(modules: dict[str, Path], trees: dict[Path, ast.Module]) -> None:
    lengths = sorted(length(one) for path in modules.values() for one in functions(trees[path]))
    assert lengths[int(0.9 * len(lengths))] <= NINTH_DECILE_FUNCTION


def test_weights_are_loaded_strictly(trees: dict[Path, ast.Module]) -> None:
    loose = [
        f"{path}:{node.lineno}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", "") == "load_state_dict"
        and any(
            word.arg == "strict" and getattr(word.value, "value", None) is not True for word in node.keywords
        )
    ]
    assert not loose


def test_no_class_is_looked_up_by_name(trees: dict[Path, ast.Module]) -> None:
    calls = [
        f"{path}:{node.lineno} {node.func.id}"
        for path, tree in trees.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"globals", "eval", "exec"}
        and (path.name, node.func.id) not in RUNS_RECIPES
    ]
    assert not calls
