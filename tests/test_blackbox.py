"""What every black-box strategy promises, the numbers of a plan that they move, and functions whose answers are known."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from known_functions import Function, branin, least, played, quadratic, rastrigin
from scipy import stats

import fewer
from fewer.errors import InputError
from fewer.levels import s_of_tau
from fewer.registry import parts
from fewer.search.blackbox import eps_shotgun
from fewer.search.blackbox.bayesian import Bayesian
from fewer.search.blackbox.consensus import Consensus
from fewer.search.blackbox.coordinate_descent import CoordinateDescent
from fewer.search.blackbox.dual_descent import DualDescent
from fewer.search.blackbox.frank_wolfe import FrankWolfe
from fewer.search.blackbox.gfm import GradientFreePlus
from fewer.search.blackbox.hyperband import Hyperband
from fewer.search.blackbox.nngp import NNGP, NNGPStudentT
from fewer.search.blackbox.numbers import Numbers, box_of, gaps_of
from fewer.search.blackbox.optimizer import Vector
from fewer.search.blackbox.random_search import RandomSearch
from fewer.search.blackbox.strategy import BlackBox, spanned
from fewer.search.space import Space
from fewer.testing import strategies
from fewer.testing.models import mixture

ALL: list[BlackBox] = [
    part.make() for part in parts("search") if isinstance(part.make, type) and issubclass(part.make, BlackBox)
]


def start_of(strategy: BlackBox, d: int) -> Vector:
    return np.full(d, 1 / d if strategy.simplex else 0.9)


@pytest.mark.parametrize("strategy", ALL, ids=lambda each: each.name)
def test_points_depend_on_the_seed_and_the_values_alone_and_never_leave_the_domain(strategy: BlackBox) -> None:
    start = start_of(strategy, 3)
    one, again, other = (played(strategy, quadratic, start, n, seed) for n, seed in ((24, 1), (24, 1), (12, 2)))
    assert all((a.x == b.x).all() and a.span == b.span for (a, _), (b, _) in zip(one, again, strict=True))
    if strategy.name != "coordinate-descent":  # which draws nothing
        assert any((a.x != b.x).any() for (a, _), (b, _) in zip(one, other, strict=False))
    for query, _ in one:
        assert ((query.x >= 0) & (query.x <= 1)).all()
        assert 0 <= query.span[0] < query.span[1] <= 1 + 1e-12
        if strategy.simplex:
            assert query.x.sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("strategy", ALL, ids=lambda each: each.name)
def test_a_search_goes_on_to_the_bit_wherever_it_was_cut(strategy: BlackBox) -> None:
    of = strategies.task(mixture(), noises=8)
    whole = [c for c, _ in zip(strategy.search(*of(), [], 3), range(14), strict=False)]
    for cut in (1, 9, 13):
        rest = [c for c, _ in zip(strategy.search(*of(), whole[:cut], 3), range(14 - cut), strict=False)]
        assert [(repr(c.plan.rows), c.error) for c in rest] == [(repr(c.plan.rows), c.error) for c in whole[cut:]]


# the numbers of a plan


@given(st.lists(st.floats(0, 0.99), min_size=1, max_size=6))
def test_the_box_is_mapped_onto_the_simplex_and_back(x: list[float]) -> None:
    gaps = gaps_of(np.array(x))
    assert (gaps >= 0).all()
    assert gaps.sum() == pytest.approx(1, abs=1e-9)
    assert gaps_of(box_of(gaps)) == pytest.approx(gaps, abs=1e-9)


def test_uniform_points_of_the_box_are_uniform_on_the_simplex() -> None:
    """Every gap of n is then beta distributed, (1, n - 1)."""
    gaps = np.array([gaps_of(x) for x in np.random.default_rng(1).random((4000, 3))])
    for gap in gaps.T:
        assert stats.kstest(gap, stats.beta(1, 3).cdf).pvalue > 1e-3


@given(st.lists(st.floats(0, 1), min_size=10, max_size=10))
@settings(max_examples=30, deadline=None)
def test_every_point_is_a_plan_with_falling_levels_that_is_exact_on_straight_lines(x: list[float]) -> None:
    model = mixture()
    base = fewer.standard("dpmpp-2m", model, 4, "logsnr")
    plan = Numbers(Space(model, (base,)), "dpmpp-2m", "mine", 0.5).at_box(np.array(x[:9])).check()
    levels = [float(level) for level in plan.levels]
    assert levels[0] == float(base.rows[0].tau)
    assert all(a > b for a, b in pairwise(levels))
    for row, (a, b) in zip(plan.rows, pairwise(levels), strict=True):
        assert math.fsum(row.b.values()) == pytest.approx(b - a, abs=1e-9)


@pytest.mark.parametrize("grid", ["logsnr", "karras", "uniform"])
def test_the_start_is_the_base(grid: str) -> None:
    """To the thousandth of the range that gaps have at least."""
    model = mixture()
    base = fewer.standard("dpmpp-2m", model, 5, grid)
    numbers = Numbers(Space(model, (base,)), "dpmpp-2m", "mine", 0.5)
    for plan in (numbers.at_box(numbers.start), numbers.at_gaps(numbers.gaps)):
        logs = [[math.log(s_of_tau(float(row.tau))) for row in each.rows] for each in (plan, base)]
        assert logs[0] == pytest.approx(logs[1], abs=5e-3 * (logs[1][0] - math.log(s_of_tau(model.schedule.tau_min))))


def test_kept_columns_are_kept() -> None:
    objective, space = strategies.task(mixture(), noises=8)()
    with pytest.raises(InputError, match="steps"):
        next(iter(RandomSearch().search(objective, replace(space, keep=frozenset({"steps"})), [], 0)))
    kept = replace(space, keep=frozenset({"solver"}))
    assert Numbers.of(kept, "mine", 0.5).weights == 0
    assert Numbers.of(space, "mine", 0.5).weights == 3
    assert RandomSearch().columns == {"steps"}
    assert RandomSearch(reach=0.5).columns == {"steps", "solver"}


def test_one_call_has_one_plan() -> None:
    objective, space = strategies.task(mixture(), noises=8)()
    one = replace(space, bases=(fewer.standard("dpmpp-2m", mixture(), 1, "logsnr"),))
    for strategy in (RandomSearch(), FrankWolfe()):
        assert len(list(strategy.search(objective, one, [], 0))) == 1


@pytest.mark.parametrize("span", [(0.0, 1.0), (0.0, 1 / 9), (0.5, 0.75), (0.0, 1e-6), (0.999, 1.0)])
def test_spans_are_noises_of_the_search(span: tuple[float, float]) -> None:
    objective, _ = strategies.task(mixture(), noises=40)()
    part = spanned(objective, span)
    assert len(part) == max(1, round(span[1] * 40) - round(span[0] * 40))
    assert part.counter is objective.counter


def test_the_choice_is_among_those_on_the_most_noises() -> None:
    objective, space = strategies.task(mixture(), noises=18)()
    strategy = Hyperband(candidates=30)
    done = list(strategy.search(objective, space, [], 0))
    whole = [c for c in done if c.state["span"] == [0.0, 1.0]]
    assert 0 < len(whole) < len(done)
    assert strategy.choose(done).error == min(c.error for c in whole)


@pytest.mark.parametrize(
    ("strategy", "f", "d", "plays", "within"),
    [
        (Consensus(particles=100, alpha=30), rastrigin, 2, 4000, 0.01),
        (Consensus(), quadratic, 4, 800, 0.02),
        (GradientFreePlus(parts=1), quadratic, 4, 600, 0.05),
        (CoordinateDescent(), quadratic, 4, 60, 1e-9),
        (CoordinateDescent(rule="gsq"), branin, 2, 100, 1e-4),
        (Bayesian(), branin, 2, 40, 0.1),
        (NNGP(), quadratic, 3, 40, 0.01),
        (NNGPStudentT(), quadratic, 3, 40, 0.01),
        (DualDescent(), branin, 2, 60, 0.1),
        (eps_shotgun.EpsShotgun(explore="front"), branin, 2, 60, 0.1),
    ],
    ids=lambda each: getattr(each, "name", getattr(each, "__name__", str(each))),
)
def test_known_minima_are_found(strategy: BlackBox, f: Function, d: int, plays: int, within: float) -> None:
    """From a far corner; Rastrigin's next minima are 1 above the least."""
    assert least(strategy, f, np.full(d, 0.9), plays) < within


# the whole search


@pytest.mark.usefixtures("few_standards")
@pytest.mark.parametrize(("strategy", "objective"), [("hyperband", "energy"), ("frank-wolfe", "paired")])
def test_a_search_by_name_goes_by_any_objective(strategy: str, objective: str) -> None:
    result = fewer.tune(mixture(), nfe=4, strategy=strategy, objective=objective, trials=11, noises=64, fresh=64)
    assert result.plan.nfe <= 4
    assert result.verdict["decision"] in ("better", "not worse", "worse", "cannot tell")
