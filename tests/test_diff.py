"""`fewer diff`: every difference that changes samples is told with its row, and nothing else makes plans differ."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import fewer
from fewer.cli.main import run
from fewer.guidance.cfg import ClassifierFree
from fewer.models.schedules import Flow
from fewer.plan import Plan, Shortcut
from fewer.plan.difference import differences
from fewer.plan.recipe import Recipe


@pytest.fixture(scope="module")
def plan() -> Plan:
    model = fewer.Model.from_denoiser(lambda x, t, y: x, Flow(), (1, 4, 4), predicts="flow", name="one")
    return fewer.standard("dpmpp-2m", model, 4, "uniform")


def with_row(plan: Plan, n: int, **changes: object) -> Plan:
    return replace(plan, rows=tuple(replace(row, **changes) if i == n else row for i, row in enumerate(plan.rows)))


CHANGES = {
    "level": (2, {"tau": 0.41}),
    "time": (1, {"t": 3.0}),
    "weights of outputs": (2, {"b": {1: 0.5, 2: -0.7}}),
    "weights of states": (3, {"a": {3: 0.9}}),
    "noise": (0, {"noise": 0.1}),
    "offset": (1, {"offset": torch.ones(1, 4, 4)}),
    "guidance": (3, {"guidance": ClassifierFree(3.0)}),
    "passes": (3, {"guidance": ClassifierFree(3.0)}),
    "blocks left out": (2, {"blocks": {"down.0": Shortcut({1: 1.0})}}),
    "network": (1, {"network": 1}),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_of_a_row_is_told_with_row_and_both_values(plan: Plan, what: str) -> None:
    n, changes = CHANGES[what]
    found = differences(plan, with_row(plan, n, **changes))
    assert {change.row for change in found} == {n}
    (change,) = [change for change in found if change.what == what]
    assert str(change).startswith(f"row {n + 1}: {what}: ")
    left, right = str(change).split(": ", 2)[2].split(" -> ")
    assert left != right
    back = [change for change in differences(with_row(plan, n, **changes), plan) if change.what == what]
    assert [(each.a, each.b) for each in back] == [(change.b, change.a)]


OTHERS = {
    "model": lambda plan: replace(plan, model={"name": "other", "hash": "0" * 64, "schedule": "none"}),
    "recipe": lambda plan: replace(plan, recipe=Recipe(solver="heun")),
    "start": lambda plan: replace(plan, start=replace(plan.start, scale=0.9)),
    "end": lambda plan: replace(plan, end=0.001),
    "row 4": lambda plan: replace(plan, rows=plan.rows[:3]),
}


@pytest.mark.parametrize("where", OTHERS)
def test_a_change_elsewhere_is_told_with_its_place(plan: Plan, where: str) -> None:
    for sides in ((plan, OTHERS[where](plan)), (OTHERS[where](plan), plan)):
        found = differences(*sides)
        assert found
        assert {change.where for change in found} == {where}


@pytest.mark.parametrize(
    "same", [lambda plan: plan, lambda plan: plan.named("another"), lambda plan: replace(plan, evidence={"n": 3})]
)
def test_names_and_evidence_do_not_count(plan: Plan, same) -> None:
    assert differences(plan, same(plan)) == []


def files(folder: Path, a: Plan, b: Plan) -> list[str]:
    return [str(plan.save(folder / f"{name}.json")) for name, plan in (("a", a), ("b", b))]


@pytest.mark.parametrize("what", [None, *CHANGES])
def test_status_is_that_of_diff(
    plan: Plan, what: str | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    n, changes = (0, {}) if what is None else CHANGES[what]
    assert run(["diff", *files(tmp_path, plan, with_row(plan, n, **changes))]) == (0 if what is None else 1)
    out, err = capfd.readouterr()
    assert err == ""
    assert ("No difference" in out) == (what is None)


def test_the_json_has_the_same(plan: Plan, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    other = with_row(plan, 2, tau=0.41)
    assert run(["diff", *files(tmp_path, plan, other), "--json", "-"]) == 1
    told = json.loads(capfd.readouterr().out)
    assert told["equal"] is False
    assert told["differences"] == [change.to_dict() for change in differences(plan, other)]
    assert (told["a"]["nfe"], told["b"]["rows"]) == (4, 4)


def test_another_model_and_another_schema_are_said(
    plan: Plan, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    paths = files(tmp_path, plan, OTHERS["model"](plan))
    content = json.loads(Path(paths[0]).read_text()) | {"schema": 3}
    content.pop("recipe", None)
    Path(paths[0]).write_text(json.dumps(content))
    assert run(["diff", *paths]) == 1
    out = capfd.readouterr().out
    assert "different models" in out
    assert "different schemas, 3 and 4" in out


@pytest.mark.parametrize("content", [None, "", "{}", '{"schema": 99}', "[]"])
def test_what_is_no_plan_is_refused_in_one_line(
    plan: Plan, content: str | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    good, bad = files(tmp_path, plan, plan)
    Path(bad).unlink() if content is None else Path(bad).write_text(content)
    page = tmp_path / "page.html"
    assert run(["diff", good, bad, "--html", str(page)]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "b.json" in line
    assert not page.exists()


def test_the_page_frames_the_rows_that_differ_and_needs_nothing_else(plan: Plan, tmp_path: Path) -> None:
    named = with_row(plan, 2, tau=0.41).named("<script>alert(1)</script>")
    page = tmp_path / "page.html"
    assert run(["diff", *files(tmp_path, plan, named), "--html", str(page)]) == 1
    text = page.read_text()
    assert "<script" not in text
    assert not re.search(r'(?:src|href)="?https?:', text)
    pictures = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(pictures) == 2
    for each in pictures:
        frames = [shape for shape in ET.fromstring(each).iter() if shape.get("stroke-dasharray")]
        assert len(frames) == 1
