"""Plans and their files: what is written comes back, what is damaged or hostile is refused in one line."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from fewer import GaussianMixture, Model, solve
from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.models.schedules import Flow
from fewer.plan import Plan, Row, Start
from fewer.plan.difference import differences
from fewer.plan.method import Method
from fewer.registry import find, parts
from fewer.solvers import compile_plan
from fewer.solvers.trace import Level

numbers = st.floats(-1e6, 1e6)
tensors = st.integers(1, 3).flatmap(
    lambda c: st.lists(st.floats(-8, 8, width=32), min_size=4 * c, max_size=4 * c).map(
        lambda values: torch.tensor(values, dtype=torch.float32).view(c, 2, 2)
    )
)
coefficients = st.one_of(numbers, tensors)


@st.composite
def plans(draw: Any) -> Plan:
    """Plans with every field in use: falling levels, earlier states, noise, guidance, tensors."""
    n = draw(st.integers(1, 5))
    levels = sorted(draw(st.lists(st.floats(1e-6, 1.0), min_size=n, max_size=n, unique=True)), reverse=True)
    rows = []
    for i, tau in enumerate(levels):
        named = st.dictionaries(st.integers(0, i), coefficients, min_size=1)
        guidance = draw(st.none() | st.builds(ClassifierFree, st.floats(-10, 10)))
        a = draw(st.none() | named)
        rows.append(Row(tau, draw(named), a, draw(coefficients), guidance, t=draw(numbers)))
    start = Start(levels[0], draw(coefficients), draw(coefficients), draw(coefficients))
    made_for = draw(st.none() | st.just({"name": "digits", "hash": "ab12"}))
    evidence = draw(st.dictionaries(st.text(max_size=5), st.floats(-1, 1) | st.lists(st.integers(0, 9)), max_size=2))
    return Plan(start, tuple(rows), draw(st.floats(0, levels[-1])), draw(st.text(max_size=20)), made_for, evidence)


def same(x: Any, y: Any) -> bool:
    if isinstance(x, Tensor) or isinstance(y, Tensor):
        return isinstance(x, Tensor) and isinstance(y, Tensor) and torch.equal(x, y)
    if isinstance(x, dict):
        return x.keys() == y.keys() and all(same(value, y[key]) for key, value in x.items())
    return x == y


def assert_equal(x: Plan, y: Plan) -> None:
    assert (x.name, x.model, x.evidence, x.end, x.nfe) == (y.name, y.model, y.evidence, y.end, y.nfe)
    for one, other in zip((x.start, *x.rows), (y.start, *y.rows), strict=True):
        assert vars(one).keys() == vars(other).keys()
        for name, value in vars(one).items():
            assert same(value, getattr(other, name)), name


@given(plan=plans())
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_round_trip(plan: Plan, tmp_path: Path) -> None:
    """Floats come back bit for bit, float32 tensors too."""
    path = plan.save(tmp_path / "plan.json")
    assert_equal(Plan.load(path), plan)
    json.loads(path.read_text())


def test_one_tensor_in_two_places(tmp_path: Path) -> None:
    w = torch.linspace(-1, 1, 4).view(1, 2, 2)
    plan = Plan(Start(0.5, w), (Row(0.5, {0: w}, t=5.0), Row(0.2, {0: w[:, :1], 1: w.double()}, t=2.0)))
    loaded = Plan.load(plan.save(tmp_path / "plan.json"))
    assert torch.equal(loaded.rows[1].b[1], w)
    assert torch.equal(loaded.rows[1].b[0], w[:, :1])


@pytest.mark.parametrize("name", [part.name for part in parts("solvers")])
def test_compiled_plans_round_trip(name: str, tmp_path: Path) -> None:
    solver, levels = find("solvers", name).make(), [Level(0.9, t=900.0), Level(0.5, t=500.0), Level(0.1, t=100.0)]
    plan = compile_plan(solver, levels[: solver.steps(3)], 3)
    assert Plan.load(plan.save(tmp_path / "deep" / "er" / "plan.json")) == plan


def test_a_plan_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    good = a_plan()
    path = good.save(tmp_path / "plan.json")
    before = path.read_bytes()
    with pytest.raises(InputError, match="not finite"):
        replace(good, rows=(Row(0.5, {0: float("nan")}, t=1.0),)).save(path)
    assert path.read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        good.save(tmp_path / "file" / "plan.json")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "plan.json"]


def a_plan(**changes: Any) -> Plan:
    return Plan(Start(0.5, 0.5), (Row(0.5, {0: -0.3}, t=5.0), Row(0.2, {0: 0.1, 1: -0.3}, t=2.0)), **changes)


def content(**changes: Any) -> dict[str, Any]:
    rows = [{"t": 5.0, "tau": 0.5, "b": {"0": -0.3}}, {"t": 2.0, "tau": 0.2, "b": {"0": 0.1, "1": -0.3}}]
    return {"schema": 1, "name": "p", "start": {"tau": 0.5, "scale": 0.5}, "rows": rows, **changes}


def row(**changes: Any) -> dict[str, Any]:
    return content(rows=[{"t": 5.0, "tau": 0.5, "b": {"0": -0.3}, **changes}])


def test_the_smallest_file(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(content()))
    assert_equal(Plan.load(path), a_plan(name="p"))


WRONG: dict[str, tuple[Any, str]] = {
    "truncated": (json.dumps(content())[:-20], "not complete JSON"),
    "empty": ("", "not complete JSON"),
    "no object": ("[1, 2]", "not a JSON object"),
    "not text": (b"\xff\xfe\x00", "not complete JSON"),
    "nested without end": ("[" * 100_000, "not complete JSON"),
    "newer schema": (content(schema=99), "upgrade fewer"),
    "no schema": ({k: v for k, v in content().items() if k != "schema"}, "no schema version"),
    "odd schema": (content(schema="1"), "no schema version"),
    "unknown key": (content(colour="red"), "colour"),
    "no rows": (content(rows=[]), "rows"),
    "too many rows": (content(rows=content()["rows"][:1] * 10_001), "rows"),
    "too many weights": (row(b={str(j): 0.1 for j in range(10_001)}), "rows.0.b"),
    "long name": (content(name="x" * 201), "name"),
    "missing level": (content(rows=[{"t": 5.0, "b": {"0": 1.0}}]), "rows.0.tau"),
    "level above 1": (content(start={"tau": 1.5, "scale": 1.5}, rows=[{"t": 5.0, "tau": 1.5, "b": {}}]), "level 0"),
    "level below 0": (content(end=-0.1), "level 2"),
    "levels out of order": (content(rows=content()["rows"][::-1], start={"tau": 0.2, "scale": 0.2}), "names call 1"),
    "times out of order": (
        content(rows=[{"t": t, "tau": tau, "b": {"0": 0.1}} for t, tau in ((5.0, 0.5), (2.0, 0.2), (4.0, 0.4))]),
        "out of order",
    ),
    "another start": (content(start={"tau": 0.6, "scale": 0.6}), "starts at level 0.6"),
    "future output": (row(b={"1": 0.1}), "names call 1"),
    "negative output": (row(b={"-1": 0.1}), "names call -1"),
    "future state": (row(a={"0": 1.0, "3": 0.1}), "names call 3"),
    "nan": (json.dumps(row(b={"0": float("nan")})), "rows.0.b"),
    "infinite": ('{"schema": 1, "name": "p", "start": {"tau": 0.5, "scale": 1e400}, "rows": []}', "start.scale"),
    "enormous integer": (row(t=10**400), "rows.0.t"),
    "a word": (row(b={"0": "much"}), "rows.0.b"),
    "unknown guidance": (row(guidance={"rule": "magic"}), "magic"),
    "guidance without scale": (row(guidance={"rule": "cfg"}), "scale"),
    "guidance with a word": (row(guidance={"rule": "cfg", "scale": "much"}), "scale"),
    "guidance with more": (row(guidance={"rule": "cfg", "scale": 2.0, "power": 2.0}), "power"),
    "tensors not named": (row(b={"0": {"tensor": "c0"}}), "'c0'"),
    "tensors missing": (content(tensors="gone.safetensors"), "gone.safetensors"),
    "tensors elsewhere": (content(tensors="../plan.safetensors"), "beside the plan"),
    "tensors at a path": (content(tensors="/etc/passwd"), "beside the plan"),
    "tensors in a folder": (content(tensors="sub/x.safetensors"), "beside the plan"),
    "tensors as pickle": (content(tensors="weights.pt"), "beside the plan"),
    "tensors up": (content(tensors=".."), "beside the plan"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_files(case: str, tmp_path: Path) -> None:
    given_content, says = WRONG[case]
    path = tmp_path / "plan.json"
    if isinstance(given_content, dict):
        given_content = json.dumps(given_content)
    path.write_bytes(given_content if isinstance(given_content, bytes) else given_content.encode())
    assert_refused(path, says)


def assert_refused(path: Path, says: str) -> None:
    with pytest.raises(InputError) as caught:
        Plan.load(path)
    text = str(caught.value)
    assert says in text
    assert "\n" not in text
    assert len(text) < 500


def test_bad_places(tmp_path: Path) -> None:
    assert_refused(tmp_path / "none.json", "none.json")
    assert_refused(tmp_path, str(tmp_path))
    big = tmp_path / "big.json"
    big.touch()
    os.truncate(big, 16 * 2**20 + 1)
    assert_refused(big, "larger than 16 MiB")


class Bomb:
    """Unpickling this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.path), "w"))


