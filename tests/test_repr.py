"""How models, plans and results show themselves: one line without numbers' dumps, and self-contained HTML in notebooks."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

import fewer
from fewer.guidance.cfg import ClassifierFree
from fewer.models.schedules import Flow
from fewer.plan import Plan, Shortcut
from fewer.search.request import Budget, Request, identity
from fewer.search.strategy import Strategy

NAME = '<i>name</i> & "quotes"'


def model() -> fewer.Model:
    mixture = fewer.GaussianMixture.random((1, 4, 4), 2, seed=0)
    return fewer.Model.from_mixture(mixture, Flow(), name=NAME, hash="hash")


def plan(nfe: int = 4) -> Plan:
    return fewer.standard("dpmpp-2m", model(), nfe, "uniform").named(NAME)


def with_rows(**changes: Any) -> Plan:
    made = plan()
    return replace(made, rows=tuple(replace(row, **changes) for row in made.rows))


PLANS = {
    "plain": plan,
    "one row": lambda: plan(1),
    "many rows": lambda: plan(300),
    "guided": lambda: with_rows(guidance=ClassifierFree(3.0)),
    "tensors": lambda: with_rows(b={0: torch.ones(1, 4, 4)}, offset=torch.full((1, 4, 4), 0.123456)),
    "blocks": lambda: with_rows(blocks={f"<b>{k}": Shortcut() for k in range(40)}),
    "no weights": lambda: with_rows(b={}),
}
THINGS = {"model": model, **PLANS, "result": lambda: fewer.tune(model(), nfe=2, trials=1, noises=16, fresh=16)}


@pytest.fixture(scope="module", params=THINGS)
def thing(request: pytest.FixtureRequest) -> Any:
    return THINGS[request.param]()


def test_repr_is_a_line_with_the_name_and_no_dump(thing: Any) -> None:
    line = repr(thing)
    assert "\n" not in line
    assert len(line) < 400
    assert "tensor(" not in line
    assert repr(NAME) in line
    assert line == str(thing)


def test_html_is_well_formed_escaped_and_needs_nothing_else(thing: Any) -> None:
    html = thing._repr_html_()
    ET.fromstring(html)
    assert "<i>" not in html
    assert "<b>" not in html
    assert "<script" not in html
    assert not re.search(r"(?:src|href)=|url\(", html)
    assert len(html) < 1_000_000


@pytest.mark.parametrize("name", PLANS)
def test_a_picture_has_the_colour_of_its_page_and_a_dot_for_each_level(name: str) -> None:
    made = PLANS[name]()
    svg = ET.fromstring(made._repr_html_())
    assert svg.get("fill") == "currentColor"
    shapes = [shape.tag.rsplit("}")[-1] for shape in svg.iter()]
    assert shapes.count("circle") == min(len(made.rows), 60) + 1
    texts = [shape.text or "" for shape in svg.iter() if shape.tag.endswith("text")]
    assert ("passes" in texts) == (made.nfe > len(made.rows))
    assert any(text.startswith("blocks") for text in texts) == any(row.blocks for row in made.rows)
    assert NAME in texts[0]
    width, height = float(svg.get("width", 0)), float(svg.get("height", 0))
    for shape in svg.iter():
        x, y = (float(shape.get(k, shape.get(f"c{k}", 0))) for k in "xy")
        assert 0 <= x <= width
        assert 0 <= y <= height


def test_every_weight_is_a_cell_that_says_its_value() -> None:
    made = plan()
    svg = ET.fromstring(made._repr_html_())
    told = [
        shape.text or ""
        for shape in svg.iter()
        if shape.tag.endswith("title") and "of the output of row" in (shape.text or "")
    ]
    levels = [float(level) for level in made.levels]
    expected = [
        f"row {n + 1}: {b / (levels[n + 1] - levels[n]):.4g} of the output of row {j + 1}"
        for n, row in enumerate(made.rows)
        for j, b in row.b.items()
    ]
    assert told == expected


def test_a_result_shows_its_plan() -> None:
    found = THINGS["result"]()
    assert found.plan.picture() in found._repr_html_()


@dataclass(frozen=True)
class Around(Strategy):
    """A strategy whose settings hold plans."""

    plan: Plan
    others: tuple[Plan, ...] = ()
    name = "around"
    columns = frozenset({"steps"})
    candidates = 1

    def search(self, objective, space, done, seed):
        yield from ()


@pytest.mark.parametrize("held", [Around, lambda plan: Around(PLANS["plain"](), (plan,))])
def test_searches_around_other_plans_are_other_searches(held) -> None:
    """Though plans that differ in a number alone look the same on one line."""
    one = PLANS["plain"]()
    other = replace(one, rows=(replace(one.rows[0], b={0: -0.123}), *one.rows[1:]))
    assert repr(held(one)) == repr(held(other))
    known = [identity(Request((Budget(4),), strategy=held(plan)), model(), Budget(4)) for plan in (one, one, other)]
    assert known[0] == known[1] != known[2]
