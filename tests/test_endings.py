"""Errors of samples that end where the reference does, and shares of those that end elsewhere."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import norm
from torch import Tensor

from fewer.errors import InputError
from fewer.evaluate.distances.energy import energy_difference
from fewer.evaluate.modes import Modes
from fewer.evaluate.statistics.endings import (
    TRIM,
    Endings,
    common_border,
    decide_share,
    endings,
    gap,
    paired_shares,
    share,
    trimmed,
    typical,
    typical_ratio,
)
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.paired import squared_errors
from fewer.evaluate.verdict import Verdict, in_words, settled
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Flow


def logs(n: int, seed: int, away: float = 0.0, far: float = 2.5, spread: float = 0.4) -> tuple[Tensor, Tensor]:
    """Log distances (n,) of which a share `away` ends `far` further away, and which these are."""
    generator = torch.Generator().manual_seed(seed)
    there = torch.rand(n, generator=generator) < away
    return spread * torch.randn(n, generator=generator, dtype=torch.float64) + far * there, there


@pytest.mark.parametrize("away", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("n", [256, 1024])
def test_a_gap_finds_the_samples_of_another_mode(n: int, away: float) -> None:
    x, there = logs(n, 0, away)
    border = gap(x)
    assert border is not None
    assert ((x > border) == there).double().mean() > 0.98


@pytest.mark.parametrize("n", [64, 256, 1024])
def test_one_group_has_no_gap(n: int) -> None:
    found = [gap(logs(n, seed)[0]) for seed in range(20)]
    assert sum(border is not None for border in found) <= 2


def test_both_plans_have_one_border() -> None:
    near, _ = logs(256, 0, 0.1)
    assert math.isclose(common_border(near, near), gap(near) or math.inf)
    blurred, _ = logs(256, 1, spread=1.0)  # shows no gap of its own: the other's serves
    assert math.isclose(common_border(near, blurred), gap(near) or math.inf)
    assert common_border(near, blurred + 3) == math.inf  # as far off everywhere as another mode


def test_a_blurred_plan_s_samples_are_not_elsewhere_for_being_far() -> None:
    """One plan's errors are six times the other's, and the other's gap alone shows how far another mode is."""
    near, _ = logs(256, 0, 0.1, far=4.0, spread=0.3)
    blurred = logs(256, 1, spread=0.3)[0] + 1.8
    border = common_border(near, blurred)
    assert math.isclose(border, gap(near) or math.inf)
    assert (blurred > border).double().mean() < 0.01


@given(st.integers(8, 60), st.integers(0, 2**20), st.floats(0.1, 10))
@settings(max_examples=40, deadline=None)
def test_exchanging_the_plans_inverts_and_units_do_not_matter(n: int, seed: int, unit: float) -> None:
    a, b = (logs(n, seed + i, 0.1 * i)[0].exp().square() for i in (0, 1))
    there, back, scaled = endings(a, b), endings(b, a), endings(unit * a, unit * b)
    assert (there.error is None) == (back.error is None)
    if there.error is not None and back.error is not None and scaled.error is not None:
        assert math.isclose(there.error.value * back.error.value, 1)
        assert math.isclose(there.error.low * back.error.high, 1)
        assert math.isclose(there.error.value, scaled.error.value)
    assert math.isclose(there.elsewhere.value, -back.elsewhere.value, abs_tol=1e-12)
    assert math.isclose(there.elsewhere.low, -back.elsewhere.high, abs_tol=1e-6)


def test_a_common_factor_of_the_distances_is_the_error() -> None:
    b = logs(64, 0)[0].exp().square()
    error = endings(0.49 * b, b).error
    assert error is not None
    assert math.isclose(error.value, 0.7)
    assert math.isclose(error.low, error.high)


def test_equal_plans_and_plans_without_error_are_not_worse() -> None:
    for e in (logs(256, 0, 0.1)[0].exp(), torch.zeros(256)):
        assert endings(e, e).decision(0.05) == "not worse"
    assert endings(torch.zeros(64), torch.ones(64)).error is not None


def test_ten_samples_do_not_decide() -> None:
    """A plan of half the error everywhere, but for ten of 1,024 samples that end elsewhere under it alone, is better."""
    b = logs(1024, 0)[0].exp().square()
    a = b / 4
    a[:10] = 1e4
    assert a.mean() > 10 * b.mean()
    found = endings(a, b)
    assert found.decision(0.05) == "better"
    assert math.isclose(found.shares[0].value, 10 / 1024)


def test_known_modes_are_taken_as_they_are() -> None:
    b = logs(128, 0)[0].exp().square()
    none, half = torch.zeros(128, dtype=torch.bool), torch.arange(128) < 64
    found = endings(b, b, (half, none))
    assert (found.elsewhere.value, found.error is not None and found.error.n) == (0.5, 64)
    assert found.decision(0.05) == "worse"
    assert endings(b, b, (torch.arange(128) < 125, none)).error is None


