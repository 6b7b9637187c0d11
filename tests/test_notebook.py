"""The notebook of the docs: a valid file without stored outputs, whose cells run in order."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

PATH = Path(__file__).parents[1] / "docs" / "notebook.ipynb"
NOTEBOOK: dict[str, Any] = json.loads(PATH.read_text())
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def test_it_is_a_notebook_without_outputs() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    assert {cell["cell_type"] for cell in NOTEBOOK["cells"]} == {"markdown", "code"}
    for cell in NOTEBOOK["cells"]:
        assert cell["metadata"] == {}
        if cell["cell_type"] == "code":
            assert (cell["execution_count"], cell["outputs"]) == (None, [])
            ast.parse("".join(cell["source"]))


def shown(code: str, names: dict[str, Any]) -> Any:
    """What a cell shows: the value of its last line, where that is an expression."""
    *before, last = ast.parse(code).body
    if not isinstance(last, ast.Expr):
        before, last = [*before, last], None
    exec(compile(ast.Module(before, []), str(PATH), "exec"), names)
    return None if last is None else eval(compile(ast.Expression(last.value), str(PATH), "eval"), names)


@pytest.mark.slow
def test_its_cells_run_in_order_and_show_themselves() -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    values = [shown(code, names) for code in CODE]
    drawn = [value for value in values if hasattr(value, "_repr_html_")]
    assert len(drawn) == 4  # model, plan, leaderboard, result
    assert all("<" in value._repr_html_() for value in drawn)
