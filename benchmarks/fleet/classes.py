"""The pipeline classes that diffusers exports with a scheduler and one loop over its `step`, read off their sources."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import diffusers

ROOT = Path(diffusers.__file__).parent / "pipelines"


@cache
def _definitions() -> dict[str, ast.ClassDef]:
    """Every class of the pipelines' sources by its name."""
    trees = [ast.parse(path.read_text()) for path in sorted(ROOT.rglob("*.py"))]
    return {node.name: node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)}


def _bases(name: str) -> list[str]:
    node = _definitions().get(name)
    return [] if node is None else [base.id for base in node.bases if isinstance(base, ast.Name) and base.id != name]


def _is_pipeline(name: str) -> bool:
    return name == "DiffusionPipeline" or any(map(_is_pipeline, _bases(name)))


def _method(name: str, method: str) -> ast.FunctionDef | None:
    """The class's method, or the one that it inherits."""
    node = _definitions().get(name)
    own = [each for each in node.body if isinstance(each, ast.FunctionDef) and each.name == method] if node else []
    return own[0] if own else next((found for base in _bases(name) if (found := _method(base, method))), None)


def _loops(name: str) -> int:
    """Innermost loops of the call, or of what it calls for one (`backward_loop`), that step the scheduler."""
    methods = [_method(name, "__call__"), _method(name, "backward_loop")]
    return len({line for method in methods if method is not None for line in _innermost(method, None)})


def _innermost(node: ast.AST, loop: int | None) -> Iterator[int]:
    """Lines of the loops directly around each call of a scheduler's step."""
    if isinstance(node, ast.For | ast.While):
        loop = node.lineno
    stepping = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "step"
    if stepping and loop is not None and "scheduler" in ast.unparse(node.func):
        yield loop
    for child in ast.iter_child_nodes(node):
        yield from _innermost(child, loop)


def qualifying() -> list[str]:
    """Names of the classes, in order of the alphabet."""
    exported = {name for names in diffusers._import_structure.values() for name in names}
    return sorted(
        name
        for name in exported
        if name != "DiffusionPipeline" and _is_pipeline(name) and "scheduler" in _arguments(name) and _loops(name) == 1
    )


def _arguments(name: str) -> list[str]:
    made = _method(name, "__init__")
    return [] if made is None else [each.arg for each in (*made.args.args, *made.args.kwonlyargs)]


def signature(kind: type) -> inspect.Signature:
    """The signature of the pipeline's call."""
    return inspect.signature(kind.__call__)
