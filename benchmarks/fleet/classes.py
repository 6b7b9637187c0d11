"""Which pipeline classes of diffusers have one loop over their scheduler's `step`, by their sources, and why others have not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import diffusers

ROOT = Path(diffusers.__file__).parent
DRAWING = ("multinomial", "gumbel_noise")  # by which steps draw tokens

Loops = tuple[int, ...]  # lines of the loops around a call, from the outermost one


@cache
def scope() -> dict[str, str]:
    """Why each exported pipeline class does not count, in order of the alphabet; "" for those that do."""
    exported = {name for names in diffusers._import_structure.values() for name in names}
    return {name: beyond(name) for name in sorted(exported) if name != "DiffusionPipeline" and _is_pipeline(name)}


def qualifying() -> list[str]:
    """The classes that count: with a scheduler whose `step` is called in one loop, by which numbers are denoised."""
    return [name for name, reason in scope().items() if not reason]


def beyond(name: str) -> str:
    """Why a class does not count; "" for one that does."""
    around = {loops for method in ("__call__", "backward_loop") for loops in _stepping(_method(name, method), ())}
    inner = {loops[-1] for loops in around}
    if not any(argument.endswith("scheduler") for argument in _arguments(name)):
        return "it has no scheduler"
    if not inner:
        return "its call has no loop over its scheduler's `step`: it calls other pipelines, or is left without code"
    if len(inner) > 1:
        return f"{len(inner)} loops over `step`"
    if any(len(loops) > 1 for loops in around):
        return "its loop over `step` is within another loop: several runs in one call"
    runs = _calls(_method(name, "__call__"), "backward_loop")
    if runs > 1:
        return f"its loop over `step` is in a method that its call runs {runs} times: several runs in one call"
    if _draws_tokens(name):
        return "its states are tokens, which have no noise level"
    missing = _missing_libraries(name)
    return f"needs the library {missing}, which is not installed" if missing else ""


def _stepping(node: ast.AST | None, loops: Loops) -> Iterator[Loops]:
    """The loops around each call of a scheduler's step, of calls that are in any."""
    if node is None:
        return
    if isinstance(node, ast.For | ast.While):
        loops = (*loops, node.lineno)
    steps = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "step"
    if steps and loops and "scheduler" in ast.unparse(node.func):
        yield loops
    for child in ast.iter_child_nodes(node):
        yield from _stepping(child, loops)


def _calls(node: ast.AST | None, method: str) -> int:
    """How often a method of the pipeline is called."""
    calls = [each.func for each in ast.walk(node) if isinstance(each, ast.Call)] if node else []
    return sum(isinstance(each, ast.Attribute) and each.attr == method for each in calls)


@cache
def _definitions(folder: str) -> dict[str, ast.ClassDef]:
    """Every class of a folder's sources by its name."""
    trees = [ast.parse(path.read_text()) for path in sorted((ROOT / folder).rglob("*.py"))]
    return {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}


def _bases(name: str) -> list[str]:
    node = _definitions("pipelines").get(name)
    return [] if node is None else [base.id for base in node.bases if isinstance(base, ast.Name) and base.id != name]


def _is_pipeline(name: str) -> bool:
    return name == "DiffusionPipeline" or any(map(_is_pipeline, _bases(name)))


def _method(name: str, method: str) -> ast.FunctionDef | None:
    """The class's method, or the one that it inherits."""
    node = _definitions("pipelines").get(name)
    own = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == method] if node else []
    return own[0] if own else next((found for base in _bases(name) if (found := _method(base, method))), None)


def _arguments(name: str) -> list[str]:
    made = _method(name, "__init__")
    return [] if made is None else [each.arg for each in (*made.args.args, *made.args.kwonlyargs)]


def _draws_tokens(name: str) -> bool:
    """Whether the `step` of the scheduler that the constructor names draws tokens from what the network gives."""
    made = _method(name, "__init__")
    named = [each.annotation for each in made.args.args if each.arg == "scheduler" and each.annotation] if made else []
    schedulers = [_definitions("schedulers").get(ast.unparse(each)) for each in named]
    return any(word in ast.unparse(each) for each in schedulers if each for word in DRAWING)


def _missing_libraries(name: str) -> str:
    """The libraries that a class needs and that are not installed, of whose place diffusers has a class that only says so."""
    kind = getattr(diffusers, name)
    if "dummy" not in kind.__module__:
        return ""
    return ", ".join(each for each in kind._backends if not getattr(diffusers.utils, f"is_{each}_available")())
