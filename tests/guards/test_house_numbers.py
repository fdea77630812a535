"""The numbers of the house: lengths of files and functions, numbers of arguments; and banned habits."""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from pathlib import Path

Function = ast.FunctionDef | ast.AsyncFunctionDef

LONGEST_FILE, MEDIAN_FILE = 500, 200
LONGEST_FUNCTION, NINTH_DECILE_FUNCTION = 80, 45
MOST_ARGUMENTS = 8


def functions(path: Path) -> Iterator[Function]:
    """Every function of a file, those inside classes and functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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
    """Whether it is a command of the command line: its arguments are the options, as many as those are."""
    return any(
        isinstance(decorator, ast.Call) and getattr(decorator.func, "attr", "") in ("command", "callback")
        for decorator in function.decorator_list
    )


def is_a_kernel(function: Function) -> bool:
    """Whether it is a Triton kernel: pointers, sizes and constants come one by one."""
    return any(ast.unparse(decorator) == "triton.jit" for decorator in function.decorator_list)


def test_the_file_is_not_too_long(python_file: Path) -> None:
    assert len(python_file.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE


def test_functions_are_not_too_long(python_file: Path) -> None:
    long = {one.name: length(one) for one in functions(python_file) if length(one) > LONGEST_FUNCTION}
    assert not long


def test_functions_do_not_take_too_many_arguments(python_file: Path) -> None:
    wide = {
        one.name: arguments(one)
        for one in functions(python_file)
        if arguments(one) > MOST_ARGUMENTS and not is_a_command(one) and not is_a_kernel(one)
    }
    assert not wide


def test_most_files_are_short(modules: dict[str, Path]) -> None:
    lengths = [len(path.read_text(encoding="utf-8").splitlines()) for path in modules.values()]
    assert statistics.median(lengths) <= MEDIAN_FILE


def test_most_functions_are_short(modules: dict[str, Path]) -> None:
    lengths = sorted(length(one) for path in modules.values() for one in functions(path))
    assert lengths[int(0.9 * len(lengths))] <= NINTH_DECILE_FUNCTION


def test_no_loading_that_is_not_strict(python_file: Path) -> None:
    for node in ast.walk(ast.parse(python_file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "load_state_dict":
            loose = [word for word in node.keywords if word.arg == "strict"]
            assert all(getattr(word.value, "value", None) is True for word in loose), (
                f"line {node.lineno} loads weights without being strict"
            )


def test_no_class_is_found_by_name_at_run_time(python_file: Path) -> None:
    called = {
        node.func.id
        for node in ast.walk(ast.parse(python_file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"globals", "eval", "exec"}
