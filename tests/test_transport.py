"""Transport and kernel distances: their exact values on small and Gaussian cases, and what their intervals hold."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, linprog
from scipy.stats import binom

from fewer import registry
from fewer.errors import InputError
from fewer.evaluate.distances.energy import discrepancy
from fewer.evaluate.distances.mmd import coupled, frequencies, kernel_estimate, mmd, positive_features, simplex
from fewer.evaluate.distances.sliced import sliced_w2_controlled
from fewer.evaluate.distances.transport import sinkhorn, sinkhorn_divergence, sinkhorn_newton_sparse

VARIATES = ("none", "low", "up", "both")
COUPLINGS = ("iid", "orthogonal", "simplex")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def uniform(n):
    return torch.full((n,), 1 / n, dtype=torch.float64)


def over_the_circle(x, y):
    """The mean over directions in the plane of the sorted samples' squared difference: periodic, so by equal steps."""
    angles = torch.arange(4000, dtype=torch.float64) * math.pi / 4000
    directions = torch.stack([angles.cos(), angles.sin()])
    return ((x @ directions).sort(0).values - (y @ directions).sort(0).values).square().mean().item()


def test_parts_are_registered_with_their_papers():
    for name, paper in (("sliced-w2-cv", 185), ("sinkhorn-newton-sparse", 333), ("mmd-simplex", 202)):
        assert registry.find("evaluate", name).papers == (paper,)


@pytest.mark.parametrize("variate", VARIATES)
def test_the_plug_in_sliced_distance_is_covered_over_directions(variate):
    hits = 0
    for number in range(60):
        x, y = normal(20, 2, seed=number) * torch.tensor([2.0, 0.5]), normal(20, 2, seed=1000 + number) + 0.7
        interval = sliced_w2_controlled(x, y, projections=40, seed=number, variate=variate)
        hits += interval.low <= over_the_circle(x, y) <= interval.high
    assert hits >= binom.ppf(0.002, 60, 0.93)


@pytest.mark.parametrize(("variate", "x"), [("low", normal(50, 5)), ("both", normal(50, 5)), ("up", normal(50, 5))])
def test_a_shift_is_measured_exactly_by_every_variate(variate, x):
    gap = torch.tensor([1.0, -2.0, 0.0, 0.5, 3.0], dtype=torch.float64)
    interval = sliced_w2_controlled(x, x + gap, projections=16, variate=variate)
    if variate == "up":  # s_x^2 + s_y^2 is then noise of the variate
        assert interval.low <= gap @ gap / 5 <= interval.high
    else:
        assert interval.value == pytest.approx(gap @ gap / 5)
        assert interval.high - interval.low < 1e-9


def test_one_scale_between_two_samples_is_measured_exactly_by_both_variates():
    x = normal(50, 5)
    x = x - x.mean(0)  # W2^2 = (c - 1)^2 s_x^2 in every direction
    assert sliced_w2_controlled(x, 3 * x, projections=16).value == pytest.approx(4 * x.square().sum().item() / 50 / 5)


def test_in_one_dimension_all_directions_agree():
    x, y = normal(30, 1), 2 * normal(45, 1, seed=1)
    sorted_x, sorted_y = x[:, 0].sort().values.repeat_interleave(3), y[:, 0].sort().values.repeat_interleave(2)
    for variate in VARIATES:
        interval = sliced_w2_controlled(x, y, projections=8, variate=variate)
        assert interval.value == pytest.approx((sorted_x - sorted_y).square().mean().item())
        assert interval.high - interval.low < 1e-9


def test_sliced_mistakes_are_named():
    with pytest.raises(InputError, match="projections must be at least 8, got 7"):
        sliced_w2_controlled(normal(9, 2), normal(9, 2), projections=7)
    with pytest.raises(InputError, match="variate must be one of none, low, up, both, got 'upper'"):
        sliced_w2_controlled(normal(9, 2), normal(9, 2), variate="upper")


def clouds(n, m, d, seed=0):
    """A cost matrix and two uneven weights."""
    cost = torch.cdist(normal(n, d, seed=seed), 1.3 * normal(m, d, seed=seed + 100) + 0.3).square()
    a, b = (torch.rand(k, generator=generator(seed + k), dtype=torch.float64) + 0.1 for k in (n, m))
    return cost, a / a.sum(), b / b.sum()


@pytest.mark.parametrize("relative", [0.3, 0.1, 0.03])
@pytest.mark.parametrize(("n", "m", "d"), [(40, 40, 2), (60, 35, 8), (1, 20, 2)])
def test_newton_and_sinkhorn_find_the_same_plan_with_the_marginals_asked(n, m, d, relative):
    cost, a, b = clouds(n, m, d)
    eps = relative * cost.mean().item()
    plan, plain = sinkhorn_newton_sparse(cost, a, b, eps), sinkhorn(cost, a, b, eps, tol=1e-9)
    assert plan.converged
    assert plain.converged
    p = ((plan.f[:, None] + plan.g - cost) / eps).exp()
    assert (p.sum(1) - a).abs().sum() + (p.sum(0) - b).abs().sum() <= 1.1e-9
    assert plan.value == pytest.approx((p * cost).sum().item())
    assert plan.value == pytest.approx(plain.value, rel=1e-7)
    primal = (p * cost).sum() + eps * (p * p.log()).sum()
    assert plan.dual == pytest.approx(primal.item(), abs=1e-7 * cost.mean().item())


