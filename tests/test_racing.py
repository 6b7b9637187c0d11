"""Races, seed scans and disagreement: what they promise, and the algebra under them."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from fewer.errors import InputError
from fewer.evaluate.statistics import paired, racing
from fewer.evaluate.statistics.disagreement import Disagreement, _ridge, disagreement
from fewer.evaluate.statistics.racing import looks, race, race_all, ratios
from fewer.evaluate.statistics.seeds import rescore, seed_scan
from fewer.evaluate.statistics.spending import POWER, levels


def errors(n, *scales, seed=0, spread=0.5):
    """Correlated log-normal errors of plans with these RMSEs, (len(scales), n)."""
    generator = torch.Generator().manual_seed(seed)
    shared, own = torch.randn(1, n, generator=generator), torch.randn(len(scales), n, generator=generator)
    scale = torch.tensor(scales, dtype=torch.float64)[:, None]
    return scale**2 * (spread * (0.7 * shared + 0.7 * own)).double().exp()


def drawing(e):
    """A draw of two from errors made beforehand."""
    return lambda i, j: (e[0, i:j], e[1, i:j])


@settings(max_examples=50, deadline=None)
@given(st.integers(8, 300), st.integers(0, 20_000))
def test_looks_grow_and_end_at_most(first, more):
    planned = looks(first + more, first)
    sizes = [n for n, _ in planned]
    assert sizes[0] == first
    assert sizes[-1] == first + more
    assert sizes == sorted(set(sizes))
    assert all(0 < alpha <= 0.05 + 1e-12 for _, alpha in planned)
    assert sum(alpha for _, alpha in planned) >= 0.05 - 1e-12  # at least what a union bound would give


def test_one_look_has_all_of_alpha():
    assert looks(64, 64)[0] == (64, pytest.approx(0.05))


@pytest.mark.parametrize("power", [0.5, 1.25, 3.0])
def test_two_looks_spend_what_they_shall(power):
    """P(|z_1| <= c_1, |z_2| <= c_2) of the bivariate normal with correlation sqrt(n_1 / n_2)."""
    for first in (10, 50, 95):
        one, two = (float(norm.isf(alpha / 2)) for alpha in levels([first, 100], 0.05, power))
        rho = math.sqrt(first / 100)
        inside = quad(
            lambda z, c=two, rho=rho: norm.pdf(z) * (
                norm.cdf((c - rho * z) / math.sqrt(1 - rho**2)) - norm.cdf((-c - rho * z) / math.sqrt(1 - rho**2))
            ), -one, one, epsabs=1e-12,
        )[0]  # fmt: skip
        assert 1 - inside == pytest.approx(0.05, abs=1e-9)
        assert 2 * norm.sf(one) == pytest.approx(0.05 * (first / 100) ** power)


def test_all_looks_together_miss_with_the_chance_that_is_allowed():
    """Brownian paths at the looks' sizes: the share that any look rejects is binomial about alpha, at every look."""
    planned, paths, alpha = looks(5000), 40_000, 0.2
    sizes = torch.tensor([float(n) for n, _ in planned], dtype=torch.float64)
    c = torch.tensor([norm.isf(a / 2) for a in levels([n for n, _ in planned], alpha)])
    steps = sizes.diff(prepend=sizes.new_zeros(1)).sqrt()
    z = torch.randn(paths, len(sizes), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    missed = ((z * steps).cumsum(1) / sizes.sqrt()).abs() > c
    for at in (len(sizes) // 2, len(sizes) - 1):
        spent = alpha * float(sizes[at] / sizes[-1]) ** POWER
        share = float(missed[:, : at + 1].any(1).double().mean())
        assert abs(share - spent) < 4 * math.sqrt(spent / paths)


@pytest.mark.parametrize("n", [40, 200])
def test_the_quantile_is_that_of_the_studentised_resamples(n):
    a, b = errors(n, 1.0, 1.3, spread=1.0)
    alpha, (found,) = 0.1, ratios(a[None], b[None], 0.1)
    t = []
    for count in racing._counts(n, 300).double():
        rows = torch.repeat_interleave(torch.arange(n), count.long())
        theta, error = paired.log_ratio(a[rows], b[rows])
        t.append(float((theta - paired.log_ratio(a, b)[0]).abs() / error))
    theta, error = (float(x) for x in paired.log_ratio(a, b))
    q = sorted(t)[math.ceil((1 - alpha) * 301) - 1]
    assert (found.value, found.high) == pytest.approx((math.exp(theta), math.exp(theta + q * error)), rel=1e-9)
    assert found.low * found.high == pytest.approx(found.value**2)


def test_smaller_alpha_widens_the_interval_beyond_what_resamples_show_too():
    a, b = errors(100, 1.0, 1.1)
    reaches = [ratios(a[None], b[None], alpha)[0].high for alpha in (0.2, 0.05, 1e-3, 1e-5, 1e-7)]
    assert reaches == sorted(reaches)
    assert len(set(reaches)) == 5


def test_many_pairs_at_once_are_each_pair_alone():
    e = errors(80, 1.0, 1.2, 0.7, 2.0)
    together = ratios(e[1:], e[:1].expand(3, -1), 0.02)
    for row, one in zip(e[1:], together, strict=True):
        alone = ratios(row[None], e[:1], 0.02)[0]
        assert one.to_dict() == pytest.approx(alone.to_dict())


@settings(max_examples=20, deadline=None)
@given(st.floats(1e-3, 1e3), st.integers(0, 1000))
def test_a_unit_of_both_plans_changes_nothing_and_swapping_them_inverts(scale, seed):
    a, b = errors(64, 1.0, 1.2, seed=seed)
    one = ratios(a[None], b[None], 0.05)[0]
    scaled, swapped = ratios(scale * a[None], scale * b[None], 0.05)[0], ratios(b[None], a[None], 0.05)[0]
    assert scaled.to_dict() == pytest.approx(one.to_dict(), rel=1e-9)
    assert (1 / swapped.high, 1 / swapped.low) == pytest.approx((one.low, one.high), rel=1e-9)


@pytest.mark.parametrize(("scale", "word"), [(0.5, "better"), (2.0, "worse")])
def test_what_is_far_apart_is_decided_at_the_first_look(scale, word):
    found = race(drawing(errors(4096, scale, 1.0)), most=4096)
    assert (found.decision, found.samples, found.ratio.n) == (word, 64, 64)


def test_equal_plans_are_not_worse_when_there_are_samples_enough_and_undecided_otherwise():
    e = errors(8192, 1.0, 1.0, spread=0.3)
    enough, few = race(drawing(e), most=8192), race(drawing(e), most=64, margin=0.01)
    assert enough.decision == "not worse"
    assert 64 < enough.samples < 8192
    assert enough.ratio.high <= 1.05
    assert few.decision == "cannot tell"


def test_samples_are_drawn_once_and_in_turn():
    asked, e = [], errors(512, 1.0, 1.04)

    def draw(i, j):
        asked.append((i, j))
        return e[0, i:j], e[1, i:j]

    found = race(draw, most=512)
    assert asked[0] == (0, 64)
    assert all(before[1] == after[0] for before, after in pairwise(asked))
    assert asked[-1][1] == found.samples


def test_one_plan_against_itself_needs_one_look():
    e = errors(64, 1.0)
    found = race(lambda i, j: (e[0, i:j], e[0, i:j]), most=4096)
    assert (found.decision, found.ratio.low, found.ratio.high, found.samples) == ("not worse", 1.0, 1.0, 64)


def test_ties_are_seldom_called():
    """Of 80 exact ties at margin 0 every call is wrong; with 5 % allowed, 10 or more have a chance below 1 %."""
    wrong = sum(
        race(drawing(errors(324, 1.0, 1.0, seed=seed, spread=1.0)), 0.0, 324).decision in ("better", "worse")
        for seed in range(80)
    )
    assert wrong < 10


def test_a_plan_without_error_is_better_and_against_it_there_is_no_ratio():
    e = torch.stack([torch.zeros(64), torch.ones(64)]).double()
    assert race(drawing(e), most=64).ratio.high == 0
    with pytest.raises(InputError, match="e_b is zero"):
        race(drawing(e.flip(0)), most=64)


def test_a_field_drops_the_bad_and_keeps_the_best():
    e = errors(4096, 2.0, 1.0, 1.5, 1.01, 3.0)
    found = race_all(lambda rows, i, j: e[list(rows)][:, i:j], 5, margin=0.05, most=4096)
    assert found.kept[0] == found.leader
    assert set(found.kept) == {1, 3}
    assert found.settled
    assert found.samples[4] == 64 < found.samples[1] == found.samples[3]


def test_one_candidate_has_won():
    found = race_all(lambda rows, i, j: torch.ones(1, j - i), 1)
    assert (found.leader, found.kept, found.settled, found.samples) == (0, (0,), True, (0,))


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: race(lambda i, j: (torch.ones(j - i), torch.ones(3))), "e_b of a draw"),
        (lambda: race(lambda i, j: (torch.full((j - i,), math.nan), torch.ones(j - i))), "e_a holds"),
        (lambda: race(lambda i, j: (torch.ones(j - i),) * 2, margin=-1), "margin"),
        (lambda: race(lambda i, j: (torch.ones(j - i),) * 2, most=10), "first"),
        (lambda: race_all(lambda rows, i, j: torch.ones(1, j - i), 2), "errors of a draw"),
        (lambda: race_all(lambda rows, i, j: torch.ones(1, j - i), 0), "candidates"),
        (lambda: seed_scan(torch.ones(3, 10)), "seeds"),
        (lambda: seed_scan(torch.ones(10, 10), margin=1.0), "margin"),
        (lambda: seed_scan(-torch.ones(10, 10)), "negative"),
        (lambda: rescore(torch.ones(10), lambda w: torch.ones(8)), "candidates"),
        (lambda: rescore(torch.zeros(2, 10), lambda w: torch.ones(8)), "no error"),
        (lambda: disagreement(torch.ones(1, 10)), "2 plans"),
        (lambda: Disagreement.fit(torch.ones(3, 10), 2), "4 plans"),
        (lambda: Disagreement.fit(torch.ones(5, 10), 11), "k must"),
        (lambda: Disagreement.fit(torch.zeros(5, 10), 2), "not positive"),
        (lambda: Disagreement.fit(errors(9, 1, 2, 3, 4), 2).predict(torch.ones(2, 3)), "chosen noises"),
    ],
)
def test_what_cannot_be_used_is_named(call, word):
    with pytest.raises(InputError, match=word):
        call()