def test_bad_tensor_files(tmp_path: Path) -> None:
    """A pickle under the name of safetensors is not loaded, nor is a damaged, oversized or incomplete file."""
    w = torch.ones(1, 2, 2)
    path = Plan(Start(0.5, w), (Row(0.5, {0: w}, t=5.0),)).save(tmp_path / "plan.json")
    beside = tmp_path / "plan.safetensors"
    good = beside.read_bytes()

    beside.write_bytes(pickle.dumps(Bomb(tmp_path / "fired")))
    assert_refused(path, "not a safetensors file")
    torch.save({"c0": w, "c1": w}, beside)
    assert_refused(path, "not a safetensors file")
    assert not (tmp_path / "fired").exists()

    for damaged in (b"", good[:20], good[:-4], (2**60).to_bytes(8, "little") + good[8:]):
        beside.write_bytes(damaged)
        assert_refused(path, "not a safetensors file")
    beside.write_bytes(good)
    os.truncate(beside, 2**30 + 1)  # sparse: takes no room
    assert_refused(path, "larger than 1024 MiB")

    Plan(Start(0.5, torch.full((1, 2, 2), 2.0)), (Row(0.5, {0: 1.0}, t=5.0),)).save(tmp_path / "other.json")
    beside.write_bytes((tmp_path / "other.safetensors").read_bytes())
    assert_refused(path, "'c1'")
    beside.write_bytes(good.replace(w.numpy().tobytes(), torch.full((1, 2, 2), torch.inf).numpy().tobytes()))
    assert_refused(path, "not finite")