def test_the_hessian_s_sparsity_changes_the_way_and_not_the_plan():
    cost, a, b = clouds(50, 50, 2)
    values = [sinkhorn_newton_sparse(cost, a, b, 0.1, density=density).value for density in (0.02, 0.2, 1.0)]
    assert values == pytest.approx([values[0]] * 3, rel=1e-8)


def test_newton_s_last_steps_square_the_error():
    cost, a, b = clouds(50, 50, 2)
    errors = [sinkhorn_newton_sparse(cost, a, b, 0.2, tol=1e-13, most=20 + k, density=1.0).error for k in range(12)]
    far = [(one, two) for one, two in itertools.pairwise(errors) if 1e-7 < one < 1e-2]
    assert far
    assert all(two < 0.1 * one for one, two in far)


def test_small_eps_tends_to_unregularised_transport_from_above():
    cost, a, b = clouds(25, 20, 2)
    rows = np.kron(np.eye(25), np.ones(20))
    columns = np.kron(np.ones(25), np.eye(20))
    exact = linprog(cost.numpy().ravel(), A_eq=np.vstack([rows, columns]), b_eq=torch.cat([a, b]).numpy()).fun
    near, far = (sinkhorn_newton_sparse(cost, a, b, eps, most=2000) for eps in (0.002, 0.1))
    assert near.converged
    assert exact - 1e-6 <= near.value <= far.value
    assert near.value - exact <= 0.002 * math.log(25 * 20)  # the entropy gained is at most log(n m)


def test_gaussians_on_a_grid_have_their_closed_entropic_cost():
    grid = torch.linspace(-9, 9, 240, dtype=torch.float64)
    sd, other, gap, eps = 1.0, 1.5, 0.8, 0.7
    a, b = ((-((grid - mean) ** 2) / (2 * s**2)).exp() for mean, s in ((0, sd), (gap, other)))
    keep_a, keep_b = a > 1e-16, b > 1e-16
    a, b = a[keep_a] / a[keep_a].sum(), b[keep_b] / b[keep_b].sum()
    cost = (grid[keep_a, None] - grid[keep_b]) ** 2
    plan = sinkhorn_newton_sparse(cost, a, b, eps)
    # the best Gaussian coupling: d/dc of -2 c - eps / 2 log(1 - c^2 / (sd other)^2) is 0
    c = (-eps + math.sqrt(eps**2 + 16 * (sd * other) ** 2)) / 4
    assert plan.converged
    assert plan.value == pytest.approx(sd**2 + other**2 + gap**2 - 2 * c, rel=1e-6)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.floats(0.01, 100))
def test_transport_has_the_cost_s_unit(seed, scale):
    cost, a, b = clouds(12, 9, 3, seed=seed)
    one, scaled = sinkhorn_newton_sparse(cost, a, b, 0.5), sinkhorn_newton_sparse(scale * cost, a, b, 0.5 * scale)
    assert scaled.value == pytest.approx(scale * one.value, rel=1e-6)


def test_too_few_iterations_are_said():
    cost, a, b = clouds(40, 40, 2)
    for solve in (sinkhorn, sinkhorn_newton_sparse):
        plan = solve(cost, a, b, 0.01, most=5)
        assert not plan.converged
        assert plan.error > 1e-9
        assert plan.sinkhorn + plan.newton == 5


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"eps": 0.0}, "eps and tol"),
        ({"eps": math.nan}, "eps and tol"),
        ({"tol": -1.0}, "eps and tol"),
        ({"most": 0}, "most"),
        ({"warm": -1}, "warm"),
        ({"density": 0.0}, "density"),
        ({"a": torch.ones(3)}, "a must hold positive weights"),
        ({"a": torch.tensor([0.0, 0.5, 0.5])}, "a must hold positive weights"),
        ({"b": torch.tensor([math.nan, 1.0])}, "b must hold positive weights"),
        ({"b": uniform(3)}, "cost, a, b must be"),
        ({"cost": torch.full((3, 2), math.nan)}, "cost"),
    ],
)
def test_transport_mistakes_are_named(change, word):
    good = {"cost": torch.ones(3, 2), "a": uniform(3), "b": uniform(2), "eps": 0.1}
    with pytest.raises(InputError, match=word):
        sinkhorn_newton_sparse(**{**good, **change})