@pytest.mark.parametrize(
    ("mine", "its", "decision"), [(10, 122, "better"), (122, 10, "worse"), (121, 122, "cannot tell")]
)
def test_where_hardly_a_sample_ends_at_the_reference_the_share_decides(mine: int, its: int, decision: str) -> None:
    """Under either plan; a smaller share is better, about the same share says nothing of the rest."""
    b, at = logs(128, 0)[0].exp().square(), torch.arange(128)
    found = endings(b, b, (at >= 128 - mine, at < its))
    assert found.error is None
    assert found.decision(0.05) == decision


def test_errors_of_a_third_of_the_samples_are_not_left_out_for_there_being_few() -> None:
    """Of 20 samples 7 end at the reference under both, and their errors are larger, as seven cannot show."""
    b, at = logs(20, 0)[0].exp().square(), torch.arange(20)
    found = endings(4 * b, b, (at >= 20, at >= 7))
    assert found.error is None
    assert found.by_share(0.05) == "better"
    assert found.decision(0.05) == "cannot tell"
    assert endings(4 * b, b, (at >= 20, at >= 3)).decision(0.05) == "better"


def test_where_none_of_sixty_samples_ends_elsewhere_under_a_plan_alone_the_error_decides() -> None:
    """The interval could not show that the share is within 5 %, but with 6 % one of sixty would have shown in 97 of 100."""
    b, none = logs(60, 0)[0].exp().square(), torch.zeros(60, dtype=torch.bool)
    found = endings(0.25 * b, b)
    assert found.elsewhere.high > 0.05
    assert found.decision(0.05) == "better"
    some, more = torch.arange(60) < 1, torch.arange(60) < 20
    assert endings(0.25 * b, b, (none, some)).decision(0.05) == "better"  # one that speaks for it changes nothing
    assert endings(0.25 * b, b, (more, more)).decision(0.05) == "better"  # the same samples end elsewhere under both
    assert endings(0.25 * b, b, (more, none)).decision(0.05) == "worse"


def shares(n: int, only_a: int, only_b: int) -> Endings:
    """Two plans of equal errors, of which so many samples end elsewhere under one alone."""
    at = torch.arange(n)
    return endings(
        torch.ones(n), torch.ones(n), (at < only_a, (at >= only_a) & (at < only_a + only_b)),
    )  # fmt: skip


@pytest.mark.parametrize(("n", "margin"), [(60, 0.05), (32, 0.1), pytest.param(100, 0.05, marks=pytest.mark.slow)])
@pytest.mark.parametrize("of_b", [0.0, 0.1])
def test_a_share_beyond_the_margin_is_hardly_ever_said_to_be_within(n: int, margin: float, of_b: float) -> None:
    """In at most 5 % of cases, exactly: the sum of the trinomial's chances where a's share is the margin above b's."""
    of_a, wrong = margin + of_b, 0.0
    for only_a in range(n + 1):
        for only_b in range(n + 1 - only_a):
            ways = math.comb(n, only_a) * math.comb(n - only_a, only_b)
            chance = ways * of_a**only_a * of_b**only_b * (1 - of_a - of_b) ** (n - only_a - only_b)
            if chance > 1e-5:
                wrong += chance * (shares(n, only_a, only_b).by_share(margin) in ("better", "not worse"))
    assert 0.001 < wrong <= 0.05


