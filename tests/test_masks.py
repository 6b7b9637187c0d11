"""Searches of masks: their exact parts against enumeration and closed forms, their plans against the budget."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import norm
from small_networks import a_plan, small_dit
from test_joint import problem, stack

from fewer.errors import InputError
from fewer.evaluate.cost.price import call_macs, plan_macs
from fewer.registry import parts
from fewer.samplers import standard
from fewer.search.limit import Limit
from fewer.search.masks.ablation_masks import AblationMasks, ablated
from fewer.search.masks.blocks import BlockMasks, cells, masked
from fewer.search.masks.choices import Array, Choices, Mask, levelled
from fewer.search.masks.conditional_poisson import drawn_set, log_inclusion, log_symmetric, stochastic_beam
from fewer.search.masks.langevin import Quadratic, annealed, flips
from fewer.search.masks.langevin_masks import LangevinMasks, quadratic
from fewer.search.masks.perturbed_masks import PerturbedMasks, smoothed_gradient
from fewer.search.masks.poisson_masks import PoissonMasks, score_gradient
from fewer.search.masks.random_masks import RandomMasks
from fewer.search.masks.sparse_masks import SparseMasks
from fewer.search.masks.spike_slab import spike_slab
from fewer.search.masks.thompson_masks import ThompsonMasks
from fewer.search.space import Space

SEARCHES = [part.make for part in parts("search") if isinstance(part.make, type) and issubclass(part.make, BlockMasks)]
CASES = st.tuples(st.integers(1, 9), st.floats(0, 1.2), st.booleans(), st.integers(0, 999))


def choices_of(case: tuple[int, float, bool, int]) -> tuple[Choices, np.random.Generator]:
    n, share, equal, seed = case
    rng = np.random.default_rng(seed)
    costs = np.full(n, 2.0) if equal else rng.uniform(0.5, 2, n)
    return Choices(costs, share * float(costs.sum())), rng


def every(n: int) -> Mask:
    return np.array(list(itertools.product((False, True), repeat=n)))


def additive(seed: int, n: int) -> Callable[[Mask], float]:
    """Errors that are the worth of what is off."""
    worth = np.random.default_rng(seed).exponential(size=n)
    return lambda mask: 0.1 + float(worth @ ~mask)


def answered(strategy: BlockMasks, choices: Choices, f: Callable[[Mask], float], count: int, seed: int) -> list[Mask]:
    """The first masks that a search asks for."""
    asking = strategy.asking(choices, np.random.default_rng(seed))
    masks = [next(asking)]
    while len(masks) < count:
        try:
            masks.append(asking.send(f(masks[-1])))
        except StopIteration:
            break
    return masks


# choices


@given(CASES)
@settings(max_examples=60, deadline=None)
def test_masks_fit_and_nothing_more_does(case) -> None:
    choices, rng = choices_of(case)
    for mask in (choices.drawn(rng), choices.best(rng.standard_normal(len(choices)))):
        assert choices.fits(mask)
        for i in np.flatnonzero(~mask):
            more = mask.copy()
            more[i] = True
            assert not choices.fits(more)


@given(CASES)
@settings(max_examples=60, deadline=None)
def test_the_best_mask_has_the_largest_sum(case) -> None:
    """As large as that of every mask that costs less than the room by the rounding of the costs."""
    choices, rng = choices_of(case)
    values = rng.exponential(size=len(choices))
    found = float(values @ choices.best(values))
    tight = replace(choices, room=choices.room * (1 - len(choices) / 4096))
    assert found >= max(float(values @ mask) for mask in every(len(choices)) if tight.fits(mask)) - 1e-12


def test_of_equal_costs_the_largest_values_are_on() -> None:
    values = np.array([-3.0, 2.0, -1.0, 5.0])
    assert Choices(np.ones(4), 3.0).best(values).tolist() == [False, True, True, True]


def test_levelled_errors() -> None:
    scores = levelled([1.0, 2.0, 4.0, 1e30])
    assert scores.mean() == pytest.approx(0)
    assert scores.std() == pytest.approx(1)
    assert (np.diff(scores) > 0).all()
    assert levelled([3.0, 3.0]).tolist() == [0.0, 0.0]


# all searches


@pytest.mark.parametrize("kind", SEARCHES)
@given(CASES)
@settings(max_examples=4, deadline=None)
def test_the_same_seed_and_errors_give_the_same_masks_and_the_first_fits(kind, case) -> None:
    choices, _ = choices_of(case)
    f = additive(case[3], len(choices))
    masks = answered(kind(), choices, f, 24, case[3])
    assert choices.fits(masks[0])
    again = answered(kind(), choices, f, 24, case[3])
    assert [m.tolist() for m in masks] == [m.tolist() for m in again]


@pytest.mark.parametrize("kind", [each for each in SEARCHES if each not in (RandomMasks, PoissonMasks)])
def test_what_is_worth_nothing_goes_off(kind) -> None:
    """All worth lies in half of the things, which fit exactly: the search comes nearer to them than random masks do."""
    n, seeds = 18, 3
    choices = Choices(np.ones(n), n / 2)

    def f(mask: Mask) -> float:
        return 0.1 + float((~mask[: n // 2]).sum())

    def best(strategy: BlockMasks, seed: int) -> float:
        return min(f(mask) for mask in answered(strategy, choices, f, 60, seed) if choices.fits(mask))

    mine, random = (sum(best(each, seed) for seed in range(seeds)) for each in (kind(), RandomMasks()))
    assert mine < random


# ablation


@given(st.integers(2, 12), st.integers(0, 999), st.floats(0.1, 0.9))
@settings(max_examples=40, deadline=None)
def test_ablation_in_one_group_keeps_what_is_worth_most(n: int, seed: int, share: float) -> None:
    """Where errors add up and costs are equal, the ablation of all things at once is exact."""
    choices, f = Choices(np.ones(n), share * n), additive(seed, n)
    steps = ablated(choices, n, np.random.default_rng(seed))
    mask, asked = next(steps), 1
    try:
        while True:
            mask = steps.send(f(mask))
            asked += 1
    except StopIteration as ended:
        found = ended.value
    assert choices.fits(found)
    assert f(found) == pytest.approx(min(f(m) for m in every(n) if choices.fits(m)))
    assert asked == 1 + n


def test_exchanges_never_make_it_worse() -> None:
    choices, f = Choices(np.ones(10), 5.0), additive(3, 10)
    masks = answered(AblationMasks(few=10), choices, f, 400, 0)
    assert min(map(f, filter(choices.fits, masks))) == pytest.approx(min(f(m) for m in every(10) if choices.fits(m)))


# regularised Langevin dynamics


@given(st.integers(2, 12), st.floats(0.05, 0.95), st.floats(1e-6, 10), st.integers(0, 999))
@example(n=2, share=0.0625, temperature=1e-3, seed=3)
@settings(max_examples=60, deadline=None)
def test_the_expected_number_of_flips_is_the_distance(n: int, share: float, temperature: float, seed: int) -> None:
    delta = np.random.default_rng(seed).normal(size=(3, n))
    p = flips(delta, temperature, share * n)
    np.testing.assert_allclose(p.sum(1), share * n, rtol=1e-3)
    ranked = np.take_along_axis(p, np.argsort(delta, axis=1), axis=1)
    assert (np.diff(ranked, axis=1) >= 0).all()


def test_the_gradient_is_that_of_the_energy() -> None:
    rng = np.random.default_rng(0)
    energy = Quadratic(rng.normal(size=5), rng.normal(size=(5, 5)))
    x, step = rng.normal(size=(2, 5)), 1e-6
    _, gradient = energy(x)
    for i, e in enumerate(np.eye(5)):
        np.testing.assert_allclose(
            (energy(x + step * e)[0] - energy(x - step * e)[0]) / (2 * step), gradient[:, i], atol=1e-6
        )


@pytest.mark.parametrize("n", [8, 14])
def test_annealing_finds_the_least_energy(n: int) -> None:
    """Against all 2^n states of random quadratic energies."""
    for seed in range(2):
        rng = np.random.default_rng([n, seed])
        energy = Quadratic(rng.normal(size=n), rng.normal(size=(n, n)))
        start = rng.random((16, n)) < 0.5
        states, least = annealed(energy, start, 150, 2.0, 4.0, rng)
        np.testing.assert_allclose(energy(states.astype(np.float64))[0], least)
        assert least.min() == pytest.approx(energy(every(n).astype(np.float64))[0].min())


def test_the_model_of_errors_is_the_kernel_ridge_regression() -> None:
    rng = np.random.default_rng(1)
    masks, y = rng.random((30, 6)) < 0.5, rng.normal(size=30)
    x = (2.0 * masks - 1) / math.sqrt(6)
    kernel = (1 + x @ x.T) ** 2
    fitted = kernel @ np.linalg.solve(kernel + 0.1 * np.eye(30), y)
    energy = quadratic(masks, y, 0.1)(masks.astype(np.float64))[0]
    assert np.ptp(fitted - energy) < 1e-9


# perturbed top-k


def test_the_smoothed_gradient_is_that_of_the_smoothed_error() -> None:
    """Of two things one is on: P(the first) = Phi((theta_0 - theta_1) / (sqrt 2 sigma))."""
    choices, errors = Choices(np.ones(2), 1.0), {(True, False): 0.3, (False, True): 1.5}
    theta, sigma = np.array([0.4, -0.1]), 0.7
    noise = np.random.default_rng(0).standard_normal((10_000, 2))
    values = np.array([errors[tuple(choices.best(theta + sigma * z).tolist())] for z in noise])
    reach = math.sqrt(2) * sigma

    def smoothed(at: Array) -> float:
        first = float(norm.cdf((at[0] - at[1]) / reach))
        return 0.3 * first + 1.5 * (1 - first)

    step = 1e-5
    true = [(smoothed(theta + step * e) - smoothed(theta - step * e)) / (2 * step) for e in np.eye(2)]
    spread = 5 * np.abs(values).max() / (sigma * math.sqrt(len(noise)))
    np.testing.assert_allclose(smoothed_gradient(values, noise, sigma), true, atol=spread)


# conditional Poisson


@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 999))
@settings(max_examples=60, deadline=None)
def test_inclusion_probabilities_by_enumeration(n: int, k: int, seed: int) -> None:
    log_w = np.random.default_rng(seed).normal(scale=3, size=n)
    k = min(n, k)
    sets = list(itertools.combinations(range(n), k))
    chance = np.array([math.exp(log_w[list(each)].sum()) for each in sets])
    assert math.exp(log_symmetric(log_w, k)[-1, k]) == pytest.approx(chance.sum())
    chance /= chance.sum()
    true = [sum(p for p, each in zip(chance, sets, strict=True) if i in each) for i in range(n)]
    np.testing.assert_allclose(np.exp(log_inclusion(log_w, k)), true, rtol=1e-9)
    assert np.exp(log_inclusion(log_w, k)).sum() == pytest.approx(k)


def test_sets_are_drawn_by_the_product_of_their_weights() -> None:
    log_w, k, draws = np.log([0.2, 1.0, 3.0, 0.7]), 2, 5_000
    rng = np.random.default_rng(0)
    counts: dict[tuple[int, ...], int] = {}
    for _ in range(draws):
        found = tuple(drawn_set(log_w, k, rng))
        counts[found] = counts.get(found, 0) + 1
    total = math.exp(log_symmetric(log_w, k)[-1, k])
    for each in itertools.combinations(range(4), k):
        p = math.exp(log_w[list(each)].sum()) / total
        assert abs(counts.get(each, 0) / draws - p) < 5 * math.sqrt(p * (1 - p) / draws)


def test_the_beam_has_no_repeats_and_its_weights_are_unbiased() -> None:
    """The Horvitz-Thompson sum of an arbitrary function, over the masks that fit."""
    choices, logits = Choices(np.array([1.0, 2.0, 1.0, 1.0]), 3.0), np.array([0.5, -0.3, 0.1, 1.0])
    fitting = [mask for mask in every(4) if choices.fits(mask)]
    f = {
        mask.tobytes(): value
        for mask, value in zip(fitting, np.random.default_rng(1).normal(size=len(fitting)), strict=True)
    }
    true = sum(float(np.prod(np.where(mask, expit(logits), expit(-logits)))) * f[mask.tobytes()] for mask in fitting)
    rng, sums = np.random.default_rng(2), []
    for _ in range(1500):
        beam = stochastic_beam(logits, choices, 3, rng)
        assert len({mask.tobytes() for mask in beam.masks}) == len(beam.masks) == 3
        sums.append(float(beam.weights @ [f[mask.tobytes()] for mask in beam.masks]))
    assert abs(np.mean(sums) - true) < 5 * np.std(sums) / math.sqrt(len(sums))


def test_a_beam_of_all_masks_is_exact() -> None:
    choices, theta = Choices(np.ones(3), 3.0), np.array([0.4, -1.0, 0.2])
    beam = stochastic_beam(theta, choices, 8, np.random.default_rng(0))
    assert len(beam.masks) == 8
    assert beam.weights.sum() == pytest.approx(1)
    values = np.random.default_rng(1).normal(size=8)

    def expected(at: Array) -> float:
        return float(
            sum(np.prod(np.where(m, expit(at), expit(-at))) * v for m, v in zip(beam.masks, values, strict=True))
        )

    step = 1e-6
    true = [(expected(theta + step * e) - expected(theta - step * e)) / (2 * step) for e in np.eye(3)]
    np.testing.assert_allclose(score_gradient(theta, beam, values), true, atol=1e-8)


def test_a_distribution_learns_of_errors() -> None:
    choices, f = Choices(np.ones(12), 6.0), additive(0, 12)
    errors = [f(mask) for mask in answered(PoissonMasks(), choices, f, 400, 0)]
    assert np.mean(errors[-50:]) < np.mean(errors[:50]) - 2 * np.std(errors[:50]) / math.sqrt(50)


# spike and slab


def test_the_posterior_is_exact_where_columns_are_orthogonal() -> None:
    """Each coefficient's chance is then by Bayes' rule from its own projection x'y / |x|^2 ~ N(b, v / |x|^2)."""
    rng = np.random.default_rng(0)
    x = np.linalg.qr(rng.normal(size=(12, 4)))[0] * np.array([1.0, 2.0, 0.5, 3.0])
    y, variance, share, slab = rng.normal(size=12), 0.4, 0.3, 1.7
    found = spike_slab(x, y, variance, share, slab)
    squares = (x**2).sum(0)
    seen, noise = x.T @ y / squares, variance / squares
    on = share * norm.pdf(seen, scale=np.sqrt(noise + slab))
    off = (1 - share) * norm.pdf(seen, scale=np.sqrt(noise))
    np.testing.assert_allclose(found.chance, on / (on + off))
    np.testing.assert_allclose(found.mean, seen * slab / (slab + noise))
    np.testing.assert_allclose(found.deviation**2, slab * noise / (slab + noise))