def test_a_scan_counts_pairs_and_its_figures_are_their_definitions():
    e = errors(16, *([1.0] * 12))
    scan, scores = seed_scan(e, margin=0.03), e.mean(1).sqrt()
    wins = sum(float(b < 0.97 * a) for a in scores for b in scores) / (12 * 11)
    assert scan.null_wins.value == pytest.approx(wins)
    assert scan.spread.value == pytest.approx(float(scores.std() / scores.mean()))
    assert scan.best == pytest.approx(float(1 - scores.min() / scores.median()))
    assert scan.worst == pytest.approx(float(scores.max() / scores.median() - 1))
    assert (scan.seeds, scan.samples) == (12, 16)


def test_of_two_seeds_apart_one_order_wins_always_at_margin_zero():
    scan = seed_scan(errors(16, *([1.0] * 20)), margin=0.0)
    assert scan.null_wins.value == pytest.approx(0.5)
    assert (scan.null_wins.low, scan.null_wins.high) == pytest.approx((0.5, 0.5))


def test_more_samples_a_seed_narrow_the_spread_as_the_root():
    few, many = (seed_scan(errors(200 * n, 1.0).reshape(200, n)).spread for n in (16, 256))
    assert 3 < few.value / many.value < 5.3


def test_the_winner_of_equals_is_flattered_on_its_own_noises_and_not_on_fresh_ones():
    gaps = []
    for seed in range(20):
        e = errors(16 + 400, *([1.0] * 30), seed=seed, spread=1.0)
        found = rescore(e[:, :16], lambda w, e=e: e[w, 16:])
        assert found.winner == int(e[:, :16].mean(1).argmin())
        assert found.gap.value == pytest.approx(found.fresh.value / found.selected)
        gaps.append(found.gap.value)
    assert sum(gaps) / 20 > 1.1


