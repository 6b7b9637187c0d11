"""The search over steps, coefficients and blocks: its exact parts against brute force, its plans against their budget."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import SCHEDULE, a_plan, of, small_dit, small_unet
from torch import Tensor, nn

import fewer
from fewer.blocks.find import at_granularity, block
from fewer.engine import sample
from fewer.errors import InputError
from fewer.evaluate.cost.price import call_macs, plan_macs
from fewer.knapsack import UNITS, choose
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Plan, Shortcut
from fewer.plan.recipe import Recipe
from fewer.samplers import standard
from fewer.search.ablation import ablate, age, patterned, whole
from fewer.search.knapsack import knapsack, schedules
from fewer.search.limit import Limit, limits
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategies.autodiffusion import AutoDiffusion, skippable
from fewer.search.strategies.joint import Joint, best_pattern, names_of, with_rows


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(8, 8)

    def forward(self, h: Tensor, t: Tensor) -> Tensor:
        return h + 0.3 * torch.tanh(self.inner(h) + t[:, None] / 500)


class Stack(nn.Module):
    """Three residual layers, of which the last step to data needs all."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Layer() for _ in range(3))
        self.out = nn.Linear(8, 8)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = 0.3 * x.flatten(1)
        for layer in self.blocks:
            h = layer(h, t)
        return self.out(h).view_as(x)


@cache
def stack() -> Model:
    torch.manual_seed(0)
    return of(Stack().requires_grad_(False), (2, 2, 2))


def problem(model: Model, n: int = 4) -> Objective:
    noise, labels = unit_noise(0, range(n), model.shape), model.labels(n)
    return Objective(model, noise, labels, sample(model, standard("ddim", model, 12), noise=noise, labels=labels))


def sums(errors: np.ndarray, runs: np.ndarray) -> float:
    """The sum of the entries of one block's pattern, infinite where a branch is too old."""
    total, old = 0.0, 0
    for n, ran in enumerate(runs):
        old = 0 if ran else old + 1
        if old:
            total += math.inf if old > errors.shape[1] else errors[n, old - 1]
    return total


patterns = st.integers(2, 6).flatmap(
    lambda rows: st.tuples(
        st.just(rows), st.integers(1, 3), st.lists(st.integers(1, 2), min_size=rows, max_size=rows), st.integers(0, 999)
    )
)


@given(patterns)
@settings(max_examples=60, deadline=None)
def test_schedules_are_the_best_rows_to_run(case: tuple[int, int, list[int], int]) -> None:
    rows, ages, passes, seed = case
    errors = np.random.default_rng(seed).exponential(size=(rows, ages))
    found = schedules(errors, passes)
    best = np.full(sum(passes) + 1, math.inf)
    for rest in itertools.product((False, True), repeat=rows - 1):
        runs = np.array((True, *rest))
        w = int(runs @ np.array(passes))
        best[w] = min(best[w], sums(errors, runs))
    np.testing.assert_allclose(found.errors, best)
    for w in np.flatnonzero(np.isfinite(best)):
        assert int(found.runs[w] @ np.array(passes)) == w
        assert sums(errors, found.runs[w]) == pytest.approx(best[w])


