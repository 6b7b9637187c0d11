"""The search over which rows call a second network: its exact parts, its space, its budget, its command line."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import a_plan, of, small_dit
from test_joint import Stack, stack

import fewer
from fewer.blocks.policies.t_stitch import given_away
from fewer.engine import sample, times
from fewer.errors import InputError
from fewer.evaluate.cost.engine_overhead import NAMES
from fewer.evaluate.cost.latency import LatencyTable
from fewer.evaluate.cost.price import call_macs, plan_macs
from fewer.knapsack import UNITS
from fewer.models.model import Model
from fewer.models.schedules import Flow, VarianceExploding, betas, discrete
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.search.limit import CLOCKED, Limit
from fewer.search.objective import Objective, first_change
from fewer.search.space import Space
from fewer.search.strategies.networks import Networks, cheapest, known_rows, sensitivities, upto

VP = discrete(betas("linear"), name="linear")
MIXTURE = fewer.GaussianMixture.random((1, 2, 2), components=3, seed=0)


def exact() -> Model:
    """A mixture, and beside it one whose means lie elsewhere, trained under another process."""
    other = replace(MIXTURE, means=MIXTURE.means + 0.2)
    small = Model.from_mixture(other, VarianceExploding(0.002, 30.0), name="small", hash="small")
    return replace(Model.from_mixture(MIXTURE, VP, name="large", hash="large"), others=(small,))


def dits() -> Model:
    small = replace(small_dit(layers=1), name="small dit", hash="small dit")
    return replace(small_dit(), others=(small,))


def stacks() -> Model:
    """Three residual layers, and a network of one of them."""
    torch.manual_seed(1)
    few = Stack().requires_grad_(False)
    few.blocks = few.blocks[:1]
    small = replace(of(few, (2, 2, 2)), name="one layer", hash="one layer")
    return replace(stack(), others=(small,))


def problem(model: Model, n: int = 8) -> Objective:
    noise, labels = unit_noise(0, range(n), model.shape), model.labels(n)
    target = sample(model, fewer.standard("ddim", model, 24, "logsnr"), noise=noise, labels=labels)
    return Objective(model, noise, labels, target)


COSTS = st.tuples(st.integers(500, 1200), st.integers(1, 499))


@given(st.lists(st.tuples(st.floats(0, 1), COSTS), min_size=1, max_size=6))
@settings(deadline=None, max_examples=50)
def test_the_rows_given_away_have_the_least_sum(rows: list[tuple[float, tuple[int, int]]]) -> None:
    """Against all subsets; costs are whole units of the budget, so that nothing is rounded."""
    damage, costs = np.array([d for d, _ in rows]), [(float(a), float(b)) for _, (a, b) in rows]
    fits = [
        sum(damage[list(given)])
        for size in range(len(rows) + 1)
        for given in itertools.combinations(range(len(rows)), size)
        if sum(row[n in given] for n, row in enumerate(costs)) <= UNITS
    ]
    found = cheapest(damage, costs, UNITS)
    if not fits:
        assert found is None
    else:
        assert found is not None
        assert sum(row[n in found] for n, row in enumerate(costs)) <= UNITS
        assert sum(damage[found]) == pytest.approx(min(fits))


@given(st.permutations(range(5)), st.integers(1, 5))
def test_no_more_rows_than_the_budget_asks(order: list[int], kept: int) -> None:
    costs = [(10.0, 1.0)] * 5
    room = 10.0 * kept + 1.0 * (5 - kept)
    assert upto(order, costs, room) == sorted(order[: 5 - kept])
    assert upto(order, costs, room + 8.9) == sorted(order[: 5 - kept])
    assert upto(order[:1], costs, 13.9) is None
    assert cheapest(np.zeros(5), costs, 0.0) is None


def test_sensitivities_are_those_of_whole_replays() -> None:
    """Rows at levels that the second network does not know are never given away."""
    model = exact()
    plan = fewer.standard("dpmpp-2m", model, 6, "logsnr")
    task = problem(model)
    known = known_rows(plan, model)
    found = sensitivities(task, plan, known)
    assert 0 < len(known) < 6
    there = task.run(plan, slice(None))
    for n in range(6):
        if n in known:
            moved = task.run(given_away(plan, model, [n]), slice(None)) - there
            assert found[n] == pytest.approx(float(moved.double().square().mean()), rel=1e-4)
        else:
            assert found[n] == np.inf


def test_the_space_keeps_the_networks_and_their_times() -> None:
    """Each row is told its own network's time at its level, also where the levels move."""
    model = exact()
    whole = fewer.standard("dpmpp-2m", model, 5, "logsnr")
    plan = given_away(whole, model, [2, 4])
    space = Space(model, (plan,))
    same, without = (each.plan(each.vector(each.base)) for each in (space, Space(model, (whole,))))
    assert replace(same, evidence={}) == given_away(without, model, [2, 4]).named(same.name)
    moved = space.plan(space.vector(space.base) + 0.1)
    assert [row.network for row in moved.rows] == [0, 0, 1, 0, 1]
    assert moved.others == plan.others
    for row, t in zip(moved.rows, times(model, moved), strict=True):
        assert float(t) == pytest.approx(float(model.called(row.network).schedule.time(row.tau)))
    above = Space(model, (given_away(whole, model, [2]),))
    lifted = above.plan(above.vector(above.base) - 3)  # above what the second network knows: told its noisiest
    assert float(times(model, lifted)[2]) == pytest.approx(30.0)
    assert float(lifted.rows[2].tau) / (1 - float(lifted.rows[2].tau)) > 30.1


