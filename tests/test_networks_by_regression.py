"""Rows of two networks chosen on one recorded way: the rests, the choice against brute force, the budget, no further calls."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_networks import exact, problem, stacks

import fewer
from fewer.errors import InputError
from fewer.evaluate.cost.price import call_macs, plan_macs
from fewer.evaluate.reference import reference_plan
from fewer.search.limit import Limit
from fewer.search.recorded import Recorded, thinned
from fewer.search.row_fit import least_squares
from fewer.search.space import Space
from fewer.search.strategies.networks_by_regression import NetworksByRegression, known_from, planned
from fewer.search.trajectory import Trajectory, way_of


def way(levels: int = 6, n: int = 40, d: int = 5) -> tuple[Trajectory, torch.Tensor]:
    """States and outputs that are noise, and those of another network."""
    torch.manual_seed(0)
    taus = np.linspace(1, 0, levels + 1)
    states, outputs, others = torch.randn(levels + 1, n, d), torch.randn(levels, n, d), torch.randn(levels, n, d)
    return Trajectory(taus, states, outputs), others


def test_rests_are_those_of_the_fits() -> None:
    made, others = way()
    recorded = Recorded.of(made, [made.outputs, others])
    given = [made.states[3], made.outputs[0], others[2], made.outputs[3]]
    weights = least_squares(given, torch.zeros(4, dtype=torch.float64), made.states[5], 1e-12)
    rest = made.states[5].double() - sum(w * x.double() for w, x in zip(weights, given, strict=True))
    assert recorded.rest(3, 5, [(0, 0), (2, 1), (3, 0)]) == pytest.approx(float(rest.square().mean()), rel=1e-4)
    levels, networks = (0, 2, 3), (0, 1, 0)
    assert recorded.rests(levels, networks)[1] == recorded.rest(2, 3, [(0, 0), (2, 1)])
    assert recorded.rests(levels, networks)[2] == recorded.rest(3, 6, [(0, 0), (2, 1), (3, 0)])


def test_the_choice_is_within_the_budget_and_near_that_of_brute_force() -> None:
    """At most a tenth above the least sum of all levels and networks, and never below it; a descent can do no more."""
    made, others = way()
    made.states[:] = made.states.cumsum(0)
    made.outputs[:] = made.states[:-1] - made.states[1:] + 0.1 * made.outputs
    others = made.outputs + 0.3 * others
    recorded = Recorded.of(made, [made.outputs, others])

    def affords(networks: object) -> bool:
        return list(networks).count(0) <= 2  # type: ignore[call-overload]

    found = recorded.chosen(4, affords, known=2)
    assert found is not None
    every = [
        sum(recorded.rests((0, *levels), networks))
        for levels in itertools.combinations(range(1, 6), 3)
        for networks in itertools.product((0, 1), repeat=4)
        if affords(networks) and all(n >= 2 for n, k in zip((0, *levels), networks, strict=True) if k)
    ]
    assert affords(found.networks)
    assert found.rest == pytest.approx(sum(recorded.rests(found.levels, found.networks)))
    assert min(every) <= found.rest * (1 + 1e-12) <= 1.1 * min(every)
    assert recorded.chosen(4, lambda networks: False) is None
    assert recorded.chosen(4, lambda networks: sum(networks) == 4, known=2) is None


def test_a_thinned_way_has_the_ends_and_states_of_the_whole() -> None:
    made, _ = way(levels=7)
    fewer_levels = thinned(made, 3)
    assert fewer_levels.taus.tolist() == pytest.approx(made.taus[[0, 3, 6, 7]].tolist())
    assert torch.equal(fewer_levels.states, made.states[[0, 3, 6, 7]])
    assert torch.equal(fewer_levels.outputs, made.outputs[[0, 3, 6]])


def test_plans_are_of_both_networks_and_within_the_budget() -> None:
    model = stacks()
    task = problem(model)
    task = replace(task, trajectory=way_of(task, reference_plan(model, 16, None)))
    limit = Limit(model, "macs", 3.5 * call_macs(model))
    space = Space(model, tuple(fewer.standard("dpmpp-2m", model, 3, grid) for grid in ("logsnr", "karras")))
    strategy = NetworksByRegression(limit, levels=16, fits=2, worth=1e9)
    begun = task.counter.evaluations
    search, done = strategy.search(task, space, [], 0), []
    done.append(next(search))
    rows = len(done[0].plan.rows)
    # the recording, and a fit and a score of whole calls and of both
    assert task.counter.evaluations - begun == len(task) * (16 + 2 * 3 + 2 * rows)
    done += itertools.islice(search, 3)
    assert [c.state["stage"] for c in done] == ["rows", "rows", "descent", "descent"]
    for made in done:
        assert plan_macs(model, made.plan) <= limit.most
        assert 1 in made.plan.networks
        assert len(made.plan.rows) > 3
    dear = replace(strategy, worth=done[0].error / done[0].state["whole"] / 2)  # both are not worth a descent
    assert [c.state["stage"] for c in dear.search(task, space, done[:2], 0)] == []
    fine = replace(strategy, whole=reference_plan(model, 16, None))  # no descent comes below the fine solution
    assert [c.state["stage"] for c in fine.search(task, space, done[:2], 0)] == ["descent"]
    again = strategy.search(task, space, done[:1], 0)
    assert next(again).plan.rows == done[1].plan.rows
    assert list(strategy.search(task, replace(space, keep=frozenset({"solver"})), [], 0)) == []
    with pytest.raises(InputError, match="networks-by-regression needs a budget"):
        next(NetworksByRegression().search(task, space, [], 0))


def test_whole_calls_are_of_the_first_network_even_where_the_second_is_better() -> None:
    """What rows of both are held against, though the budget would pay for rows of the second, and these miss nothing."""
    made, _ = way(levels=8)
    made.states[:] = made.states.cumsum(0)
    recorded = Recorded.of(made, [made.outputs, made.states[:-1] - made.states[1:]])
    model = stacks()
    space = Space(model, (fewer.standard("ddim", model, 3, "logsnr"),))
    own, *of_both = NetworksByRegression(Limit(model, "macs", 3.5 * call_macs(model))).shapes(recorded, space)
    assert own.networks == (0, 0, 0)
    assert all(1 in calls.networks for calls in of_both)


def test_levels_that_the_second_network_does_not_know_are_the_first_ones() -> None:
    model = exact()
    space = Space(model, (fewer.standard("ddim", model, 3, "logsnr"),))
    top = model.called(1).schedule.tau_max
    taus = [0.999, (top + 0.999) / 2, top, 0.5]
    assert known_from(taus, space) == 2
    assert known_from(taus[:2], space) == 2
    assert [row.network for row in planned(space, taus, [0, 0, 1, 0]).rows] == [0, 0, 1, 0]
