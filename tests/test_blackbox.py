"""Black-box optimizers on functions whose answers are known, and the numbers of a plan that they move."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import fewer
from fewer.errors import InputError
from fewer.levels import s_of_tau
from fewer.registry import parts
from fewer.search.blackbox import eps_shotgun
from fewer.search.blackbox.bayesian import Bayesian, Modelled
from fewer.search.blackbox.consensus import Consensus, consensus
from fewer.search.blackbox.coordinate_descent import CoordinateDescent, gain, gsd, gsq, newton
from fewer.search.blackbox.dual_descent import DualDescent
from fewer.search.blackbox.frank_wolfe import FrankWolfe, tangent
from fewer.search.blackbox.gfm import GradientFreePlus, sphere, two_point
from fewer.search.blackbox.hyperband import Hyperband, brackets
from fewer.search.blackbox.kernels import InfiniteNetwork, Matern
from fewer.search.blackbox.nngp import NNGP, NNGPStudentT
from fewer.search.blackbox.numbers import Numbers, box_of, gaps_of
from fewer.search.blackbox.optimizer import Query, Vector, queries
from fewer.search.blackbox.process import Conditioned, Gaussian, StudentT
from fewer.search.blackbox.random_search import RandomSearch
from fewer.search.blackbox.strategy import BlackBox, spanned
from fewer.search.space import Space
from fewer.testing import strategies
from fewer.testing.models import mixture

Function = Callable[[Vector], float]
ALL: list[BlackBox] = [
    part.make() for part in parts("search") if isinstance(part.make, type) and issubclass(part.make, BlackBox)
]
RNG = np.random.default_rng(0)


def quadratic(x: Vector) -> float:
    return float(np.arange(1, len(x) + 1) @ (x - 0.3) ** 2)


def branin(x: Vector) -> float:
    """Its least value is 0 here: 0.397887 is that of the function itself."""
    a, b = 15 * x[0] - 5, 15 * x[1]
    bowl = (b - 5.1 / (4 * math.pi**2) * a**2 + 5 / math.pi * a - 6) ** 2
    return float(bowl + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10 - 0.397887)


def rastrigin(x: Vector) -> float:
    apart = 5.12 * (x - 0.4)
    return float((apart**2 - 10 * np.cos(2 * math.pi * apart) + 10).sum())


def played(strategy: BlackBox, f: Function, start: Vector, plays: int, seed: int = 0) -> list[tuple[Query, float]]:
    """The first queries with their values."""
    walk, found = queries(strategy.optimizer(start), seed), list[tuple[Query, float]]()
    query = next(walk)
    for _ in range(plays):
        found.append((query, f(query.x)))
        try:
            query = walk.send(found[-1][1])
        except StopIteration:
            break
    return found


def least(strategy: BlackBox, f: Function, start: Vector, plays: int, seed: int = 0) -> float:
    return min(value for _, value in played(strategy, f, start, plays, seed))


def start_of(strategy: BlackBox, d: int) -> Vector:
    return np.full(d, 1 / d if strategy.simplex else 0.9)


@pytest.mark.parametrize("strategy", ALL, ids=lambda each: each.name)
def test_points_depend_on_the_seed_and_the_values_alone_and_never_leave_the_domain(strategy: BlackBox) -> None:
    start = start_of(strategy, 3)
    one, again, other = (played(strategy, quadratic, start, 40, seed) for seed in (1, 1, 2))
    assert all((a.x == b.x).all() and a.span == b.span for (a, _), (b, _) in zip(one, again, strict=True))
    if strategy.name != "coordinate-descent":  # which draws nothing
        assert any((a.x != b.x).any() for (a, _), (b, _) in zip(one, other, strict=True))
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


# the optimizers


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


def test_hyperband_brackets_are_those_of_the_paper() -> None:
    """R = 81, eta = 3: the table of the paper (n_i, r_i)."""
    table = [[bracket.rung(i, 3) for i in range(bracket.rungs)] for bracket in brackets(81, 3)]
    assert table == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]


@given(st.integers(1, 300), st.integers(2, 5))
def test_every_bracket_ends_with_the_whole_resource(most: int, eta: int) -> None:
    for bracket in brackets(most, eta):
        n, r = bracket.rung(bracket.rungs - 1, eta)
        assert n >= 1
        assert r == pytest.approx(most)
        assert bracket.r >= 1


def test_hyperband_goes_on_with_the_best() -> None:
    found = played(Hyperband(most=9), quadratic, np.full(2, 0.9), 9 + 3)
    first, second = found[:9], found[9:]
    assert sorted(v for _, v in second) == sorted(v for _, v in first)[:3]
    assert {q.span[1] for q, _ in first} == {1 / 9}
    assert {q.span[1] for q, _ in second} == {1 / 3}


@pytest.mark.parametrize(("alpha", "variance"), [(1.0, 0.5), (4.0, 0.1)])
def test_the_consensus_point_is_a_gradient_step(alpha: float, variance: float) -> None:
    """Of |x|^2 / 2 and normal particles: m - alpha v / (1 + alpha v) m."""
    m = np.array([0.5, -1.0])
    x = m + math.sqrt(variance) * RNG.normal(size=(400_000, 2))
    step = alpha * variance / (1 + alpha * variance)
    assert consensus(x, (x**2).sum(1) / 2, alpha) == pytest.approx(m - step * m, abs=0.01)


def test_the_consensus_point_tends_to_the_best_particle() -> None:
    x = RNG.random((20, 3))
    energies = np.array([quadratic(each) for each in x])
    assert consensus(x, energies, 1e6) == pytest.approx(x[energies.argmin()], abs=1e-9)
    assert consensus(x, energies, 0.0) == pytest.approx(x.mean(0))


def test_two_point_differences_are_unbiased_for_the_smoothed_slope() -> None:
    """Of a quadratic and a straight line the smoothed function's gradient is the function's own; of |x_1| at 0 it is 0."""
    x, delta, w = np.array([0.2, 0.5, 0.9]), 0.3, sphere(200_000, 3, RNG)
    for f, slope in (
        (lambda z: (np.arange(1, 4) * (z - 0.3) ** 2).sum(-1), 2 * np.arange(1, 4) * (x - 0.3)),
        (lambda z: np.abs(z[..., 0] - 0.2), np.zeros(3)),
        (lambda z: z[..., 0], np.eye(3)[0]),
    ):
        assert two_point(f(x + delta * w), f(x - delta * w), w, delta) == pytest.approx(slope, abs=0.03)


def test_the_recursive_estimate_takes_off_what_pairs_have_in_common() -> None:
    """On a straight line g is the same at both points, so that v stays what it was."""
    settings = GradientFreePlus(parts=1, step=0.01)
    optimizer = settings.optimizer(np.full(3, 0.5))
    seen = []
    for k in range(settings.epoch):
        batch = optimizer.ask(np.random.default_rng(k))
        optimizer.tell(np.array([q.x @ [1.0, 2.0, 3.0] for q in batch]))
        seen.append(batch)
    moves = [np.mean([q.x for q in batch], 0) for batch in seen[1:]]  # pairs at x_t and x_(t-1)
    steps = np.diff(moves, axis=0)
    assert steps == pytest.approx(np.repeat(steps[:1], len(steps), 0), abs=1e-12)


def test_directions_on_the_simplex_show_the_slope_along_it() -> None:
    """E z z' g is g less its mean, so that the best vertex is the same."""
    g, z = np.array([1.0, -2.0, 0.5, 3.0]), np.array([tangent(4, RNG) for _ in range(40_000)])
    assert z.sum(1) == pytest.approx(np.zeros(len(z)), abs=1e-12)
    assert (z @ g) @ z / len(z) == pytest.approx(g - g.mean(), abs=0.1)