def test_disagreement_is_half_the_mean_squared_difference_of_two_plans():
    samples = torch.randn(5, 7, 2, 3, generator=torch.Generator().manual_seed(0)).double()
    apart = (samples[:, None] - samples[None]).square().mean((3, 4)).sum((0, 1)) / (2 * 5 * 4)
    assert torch.allclose(disagreement(samples), apart)


def test_scores_that_are_linear_in_the_signature_are_predicted():
    """Plans differ by a factor alone: any noise tells all, and unseen plans are predicted but for the ridge."""
    e = errors(50, 1.0) * torch.linspace(0.5, 2, 20).double()[:, None] ** 2
    fitted = Disagreement.fit(e[::2], 5)
    assert torch.allclose(fitted.predict(e[1::2][:, fitted.chosen]), e[1::2].mean(1).sqrt(), rtol=1e-3)


def test_noises_are_chosen_by_disagreement_or_as_told():
    e = errors(30, *torch.linspace(1, 2, 10).tolist())
    samples = torch.zeros(10, 30, 2)
    samples[:, 17] = torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
    assert Disagreement.fit(e, 1, samples).chosen.tolist() == [17]
    assert Disagreement.fit(e, 4).chosen.tolist() == e.log().var(0).argsort(descending=True)[:4].tolist()
    assert Disagreement.fit(e, 2, chosen=torch.tensor([3, 5])).chosen.tolist() == [3, 5]


def test_the_weights_solve_the_normal_equations_of_ridge_regression():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(12, 3, generator=generator).double(), torch.randn(12, generator=generator).double()
    x, y = x - x.mean(0), y - y.mean()
    w, penalty = _ridge(x, y)
    scale = float(x.square().sum()) / 12
    direct = torch.linalg.solve(x.T @ x + penalty * scale * torch.eye(3).double(), x.T @ y)
    assert torch.allclose(w, direct)
