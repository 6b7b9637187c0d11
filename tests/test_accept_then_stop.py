"""Curves of short searches, extrapolated, and the solver that is selected by them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fewer
from fewer.search.blackbox.accept_then_stop import AcceptThenStop, accepted, curve, extrapolated
from fewer.search.blackbox.random_search import RandomSearch
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.testing import strategies
from fewer.testing.models import mixture

SIZES = [2**k for k in range(10, 0, -1)]
SOLVERS = ("dpmpp-2m", "ddim", "unipc")


def power(a: float, b: float) -> list[float]:
    return [a * size**-b for size in SIZES]


def task() -> tuple[Objective, Space]:
    objective, space = strategies.task(mixture(), noises=8)()
    bases = tuple(fewer.standard(solver, mixture(), 3, grid) for solver in SOLVERS for grid in ("logsnr", "uniform"))
    return objective, replace(space, bases=bases)


@pytest.mark.parametrize("to", [2048, 10_000])
def test_a_power_law_is_extrapolated_exactly(to: int) -> None:
    assert extrapolated(SIZES, power(3.0, 0.4), to) == pytest.approx(3 * to**-0.4)


@pytest.mark.parametrize("flat", [8, 32, 64])
def test_the_flat_part_of_a_curve_is_left_out(flat: int) -> None:
    """Below the pre-learned size nothing falls; above it within a thousandth of a power law."""
    jitter = 1 + 1e-3 * (-1.0) ** np.arange(len(SIZES))
    losses = [max(size, flat) ** -0.5 * float(j) for size, j in zip(SIZES, jitter, strict=True)]
    assert accepted(SIZES, losses) == sum(size >= flat for size in SIZES)
    line = np.polyfit(np.log(SIZES), np.log(losses), 1)
    of_all = float(np.exp(np.polyval(line, np.log(8192))))
    truth = 8192**-0.5
    assert abs(extrapolated(SIZES, losses, 8192) - truth) < 0.02 * truth < abs(of_all - truth)


def test_a_curve_is_the_least_error_after_halved_numbers_of_plays() -> None:
    assert curve([5.0, 3.0, 4.0, 1.0, 2.0, 0.5, 9.0]) == ([7, 3, 1], [0.5, 3.0, 5.0])
    assert curve([float("inf")])[1][0] < float("inf")
    assert extrapolated(*curve([2.0]), 100) == 2.0


def test_the_solver_that_will_be_better_is_selected_not_the_one_that_is() -> None:
    falling = [4.0, 2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 0.5]
    flat = [0.4] * 8
    assert AcceptThenStop(candidates=500, first=8).selected({"flat": flat, "falling": falling}) == "falling"
    assert AcceptThenStop(candidates=16, first=8).selected({"flat": flat, "falling": falling}) == "flat"


def test_each_solver_is_searched_shortly_and_one_to_the_end() -> None:
    strategy = AcceptThenStop(candidates=20, first=4)
    done = list(strategy.search(*task(), [], 1))
    solvers = [c.state["solver"] for c in done]
    assert solvers[:12] == [name for name in SOLVERS for _ in range(4)]
    assert len(done) == 20
    best = strategy.selected({name: [c.error for c in done[:12] if c.state["solver"] == name] for name in SOLVERS})
    assert set(solvers[12:]) == {best}
    objective, space = task()
    alone = replace(space, bases=(next(b for b in space.bases if b.recipe.solver == best),), solver=best)
    plays = list(RandomSearch(candidates=12).search(objective, alone, [], 1))
    assert [c.error for c in done if c.state["solver"] == best] == [c.error for c in plays]


@pytest.mark.parametrize("cut", [3, 13])
def test_a_search_goes_on_to_the_bit_wherever_it_was_cut(cut: int) -> None:
    strategy = AcceptThenStop(candidates=16, first=4)
    whole = list(strategy.search(*task(), [], 3))
    rest = list(strategy.search(*task(), whole[:cut], 3))
    assert [(repr(c.plan.rows), c.error) for c in rest] == [(repr(c.plan.rows), c.error) for c in whole[cut:]]