def test_frank_wolfe_ends_at_the_best_vertex_of_a_straight_line() -> None:
    slope = np.array([3.0, 1.0, 2.0])
    found = played(FrankWolfe(), lambda x: float(slope @ x), np.full(3, 1 / 3), 300)
    assert found[-2][0].x == pytest.approx([0, 1, 0], abs=0.1)


def symmetric(d: int, seed: int) -> Vector:
    root = np.random.default_rng(seed).normal(size=(d, d))
    return root @ root.T + 0.1 * np.eye(d)


@pytest.mark.parametrize("seed", range(5))
def test_the_greedy_block_has_the_largest_gain_and_its_step_brings_it(seed: int) -> None:
    h, g = symmetric(5, seed), np.random.default_rng(seed + 9).normal(size=5)
    block = gsq(g, h, range(5), 2)
    assert gain(g, h, block) == max(gain(g, h, each) for each in combinations(range(5), 2))
    change = newton(g, h, block, np.full(5, -np.inf), np.full(5, np.inf))
    assert g @ change + change @ h @ change / 2 == pytest.approx(-gain(g, h, block))
    southwell: Sequence[int] = tuple(np.argsort(-np.abs(g))[:2])
    assert gain(g, h, block) >= gain(g, h, southwell)
    diagonal = np.diag(np.diag(h))
    assert gsd(g, h, range(5), 2) == gsq(g, diagonal, range(5), 2)