def test_another_network_is_another_call() -> None:
    model = exact()
    plan = fewer.standard("ddim", replace(model, others=(model,)), 3, "logsnr")
    same_time = replace(plan, rows=(plan.rows[0], replace(plan.rows[1], network=1), plan.rows[2]))
    assert first_change(plan, same_time) == (1, True)


def test_milliseconds_are_those_of_each_rows_network() -> None:
    model = dits()

    def table(call: float) -> LatencyTable:
        calls = {passes: {CLOCKED: passes * call} for passes in (1, 2)}
        return LatencyTable("", {}, 64, calls, dict.fromkeys(NAMES, 0.0))

    limit = Limit(model, "ms", 1.0, table(32.0), (table(8.0),))
    plan = a_plan(4)
    assert limit.cost(plan) == pytest.approx(4 * 2)
    assert limit.cost(given_away(plan, model, [0, 3])) == pytest.approx(2 * 2 + 2 * 0.5)
    guided = a_plan(2, 3.0)
    assert limit.cost(given_away(guided, model, [0])) == pytest.approx(2 * 0.5 + 2 * 2)


@pytest.mark.parametrize("share", [3.3, 3.9])
def test_the_columns_cost_no_more_than_the_budget(share: float) -> None:
    model = stacks()
    limit = Limit(model, "macs", share * call_macs(model))
    bases = tuple(fewer.standard("dpmpp-2m", model, 3, grid) for grid in ("logsnr", "karras"))
    space = Space(model, bases)
    found = [Networks(limit).with_cheaper_rows(problem(model), space, rows) for rows in (4, 5, 6)]
    assert any(found)
    for made in filter(None, found):
        assert plan_macs(model, made.plan) <= limit.most
        assert 1 in made.plan.networks
        given = [n for n, row in enumerate(made.plan.rows) if row.network]
        for n in given:  # no row is given away for nothing
            kept = given_away(fewer.standard("ddim", model, len(made.plan.rows)), model, [k for k in given if k != n])
            assert plan_macs(model, kept) > limit.most
    assert Networks(replace(limit, most=limit.most / 100)).with_cheaper_rows(problem(model), space, 6) is None


@pytest.mark.usefixtures("few_standards")
def test_tune_with_a_second_network(tmp_path: Path) -> None:
    model = stacks()
    macs = 3.5 * call_macs(model)
    result = fewer.tune(model, macs=macs, noises=8, fresh=8, trials=4, out=tmp_path, margin=9.0)
    found = json.loads((tmp_path / "results.json").read_text())
    assert [each["name"] for each in found["contributions"]] == ["steps", "steps and networks"]
    assert all(each["macs"] <= macs for each in found["contributions"])
    assert found["with"][0]["name"] == "one layer"
    assert found["cost"]["macs"] == plan_macs(model, result.plan) <= macs
    page = (tmp_path / "report.html").read_text()
    assert ("one layer" in page) == (1 in result.plan.networks)
    if 1 in result.plan.networks:
        assert result.plan.others == (model.others[0].signature,)
    with pytest.raises(InputError, match="already holds a search"):
        fewer.tune(model, macs=macs, noises=8, fresh=8, trials=4, out=tmp_path)
    with pytest.raises(InputError, match="searched with another keep, with"):
        fewer.tune(stack(), macs=macs, noises=8, fresh=8, trials=4, out=tmp_path, resume=True, keep=["blocks"])


def test_what_cannot_be_searched_is_refused() -> None:
    model = dits()
    budget = 3.5 * call_macs(model)
    (small,) = model.others
    for given_model, options, says in (
        (model, {"nfe": 3}, "saves no evaluations"),
        (replace(small, others=(small_dit(),)), {"macs": budget}, "costs .* macs a call, no less than"),
        (replace(model, others=(small, small)), {"macs": budget}, "2 other networks; expected one"),
        (model, {"macs": budget, "strategy": "joint"}, "leaves blocks out; with a second network"),
        (small_dit(), {"macs": budget, "strategy": "networks"}, "it is a strategy for macs or ms, with one"),
        (model, {"macs": budget, "start_from": ["networks"]}, "start_from has 'networks'"),
    ):
        with pytest.raises(InputError, match=says):
            fewer.tune(given_model, **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="data_range of the second model"):
        replace(small_dit(), others=(replace(small, data_range=(0.0, 1.0)),))
    with pytest.raises(InputError, match="networks needs a budget"):
        Networks().with_cheaper_rows(problem(model), Space(model, (a_plan(3),)), 4)


def test_a_flow_model_beside_a_noise_model_knows_all_levels() -> None:
    model = exact()
    flow = Model.from_mixture(MIXTURE, Flow(), name="flow", hash="flow")
    plan: Plan = fewer.standard("ddim", model, 4, "logsnr")
    assert known_rows(plan, replace(model, others=(flow,))) == [0, 1, 2, 3]