def test_counting() -> None:
    plan = a_plan()
    assert plan.nfe == 2
    assert not plan.stochastic
    assert plan.levels == [0.5, 0.2, 0.0]
    rows = [replace(r, guidance=ClassifierFree(s)) for r, s in zip(plan.rows, (4.0, 1.0), strict=True)]
    assert replace(plan, rows=tuple(rows)).nfe == 3
    assert replace(plan, rows=(*plan.rows[:1], replace(plan.rows[1], noise=0.1))).stochastic
    assert replace(plan, start=Start(0.5, 0.4, noise=0.3)).stochastic
    assert plan.named("mine").name == "mine"


def test_rising_levels() -> None:
    """Levels may rise throughout (inversion), and where noise is added (restart), not otherwise."""
    up = Plan(Start(0.1, 0.1), (Row(0.1, {0: 0.4}, t=1.0), Row(0.5, {1: 0.4}, t=5.0)), end=0.9)
    up.check()
    with pytest.raises(InputError, match="out of order"):
        replace(up, end=0.0).check()
    restart = (Row(0.5, {0: -0.3}, t=5.0), Row(0.2, {1: 0.1}, {1: 0.6}, noise=0.4, t=2.0), Row(0.5, {2: -0.5}, t=5.0))
    Plan(Start(0.5, 0.5), restart).check()