def test_the_divergence_is_zero_for_equal_samples_symmetric_and_near_the_assignment_s_cost():
    x, y = normal(30, 3), normal(30, 3, seed=1) + 1
    assert sinkhorn_divergence(x, x, 1.0) == pytest.approx(0, abs=1e-8)
    assert sinkhorn_divergence(x, y, 1.0) == pytest.approx(sinkhorn_divergence(y, x, 1.0))
    assert sinkhorn_divergence(x, y, 1.0) > 0.1
    cost = torch.cdist(x, y).square().numpy()
    rows, columns = linear_sum_assignment(cost)
    exact = cost[rows, columns].mean()  # every entropic cost is at most eps log n above the exact one, and not below
    assert abs(sinkhorn_divergence(x, y, 0.3) - exact) <= 0.3 * math.log(30)
    with pytest.raises(InputError, match="eps"):
        sinkhorn_divergence(x, y, -1.0)


@pytest.mark.parametrize("d", [2, 5, 16])
def test_the_simplex_has_unit_vectors_at_the_widest_equal_angle(d):
    gram = simplex(d) @ simplex(d).T
    assert torch.allclose(gram, torch.full((d, d), -1 / (d - 1)).double().fill_diagonal_(1))
    rows = coupled(simplex(d), 3, generator()).view(3, d, d)
    unit = rows / rows.norm(dim=2, keepdim=True)
    assert torch.allclose(unit @ unit.mT, gram.expand(3, d, d))


@pytest.mark.parametrize("coupling", COUPLINGS)
def test_frequencies_are_standard_normal_one_by_one_and_the_kernel_is_unbiased(coupling):
    weights = frequencies(3, 60_000, coupling, generator())
    assert torch.allclose(weights.T @ weights / len(weights), torch.eye(3).double(), atol=0.03)
    assert weights.pow(4).mean().item() == pytest.approx(3, rel=0.05)
    x, y = 0.5 * normal(20, 3), 0.5 * normal(20, 3, seed=1)
    blocks = torch.stack([kernel_estimate(x, y, w) for w in weights.split(300)])
    z = (blocks.mean(0) - (-(x - y).square().sum(1) / 2).exp()) / (blocks.std(0) / len(blocks) ** 0.5)
    assert z.abs().max() < 4


@pytest.mark.parametrize(("n", "m"), [(40, 25), (400, 300)])
def test_the_linear_time_statistic_is_the_quadratic_one_of_the_same_features(n, m):
    x, y, width = normal(n, 4), normal(m, 4, seed=1) + 0.5, 1.7
    fast = mmd(x, y, bandwidth=width, features=64, seed=3)
    origin = torch.cat([x, y]).mean(0)
    weights = frequencies(4, 64, "simplex", generator(3))
    slow = discrepancy(
        *(positive_features((z - origin) / width, weights) for z in (x, y)), lambda a, b: a @ b.mT
    )  # which does not know of the features' own error
    assert fast.value == pytest.approx(slow.value)
    assert fast.high - fast.low > slow.high - slow.low


def gaussian_mmd(gap, cov_x, cov_y, width):
    """E k of Z ~ N(mean, cov): width^d |width^2 + cov|^(-1/2) exp(-mean (width^2 + cov)^(-1) mean / 2)."""

    def expected(mean, cov):
        wide = width**2 * torch.eye(len(gap), dtype=torch.float64) + cov
        return width ** len(gap) * wide.det().rsqrt() * (-0.5 * mean @ torch.linalg.solve(wide, mean)).exp()

    return (expected(0 * gap, 2 * cov_x) + expected(0 * gap, 2 * cov_y) - 2 * expected(gap, cov_x + cov_y)).item()


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("distinct", [True, False])
def test_the_mmd_of_gaussians_is_covered(coupling, distinct):
    d, width = 4, 2.0
    scales = torch.tensor([1.0, 0.7, 0.5, 0.3]).double()
    gap = 0.5 * scales if distinct else 0 * scales
    other = scales.flip(0) if distinct else scales
    truth = gaussian_mmd(gap, scales.square().diag(), other.square().diag(), width)
    intervals = [
        mmd(gap + scales * normal(80, d, seed=k), other * normal(90, d, seed=500 + k), width, 128, coupling, seed=k)
        for k in range(60)
    ]
    assert sum(i.low <= truth <= i.high for i in intervals) >= binom.ppf(0.002, 60, 0.93)
    assert sum(i.low > truth for i in intervals) <= binom.ppf(0.998, 60, 0.05)
    values = torch.tensor([i.value for i in intervals])
    assert abs(values.mean() - truth) < 4 * values.std() / 60**0.5


def test_by_default_the_mmd_has_no_unit_and_no_origin():
    x, y = normal(60, 3), normal(50, 3, seed=1) + 1
    one, other = mmd(x, y, features=64), mmd(7 * x + 100, 7 * y + 100, features=64)
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high), rel=1e-6)


def test_mmd_mistakes_are_named():
    x, y = normal(20, 4), normal(20, 4, seed=1)
    with pytest.raises(InputError, match="features must be at least 8 d = 32"):
        mmd(x, y, features=31)
    with pytest.raises(InputError, match="bandwidth"):
        mmd(x, y, bandwidth=0.0)
    with pytest.raises(InputError, match="bandwidth"):
        mmd(torch.zeros(20, 4), torch.zeros(20, 4))
    with pytest.raises(InputError, match="coupling"):
        mmd(x, y, coupling="orthonormal")