def test_the_support_of_a_sparse_model_is_found() -> None:
    rng = np.random.default_rng(3)
    x, b = rng.normal(size=(60, 30)), np.zeros(30)
    b[[2, 11, 25]] = 1.5, -2.0, 1.0
    found = spike_slab(x, x @ b + 0.1 * rng.normal(size=60), 0.01, 0.1, 1.0)
    assert np.flatnonzero(found.chance > 0.5).tolist() == [2, 11, 25]
    np.testing.assert_allclose(found.chance * found.mean, b, atol=0.1)
    drawn = np.stack([found.drawn(rng) for _ in range(500)])
    np.testing.assert_allclose(drawn.mean(0), found.chance * found.mean, atol=0.05)


# Thompson sampling over searches


def test_the_search_that_finds_good_masks_is_asked_more() -> None:
    """One arm asks for the best mask again and again with a little change, the other for random ones."""

    class Knows(RandomMasks):
        def asking(self, choices: Choices, rng: np.random.Generator):
            while True:
                mask = np.arange(len(choices)) < choices.room
                mask[rng.integers(len(choices))] = False
                yield mask

    choices = Choices(np.ones(20), 10.0)
    turns = []

    class Counts(RandomMasks):
        def asking(self, choices: Choices, rng: np.random.Generator):
            for mask in super().asking(choices, rng):
                turns.append(mask)
                yield mask

    strategy = ThompsonMasks(arms=(Counts(), Knows()))
    answered(strategy, choices, lambda mask: 0.1 + float((~mask[:10]).sum()), 200, 0)
    assert len(turns) < 60