@given(
    drops=st.lists(st.floats(0.1, 2.0), min_size=12, max_size=12),
    calls=st.integers(2, 12),
    part=st.floats(0.0, 1.0),
    name=st.sampled_from([part.name for part in parts("solvers")]),
)
@settings(deadline=None)
def test_from_level(drops: list[float], calls: int, part: float, name: str) -> None:
    """What is left starts at or below the level, and still ends at y where the data are one point y."""
    solver = find("solvers", name).make()
    taus = (1 / (1 + np.exp(-3 + np.cumsum([0.0, *drops]))))[: solver.steps(calls)]
    plan = compile_plan(solver, [Level(tau, t=1000 * tau) for tau in taus.tolist()], calls)
    tau = float(taus[-1] + part * (taus[0] - taus[-1]))
    try:
        left = plan.from_level(tau).check()
    except InputError:  # no row is left that moves anything, or what is left needs states from before (`nested`)
        return
    assert left.start.tau == left.rows[0].tau <= tau + 1e-9
    assert all(row in [(r.t, r.tau) for r in plan.rows] for row in [(r.t, r.tau) for r in left.rows])
    x, y, outputs = 0.3, 0.7, []  # any state, on the line through y
    for n, row in enumerate(left.rows):
        outputs.append((x - y) / row.tau)
        a = 1.0 if row.a is None else row.a[n]
        x = a * x + sum(b * outputs[j] for j, b in row.b.items())
    assert x == pytest.approx(y, abs=1e-9)
    assert plan.from_level(1.0) == plan


def test_from_level_says_when_it_cannot() -> None:
    with pytest.raises(InputError, match=r"no row at or below level 0\.1"):
        a_plan().from_level(0.1)
    across = Plan(Start(0.5, 0.5), (Row(0.5, {0: -0.3}, t=5.0), Row(0.2, {1: -0.2}, {0: 0.1, 1: 0.9}, t=2.0)))
    with pytest.raises(InputError, match="names states before level"):
        across.from_level(0.3)


def test_a_method_is_kept_and_files_of_plans_without_one_are_as_before(tmp_path: Path) -> None:
    plain = Plan(Start(1.0, 1.0), (Row(1.0, {0: -1.0}),))
    method = Method("mmps", {"iterations": 3, "strength": 1.5}, "super-resolution,factor=4", 0.1)
    tuned = replace(plain, method=method)
    assert Plan.load(tuned.save(tmp_path / "tuned.json")).method == method
    assert Plan.load(plain.save(tmp_path / "plain.json")).method is None
    contents = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("plain", "tuned")]
    assert [content["schema"] for content in contents] == [4, 5]
    assert [change.where for change in differences(plain, tuned)] == ["plan"]
    for wrong in (
        5,
        {},
        {"name": "mmps", "settings": {"a": [1]}},
        {"name": "mmps", "noise": -1},
        {"name": "mmps", "more": 1},
    ):
        (tmp_path / "wrong.json").write_text(json.dumps(contents[1] | {"method": wrong}))
        with pytest.raises(InputError, match="method"):
            Plan.load(tmp_path / "wrong.json")
    for unknown, says in (("mmsp", "did you mean mmps"), ("dps", "strenth")):
        found = replace(plain, method=Method(unknown, {"strenth": 1.0}))
        with pytest.raises(InputError, match=says):
            solve(Model.from_mixture(GaussianMixture.random(2, 1), Flow()), torch.eye(2), torch.zeros(2), plan=found)