@given(st.integers(8, 80), st.integers(0, 20), st.integers(0, 20), st.floats(0.0, 0.2))
@settings(max_examples=40, deadline=None)
def test_more_of_the_other_s_samples_elsewhere_speak_for_a_plan(
    n: int, only_a: int, only_b: int, margin: float
) -> None:
    order = ("worse", "cannot tell", "not worse", "better")
    only_a = min(only_a, n // 2)
    fewer, more = (shares(n, only_a, min(count, n - only_a)).by_share(margin) for count in (only_b, only_b + 1))
    assert order.index(fewer) <= order.index(more)


@pytest.mark.parametrize(("n", "said"), [(20, "at most 14 % do"), (48, "at most 6.1 % do"), (60, None)])
@pytest.mark.parametrize("only_b", [0, 1])
def test_what_so_few_samples_cannot_show_is_said(n: int, said: str | None, only_b: int) -> None:
    """Of a last look: 1 - 0.05^(1 / n) of the samples may end elsewhere where none of n did. A look before it goes on."""
    b, at = logs(n, 0)[0].exp().square(), torch.arange(n)
    found = endings(0.25 * b, b, (at < 0, at < only_b))
    assert found.decision(0.05) == ("better" if said is None else "cannot tell")
    tied = Interval(0.0, -1.0, 1.0, n)
    decision = settled(found, 0.05, tied)
    assert decision == "better"
    verdict = Verdict(
        "x", 0.05, decision, found.error, elsewhere=found.elsewhere, shares=found.shares, alone=found.alone
    )
    assert (said or "its error is 0.500") in in_words(verdict)
    assert ("at most" in in_words(verdict)) == (said is not None)
    against = endings(0.25 * b, b, (at < 1, at < 0))
    assert settled(against, 0.05, tied) == against.decision(0.05) == "cannot tell"
    same = endings(b, b, (at < 5, at < 5))
    assert settled(same, 0.05, tied) == "not worse"


def test_a_plan_without_any_error_has_a_ratio_of_zero() -> None:
    b = logs(64, 0)[0].exp().square()
    found = endings(torch.zeros(64), b)
    assert found.error is not None
    assert found.error.high == 0
    assert found.decision(0.05) == "better"
    assert (typical(torch.zeros(64)).high, typical_ratio(torch.zeros(64), b).high) == (0, 0)


def test_a_few_wild_ratios_leave_an_end_without_bound() -> None:
    wild = torch.tensor([1e-300, 1e300] * 4, dtype=torch.float64)
    found = typical_ratio(wild, wild.flip(0), alpha=0.001)
    assert found.low < 1e-200
    assert found.high == math.inf


def test_a_typical_error_is_a_geometric_mean_without_the_outermost_tenths() -> None:
    e = torch.tensor([1e-30, *[4.0] * 18, 1e30], dtype=torch.float64)
    assert math.isclose(typical(e).value, 2.0)
    assert math.isclose(typical_ratio(9 * e, e).value, 3.0)


def test_modes_are_the_components_that_hardly_overlap() -> None:
    means = torch.tensor([[-10.0, 0.0], [10.0, 0.0]])
    apart = GaussianMixture(torch.ones(2), means, torch.zeros(2, 2, 0), torch.zeros(2, 0), torch.ones(2), (2,))
    modes = Modes.of(Model.from_mixture(apart, Flow()))
    assert modes is not None
    samples = means[torch.tensor([0, 1, 1])]
    assert modes(samples).tolist() == [0, 1, 1]
    assert modes.apart(samples, means[torch.tensor([0, 0, 1])]).tolist() == [False, True, False]
    assert Modes.of(Model.from_mixture(replace(apart, means=means / 10), Flow())) is None
    one = GaussianMixture.random((2,), components=1, seed=0)
    assert Modes.of(Model.from_mixture(one, Flow())) is None


def test_samples_that_are_near_one_by_one_may_be_far_as_a_whole() -> None:
    """Shrunk samples are nearer than blurred ones, pair by pair, and farther by their distribution."""
    generator = torch.Generator().manual_seed(0)
    target, noise, other = torch.randn(3, 512, 16, generator=generator, dtype=torch.float64)
    shrunk, blurred = 0.8 * target, 0.96 * target + 0.28 * noise
    assert endings(squared_errors(shrunk, target), squared_errors(blurred, target)).decision(0.05) == "better"
    assert energy_difference(shrunk, blurred, target).low > 0
    again = energy_difference(blurred, shrunk, target)
    assert again.high < 0
    assert math.isclose(again.value, -energy_difference(shrunk, blurred, target).value)
    drawn = energy_difference(other, target, target)  # another sample of the target's own distribution
    assert drawn.low < 0 < drawn.high


def test_the_difference_of_energy_distances_holds_the_truth() -> None:
    """Of N(m, 1) to N(0, 1) in one dimension: 2 E|N(m, 2)| - 2 E|N(0, 2)|, less that of a target drawn anew, which is 0."""
    m, held = 0.5, 0
    shifted = 2 * (2 * math.exp(-m * m / 4) / math.sqrt(math.pi) + m * math.erf(m / 2)) - 4 / math.sqrt(math.pi)
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        target, other = torch.randn(2, 128, 1, generator=generator, dtype=torch.float64)
        found = energy_difference(target + m, other, target)
        held += found.low <= shifted <= found.high
    assert 0.92 <= held / 400 <= 0.99


@pytest.mark.parametrize(("low", "high", "decision"), [(-0.2, -0.1, "better"), (-0.1, 0.04, "not worse"),
                                                        (0.06, 0.2, "worse"), (-0.1, 0.2, "cannot tell")])  # fmt: skip
def test_a_difference_of_shares_is_decided_by_its_interval(low: float, high: float, decision: str) -> None:
    assert decide_share(Interval((low + high) / 2, low, high, 100), 0.05) == decision


ERRORS = {"better": (0.4, 0.6), "not worse": (0.9, 1.02), "worse": (1.1, 1.3), "cannot tell": (0.8, 1.3)}
SHARES = {"better": (-0.2, -0.1), "fewer": (-0.2, 0.1), "more": (-0.1, 0.2), "worse": (0.06, 0.2)}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("farther", [(-2.0, -1.0), (-1.0, 1.0), (1.0, 2.0)])
def test_the_distribution_decides_where_only_the_share_is_open(
    error: str, shares: str, farther: tuple[float, float]
) -> None:
    """A candidate of which no more samples end elsewhere, and whose samples as a whole are nearer, is judged by its error."""
    low, high = SHARES[shares]
    wilson = Interval(0.1, 0.0, 0.3, 48)
    found = Endings(
        Interval(math.prod(ERRORS[error]) ** 0.5, *ERRORS[error], 48),
        Interval((low + high) / 2, low, high, 48),
        (wilson, wilson),
        4,
        40,
    )
    decision = settled(found, 0.05, Interval(sum(farther) / 2, *farther, 48))
    open_only = shares == "fewer" and farther[1] < 0
    assert decision == (error if open_only else found.decision(0.05))
    verdict = Verdict(
        "x", 0.05, decision, found.error, elsewhere=found.elsewhere, shares=found.shares, alone=found.alone
    )
    assert ("nearer to the reference" in in_words(verdict)) == (open_only and error in ("better", "not worse"))


def test_trimming_leaves_out_a_tenth_at_each_end() -> None:
    x = torch.arange(20, dtype=torch.float64)
    x[0], x[-1] = -1e9, 1e9
    cut = int(TRIM * 20)
    assert math.isclose(trimmed(x).value, float(torch.arange(cut, 20 - cut, dtype=torch.float64).mean()))
    assert trimmed(x).high < 20


@given(st.integers(0, 12), st.integers(0, 12), st.integers(0, 40))
@settings(max_examples=40, deadline=None)
def test_the_ends_of_paired_shares_solve_the_score_equation(only_a: int, only_b: int, neither: int) -> None:
    """At each end D the score (only_a - only_b - n D) / sqrt(n (2 q + D (1 - D))) is 1.96, with q the likeliest share."""
    n = only_a + only_b + neither
    if n < 1:
        return
    a = torch.arange(n) < only_a
    b = (torch.arange(n) >= only_a) & (torch.arange(n) < only_a + only_b)
    found = paired_shares(a, b)
    z = float(norm.ppf(0.975))
    for end in (found.low, found.high):
        if abs(end) > 0.999 or end == found.value:
            continue

        def minus_likelihood(q: float, end: float = end) -> float:
            p = (q + end, q, 1 - 2 * q - end)
            return -sum(k * math.log(max(x, 1e-300)) for k, x in zip((only_a, only_b, neither), p, strict=True) if k)

        q = minimize_scalar(minus_likelihood, bounds=(max(0.0, -end), (1 - end) / 2), method="bounded",
                            options={"xatol": 1e-10}).x  # fmt: skip
        score = (only_a - only_b - n * end) / math.sqrt(n * (2 * q + end * (1 - end)))
        assert abs(abs(score) - z) < 0.02


def test_a_share_is_wilsons() -> None:
    """Ends of Wilson's interval solve (p - P)^2 = z^2 P (1 - P) / n."""
    there = torch.arange(50) < 7
    found = share(there)
    z = float(norm.ppf(0.975))
    for end in (found.low, found.high):
        assert math.isclose((found.value - end) ** 2, z * z * end * (1 - end) / 50)


@pytest.mark.parametrize("n", [64, 256])
def test_the_intervals_hold_the_truth(n: int) -> None:
    """Of 400 pairs with heavy tails, of which 5 % end elsewhere under one plan, each interval of level 97.5 % holds its truth in
    95 to 99.5 %: the log ratio is symmetric around log 0.8, so that this is its trimmed mean.
    """
    held = torch.zeros(2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        away = torch.rand(n, generator=generator) < 0.05
        both, own = torch.randn(2, n, generator=generator, dtype=torch.float64)
        log_b = both + own.sign() * own.square()
        log_a = both + math.log(0.8) + 3.0 * away
        found = endings((2 * log_a).exp(), (2 * log_b).exp(), (away, torch.zeros_like(away)))
        assert found.error is not None
        held += torch.tensor(
            [found.error.low <= 0.8 <= found.error.high, found.elsewhere.low <= 0.05 <= found.elsewhere.high]
        )
    assert (held / 400 >= 0.95).all()
    assert (held / 400 <= 0.995).all()


@pytest.mark.parametrize("bad", [torch.ones(7), torch.ones(9), torch.full((8,), math.nan), -torch.ones(8)])
def test_bad_errors_are_refused(bad: Tensor) -> None:
    with pytest.raises(InputError):
        endings(bad, torch.ones(8) if len(bad) != 7 else torch.ones(7))