# on networks


def strategy_of(kind: type[BlockMasks]) -> BlockMasks:
    model = stack()
    return kind(limit=Limit(model, "macs", 3.2 * call_macs(model)), masks=12, drift=2, candidates=15)


@pytest.mark.parametrize(
    "kind", [*SEARCHES[:3], *(pytest.param(kind, marks=pytest.mark.slow) for kind in SEARCHES[3:])]
)
def test_plans_keep_the_budget_and_a_search_goes_on_to_the_bit(kind) -> None:
    model, strategy = stack(), strategy_of(kind)
    space = Space(model, (standard("dpmpp-2m", model, 3, "logsnr"), standard("ddim", model, 3, "karras")))
    found = list(strategy.search(problem(model, 8), space, [], 0))
    assert (
        len({tuple(c.state["mask"]) for c in found if "mask" in c.state}) == sum("mask" in c.state for c in found) <= 12
    )
    for candidate in found:
        if "rows" in candidate.state or "stage" in candidate.state:
            assert plan_macs(model, candidate.plan) <= strategy.limit.most
    assert plan_macs(model, strategy.choose(found).plan) <= strategy.limit.most
    for cut in (1, len(found) // 2):
        again = [*found[:cut], *strategy.search(problem(model, 8), space, found[:cut], 0)]
        assert [(c.error, c.state) for c in again] == [(c.error, c.state) for c in found]


def test_masks_are_blocks_in_rows() -> None:
    model, plan = small_dit(), a_plan(4)
    limit = Limit(model, "macs", 3.4 * call_macs(model))
    names = ("block.2",)
    choices = cells(plan, names, limit)
    assert choices is not None
    assert len(choices) == 3
    assert choices.costs.tolist() == [limit.saving(name, 1) for name in names for _ in range(3)]
    for bits in every(3):
        assert choices.fits(bits) == (plan_macs(model, masked(plan, names, bits)) <= limit.most)
    assert masked(plan, names, every(3)[-1]).rows == plan.rows
    assert cells(plan, names, Limit(model, "macs", 1.0)) is None


def test_a_budget_is_needed() -> None:
    space = Space(stack(), (standard("ddim", stack(), 3, "logsnr"),))
    with pytest.raises(InputError, match=r"random-masks needs a budget .* give macs or ms"):
        next(RandomMasks().search(problem(stack(), 2), space, [], 0))


def test_every_search_of_masks_is_here() -> None:
    assert {AblationMasks, LangevinMasks, PerturbedMasks, PoissonMasks, RandomMasks, SparseMasks, ThompsonMasks} == set(
        SEARCHES
    )