@pytest.mark.parametrize("seed", range(5))
def test_a_bounded_step_is_the_least_within_its_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    h, g = symmetric(2, seed), 3 * rng.normal(size=2)
    low, high = -rng.random(2), rng.random(2)
    change = newton(g, h, (0, 1), low, high)
    assert ((low <= change) & (change <= high)).all()
    grid = np.array(np.meshgrid(*(np.linspace(*ends, 101) for ends in zip(low, high, strict=True)))).reshape(2, -1).T
    values = grid @ g + ((grid @ h) * grid).sum(1) / 2
    assert g @ change + change @ h @ change / 2 <= values.min() + 1e-9


@pytest.mark.parametrize("rule", ["gsq", "gsd"])
def test_a_quadratic_falls_by_the_guaranteed_gain_at_each_step(rule: str) -> None:
    h = symmetric(4, 3) / 10
    at = np.array([0.45, 0.55, 0.5, 0.6])

    def f(x: Vector) -> float:
        return float((x - at) @ h @ (x - at) / 2)

    strategy = CoordinateDescent(rule=rule, size=2)  # type: ignore[arg-type]
    found = played(strategy, f, np.full(4, 0.5), 200)
    accepted = [found[0]]
    for query, value in found[1:]:
        away = np.abs(query.x - accepted[-1][0].x)
        moved = (away > 1e-12).sum() <= 2 and not np.isclose(away[away > 1e-12], strategy.width).all()
        if moved and value < accepted[-1][1]:
            accepted.append((query, value))
    assert len(accepted) > 2
    for (before, high), (_, low) in pairwise(accepted[:4]):
        g = h @ (before.x - at)
        chosen = gsq(g, h, range(4), 2) if rule == "gsq" else gsd(g, h, range(4), 2)
        assert high - low >= gain(g, h, chosen) * (1 - 1e-6)


def test_the_active_set_is_found_and_kept() -> None:
    """The least of (x_1 + 1)^2 + (x_2 - 1/2)^2 + x_1 x_2 in the box has x_1 at its lower end."""
    strategy = CoordinateDescent()
    found = played(strategy, lambda x: float((x[0] + 1) ** 2 + (x[1] - 0.5) ** 2 + x[0] * x[1]), np.full(2, 0.8), 200)
    best = min(found, key=lambda each: each[1])[0].x
    assert best == pytest.approx([0.0, 0.5], abs=0.02)
    steps = [query.x[0] for query, _ in found[20:]]
    assert max(steps) <= 2 * strategy.width + 1e-12


# processes


def test_the_gaussian_posterior_is_the_conditional_of_the_joint_normal() -> None:
    x, p, kernel = RNG.random((6, 2)), RNG.random((4, 2)), Matern(0.5)
    y = RNG.normal(size=6)
    given = Conditioned.on(kernel, 0.1, x, y)
    k = kernel(x, x) + 0.1 * np.eye(6)
    across, scale = kernel(p, x), y @ np.linalg.solve(k, y) / 6
    mean, deviation = Gaussian(given)(p)
    assert mean == pytest.approx(across @ np.linalg.solve(k, y))
    assert deviation**2 == pytest.approx(scale * np.diag(kernel(p, p) - across @ np.linalg.solve(k, across.T)))
    own = stats.multivariate_normal(np.zeros(6), scale * k).logpdf(y)
    assert Gaussian(given).evidence == pytest.approx(own + 3 * (1 + math.log(2 * math.pi)))


def test_the_student_t_process_is_the_mixture_over_the_scale() -> None:
    """Its density of the values is that of a multivariate t, and with a fixed scale (a = b large) it is the Gaussian process."""
    x, p, kernel = RNG.random((6, 2)), RNG.random((4, 2)), InfiniteNetwork(0.3, 2)
    y = RNG.normal(size=6)
    given = Conditioned.on(kernel, 1e-6, x, y)
    k = given.lower @ given.lower.T
    assert StudentT(given, 2.0, 3.0).evidence == pytest.approx(stats.multivariate_t(np.zeros(6), 1.5 * k, 4).logpdf(y))
    location, scale = StudentT(given, 1e9, 1e9)(p)
    assert location == pytest.approx(Gaussian(given)(p)[0])
    assert scale**2 == pytest.approx(given.variance(p), rel=1e-6)