@given(st.integers(1, 4), st.integers(0, 30), st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_one_option_a_class_of_least_sum(classes: int, budget: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    options = [(rng.exponential(size=3), rng.integers(0, 15, size=3)) for _ in range(classes)]
    best = math.inf
    for picks in itertools.product(range(3), repeat=classes):
        cost = sum(int(c[i]) for (_, c), i in zip(options, picks, strict=True))
        error = sum(float(e[i]) for (e, _), i in zip(options, picks, strict=True))
        best = min(best, error if cost <= budget else math.inf)
    found = choose(options, budget)
    if found is None:
        assert best == math.inf
    else:
        assert sum(int(c[i]) for (_, c), i in zip(options, found, strict=True)) <= budget
        assert sum(float(e[i]) for (e, _), i in zip(options, found, strict=True)) == pytest.approx(best)


@given(st.integers(0, 999), st.floats(0.3, 1.1))
@settings(max_examples=25, deadline=None)
def test_the_pattern_of_least_error_within_the_budget(seed: int, share: float) -> None:
    """As good as every pattern that costs less than the budget by the rounding of the costs."""
    rng = np.random.default_rng(seed)
    table, costs = rng.exponential(size=(2, 5, 2)), rng.uniform(0.5, 2, 2)
    budget = share * 5 * costs.sum()
    found = knapsack(table, [1] * 5, costs, budget)
    best = math.inf
    for rest in itertools.product((False, True), repeat=8):
        runs = np.array([[True, *rest[:4]], [True, *rest[4:]]])
        if (costs @ runs).sum() <= budget * (1 - 2 / UNITS):
            best = min(best, sum(sums(table[k], runs[k]) for k in range(2)))
    if found is None:
        assert best == math.inf
    else:
        assert (costs @ found).sum() <= budget * (1 + 1e-9)
        assert sum(sums(table[k], found[k]) for k in range(2)) <= best * (1 + 1e-12)


def test_the_table_is_the_change_of_the_samples() -> None:
    model = small_dit()
    task, plan, names = problem(model), a_plan(4), [b.name for b in at_granularity(model, "unit")]
    found = ablate(task, plan, names, 2)
    rows = len(plan.rows)
    assert task.evaluations == 4 * (rows + len(names) * rows * (rows - 1) // 2)
    base = task.run(plan, slice(0, 4))
    for k, n in ((0, 1), (3, 2), (len(names) - 1, 3)):
        runs = np.ones((len(names), rows), dtype=np.bool_)
        runs[k, n] = False
        there = task.run(patterned(plan, names, runs), slice(0, 4))
        assert found.additive(runs) == pytest.approx(float((there - base).double().square().mean()), rel=1e-3)
    assert not np.isfinite(found.table[:, 0]).any()
    assert not np.isfinite(found.table[:, 1, 1]).any()


def test_older_branches_are_scaled_by_how_far_they_moved() -> None:
    """Exact where the block's branch moves along one direction and all else is linear."""

    class Moving(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return x + 0.1 * t.view(-1, 1, 1, 1) * torch.ones_like(x) / 1000

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Moving()

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return 0.3 * self.inner(x, t)

    model = of(Whole())
    task, plan = problem(model), standard("ddim", model, 5)
    found = ablate(task, plan, ["inner"], 3)
    base = task.run(plan, slice(0, 4))
    for n, a in ((3, 2), (4, 3), (4, 1)):
        rows = list(plan.rows)
        rows[n] = replace(rows[n], blocks={"inner": Shortcut({n - a: 1.0})})
        there = task.run(replace(plan, rows=tuple(rows)), slice(0, 4))
        assert found.table[0, n, a - 1] == pytest.approx(float((there - base).double().square().mean()), rel=1e-3)


def test_a_pass_that_a_row_lacks_is_no_source() -> None:
    model = small_dit()
    guided = standard("ddim", model, 8, "logsnr", guidance=2.0)
    for lacks, known in ((0, [(2, 1), (3, 1), (3, 2)]), (1, [(1, 1), (2, 2), (3, 1)])):
        rows = [replace(row, guidance=None) if n == lacks else row for n, row in enumerate(guided.rows)]
        found = ablate(problem(model), replace(guided, rows=tuple(rows)), ["block.0"], 2)
        assert [(n, a + 1) for _, n, a in np.argwhere(np.isfinite(found.table))] == known
        assert all(found.table[0, n, a - 1] > 0 for n, a in known)


def test_patterns() -> None:
    runs = np.array([[True, False, False, True, False], [True, True, False, True, True]])
    assert age(runs).tolist() == [[0, 1, 2, 0, 1], [0, 0, 1, 0, 0]]
    plan = a_plan(5)
    made = patterned(plan, ["block.0", "block.1"], runs)
    assert made.rows[2].blocks == {"block.0": Shortcut({0: 1.0}), "block.1": Shortcut({1: 1.0})}
    assert patterned(plan, ["block.0"], np.ones((1, 5), dtype=np.bool_)).rows == whole(made).rows


def test_a_limit_pays_for_calls() -> None:
    model = small_dit()
    full = call_macs(model)

    def ddim(n: int) -> Plan:
        return standard("ddim", model, n)

    for share, calls in ((1.0, 1), (3.99, 3), (4.0, 4)):
        (limit,) = limits(model, "macs", share * full, ())
        assert limit.calls(ddim) == calls
        assert limit.cost(ddim(calls)) <= limit.most < limit.cost(ddim(calls + 1))
    with pytest.raises(InputError, match=r"less than the .* that one call of dit takes"):
        Limit(model, "macs", 0.9 * full).calls(ddim)
    for wrong in (0.0, -1.0, math.inf, math.nan, []):
        with pytest.raises(InputError, match="expected a positive number"):
            limits(model, "macs", wrong, ())


@pytest.mark.slow
def test_milliseconds_are_those_that_the_table_predicts() -> None:
    model = small_dit()
    names = names_of(model)
    (limit,) = limits(model, "ms", 10.0, names)
    plan = standard("ddim", model, 4)
    runs = np.ones((len(names), 4), dtype=np.bool_)
    runs[:, 2] = False
    saved = limit.cost(plan) - limit.cost(patterned(plan, names, runs))
    assert saved == pytest.approx(sum(limit.saving(name, 1) for name in names), rel=1e-6)
    assert limit.at_most(plan) >= limit.cost(plan)


def test_joint_plans_keep_their_budget() -> None:
    model = stack()
    task = problem(model, 8)
    limit = Limit(model, "macs", 3.2 * call_macs(model))
    space = Space(model, (standard("dpmpp-2m", model, 3, "logsnr"), standard("ddim", model, 3, "karras")))
    strategy = Joint(limit, few=2, drift=2, candidates=5, longer=(1.4, 2.0), worth=math.inf)
    found = list(strategy.search(task, space, [], 0))
    assert [len(c.plan.rows) for c in found[:2]] == [4, 6]
    for candidate in found:
        assert plan_macs(model, candidate.plan) <= limit.most
        assert any(row.blocks for row in candidate.plan.rows)
    tuned = found[2:]
    assert len(tuned) == 3
    assert {len(c.plan.rows) for c in tuned} == {len(best_pattern(found).plan.rows)}
    assert strategy.choose(found).error <= best_pattern(found).error
    # an interrupted search goes on as if it had not been
    again = [*found[:3], *strategy.search(problem(model, 8), space, found[:3], 0)]
    assert [c.error for c in again] == pytest.approx([c.error for c in found], rel=1e-4)


def test_blocks_that_make_a_plan_worse_than_whole_calls_are_not_tuned() -> None:
    model = stack()
    space = Space(model, (standard("dpmpp-2m", model, 3, "logsnr"),))
    error = problem(model, 8).rmse(space.base)
    limit = Limit(model, "macs", 3.2 * call_macs(model))
    strategy = Joint(limit, few=2, drift=2, candidates=5, longer=(1.4, 2.0), worth=math.inf)
    ratio = best_pattern(list(strategy.search(problem(model, 8), space, [], 0))).error / error
    for worth, tunes in ((0.99 * ratio, False), (1.01 * ratio, True)):
        found = list(replace(strategy, worth=worth).search(problem(model, 8), space, [], 0))
        assert any("stage" in c.state for c in found) == tunes


def test_what_cannot_pay_for_more_rows_is_passed_over() -> None:
    model = small_unet()
    space = Space(model, (standard("ddim", model, 2, "logsnr"),))
    limit = Limit(model, "macs", 2.0 * call_macs(model))
    strategy = Joint(limit, names=("mid",), few=2, longer=(3.0,))  # the other blocks alone cost more
    assert list(strategy.search(problem(model, 8), space, [], 0)) == []
    with pytest.raises(InputError, match="give macs or ms"):
        next(Joint().search(problem(model, 2), space, [], 0))


def test_blocks_share_no_modules() -> None:
    for model in (stack(), small_dit(), small_unet()):
        for one, other in itertools.combinations([block(model, name) for name in names_of(model)], 2):
            assert not one.overlaps(other)
    assert names_of(stack()) == ("block.0", "block.1", "block.2")
    assert names_of(fewer.Model.from_denoiser(lambda x, t, y: x, SCHEDULE, (2,))) == ()


def test_more_rows_of_the_same_sampler() -> None:
    model = small_dit()
    made = with_rows(model, standard("dpmpp-2m", model, 6, "logsnr", guidance=2.0), 5)
    assert made is not None
    assert made.rows == standard("dpmpp-2m", model, 10, "logsnr", guidance=2.0).rows
    tuned = replace(standard("ddim", model, 3), recipe=Recipe("ddim", strategy="gauss-newton"))
    assert with_rows(model, tuned, 5) is None


def test_autodiffusion_skips_layers_within_the_budget() -> None:
    model = stack()
    task = problem(model, 2)
    limit = Limit(model, "macs", 3.0 * call_macs(model))
    space = Space(model, (standard("ddim", model, 3, "uniform"),), solver="ddim")
    strategy = AutoDiffusion(limit, population=4, keep=2, first=5, candidates=12, longer=1.34)
    found = list(strategy.search(task, space, [], 0))
    assert len(found) == 12
    for candidate in found[5:]:
        assert len(candidate.plan.rows) == 4
        assert plan_macs(model, candidate.plan) <= limit.most
        for row in candidate.plan.rows:
            assert all(cell == Shortcut() for cell in row.blocks.values())
    assert plan_macs(model, strategy.choose(found).plan) <= limit.most
    for cut in (3, 8):
        again = [*found[:cut], *strategy.search(task, space, found[:cut], 0)]
        assert [c.error for c in again] == pytest.approx([c.error for c in found], rel=1e-6)
    assert set(skippable(small_unet())) < {b.name for b in at_granularity(small_unet(), "unit")}