@pytest.mark.parametrize("process", [Gaussian, lambda given: StudentT(given, 1.5, 1.5)], ids=["normal", "t"])
def test_the_expected_improvement_is_the_integral(process: Callable[[Conditioned], Gaussian | StudentT]) -> None:
    posterior = process(Conditioned.on(Matern(0.3), 1e-3, RNG.random((3, 1)), RNG.normal(size=3)))
    points = np.array([[0.1], [0.5], [0.95]])
    location, scale = posterior(points)
    unit = stats.norm if isinstance(posterior, Gaussian) else stats.t(posterior.freedom)
    for found, m, s in zip(posterior.improvement(points, 0.2), location, scale, strict=True):
        u = np.linspace(-2000, (0.2 - m) / s, 2_000_001)
        assert found == pytest.approx(float(np.trapezoid((0.2 - m - s * u) * unit.pdf(u), u)), rel=1e-3)


@pytest.mark.parametrize("depth", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_networks_kernel_is_the_covariance_of_wide_networks(depth: int) -> None:
    x, bias, width, draws = RNG.random((3, 2)), 0.5, 400, 2000
    outputs = []
    for _ in range(draws):
        h = 2 * x - 1
        for layer in range(depth + 1):
            inputs = h.shape[1]
            h = h @ RNG.normal(size=(inputs, 1 if layer == depth else width)) * math.sqrt(2 / inputs)
            h = h + math.sqrt(bias) * RNG.normal(size=h.shape[1])
            h = h if layer == depth else np.maximum(h, 0)
        outputs.append(h[:, 0])
    kernel = InfiniteNetwork(bias, depth)
    exact = kernel(x, x)
    assert np.cov(np.array(outputs).T) == pytest.approx(exact, abs=6 * exact.max() / math.sqrt(draws))
    assert kernel.variance(x) == pytest.approx(np.diag(exact))


# eps-shotgun


def fitted(x: Vector, y: Vector) -> Gaussian:
    return Gaussian(Conditioned.on(Matern(0.5), 1e-6, x, y))


def test_the_radius_is_gap_and_uncertainty_over_the_slope() -> None:
    x = RNG.random((8, 2))
    posterior = fitted(x, x[:, 0] * 2)
    centre, best = np.array([0.5, 0.5]), 0.1
    mean, deviation = (float(each[0]) for each in posterior(centre[None]))
    r = eps_shotgun.radius(posterior, centre, best, np.random.default_rng(1))
    steepest = eps_shotgun.slopes(posterior, np.random.default_rng(1).uniform(np.zeros(2), np.ones(2), (200, 2))).max()
    assert r == pytest.approx(min((abs(mean - best) + deviation) / steepest, math.sqrt(2) / 2))
    flat = fitted(x, np.zeros(8) + 1e-12)
    assert eps_shotgun.radius(flat, centre, 0.0, RNG) == pytest.approx(math.sqrt(2) / 2)


def test_no_point_of_the_front_is_beaten() -> None:
    x = RNG.random((6, 2))
    posterior, points = fitted(x, RNG.normal(size=6)), RNG.random((200, 2))
    front = eps_shotgun.front(posterior, points)
    mean, deviation = posterior(points)
    for m, s in zip(*posterior(front), strict=True):
        assert not ((mean < m) & (deviation > s)).any()
    for point, m, s in zip(points, mean, deviation, strict=True):
        if not ((mean < m) & (deviation > s)).any():
            assert (front == point).all(1).any()


def test_a_blast_stays_in_the_box_around_its_centre() -> None:
    points = eps_shotgun.blast(np.array([0.0, 0.5]), 0.05, 4000, RNG)
    assert ((points >= 0) & (points <= 1)).all()
    assert points[:, 1].std() == pytest.approx(0.05, rel=0.1)
    assert points[:, 0].mean() == pytest.approx(0.05 * math.sqrt(2 / math.pi), rel=0.1)  # half a normal


def test_a_batch_is_a_centre_and_a_blast() -> None:
    strategy = eps_shotgun.EpsShotgun(batch=4)
    optimizer = strategy.optimizer(np.full(2, 0.9))
    assert isinstance(optimizer, Modelled)
    sizes = []
    for k in range(3):
        batch = optimizer.ask(np.random.default_rng(k))
        optimizer.tell(np.array([quadratic(q.x) for q in batch]))
        sizes.append(len(batch))
    assert sizes == [strategy.first, 4, 4]


# the whole search


@pytest.mark.usefixtures("few_standards")
@pytest.mark.parametrize(("strategy", "objective"), [("hyperband", "energy"), ("frank-wolfe", "paired")])
def test_a_search_by_name_goes_by_any_objective(strategy: str, objective: str) -> None:
    result = fewer.tune(mixture(), nfe=4, strategy=strategy, objective=objective, trials=11, noises=64, fresh=64)
    assert result.plan.nfe <= 4
    assert result.verdict["decision"] in ("better", "not worse", "worse", "cannot tell")
