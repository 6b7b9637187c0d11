"""Correctors: detailed balance, invariance of a level's law, what steps cost, and plans that stay as they are without."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fewer
from fewer.batch import inner
from fewer.dynamic import Law
from fewer.dynamic.langevin import Langevin, Mala
from fewer.dynamic.predictor_corrector import PredictorCorrector
from fewer.errors import InputError
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Flow
from fewer.testing import models

MIXTURE = GaussianMixture.random((1, 1, 2), components=3, seed=3)
MODEL = Model.from_mixture(MIXTURE, Flow(), dtype=torch.float64)
N = 16


def law(mixture: GaussianMixture, tau: float) -> Law:
    """The exact law of a mixture at a level."""

    def score(x: Tensor) -> Tensor:
        return ((1 - tau) * mixture.denoise(x, tau) - x) / tau**2

    return Law(tau, score, lambda x: mixture.log_prob(x, tau))


def at_level(mixture: GaussianMixture, tau: float, n: int, seed: int = 0) -> Tensor:
    noise = torch.randn(n, *mixture.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (1 - tau) * mixture.sample(n, seed + 1)[0] + tau * noise


def unit(n: int, seed: int, *shape: int) -> Tensor:
    return torch.randn(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("solver", ["ddim", "ancestral"])
@pytest.mark.parametrize("options", [{"steps": 0}, {"within": (0.9999, 1.0)}])
def test_without_correction_it_is_the_plan(solver: str, options: dict[str, Any]) -> None:
    model = models.mixture()
    plan = fewer.standard(solver, model, 6, "logsnr")
    made = PredictorCorrector(plan, Langevin(), **options).sample(model, N, seed=4, batch=7)
    torch.testing.assert_close(made.x, fewer.sample(model, plan, N, seed=4, batch=7), rtol=0, atol=0)
    assert made.evaluations == plan.nfe
    assert made.accepted == ()


@pytest.mark.parametrize("corrector", [Langevin(0.1), Langevin(0.1, norms=True), Mala(), Mala(0.3, "density")])
@pytest.mark.parametrize("steps", [1, 3])
def test_calls_are_counted_as_they_are_made(corrector: Any, steps: int) -> None:
    calls: list[int] = []
    plan = fewer.standard("ddim", MODEL, 5, "logsnr")

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        calls.append(len(x))
        return MODEL.network(x, t, labels)

    counted = replace(MODEL, network=network)
    made = PredictorCorrector(plan, corrector, steps).sample(counted, N, batch=N)
    assert made.evaluations == 5 + 4 * steps == len(calls)
    assert len(made.accepted) == 4
    assert all(0 <= share <= 1 for share in made.accepted)
    some = PredictorCorrector(plan, corrector, steps, within=(0.0, 0.5))
    assert some.corrected == tuple(n for n, row in enumerate(plan.rows) if row.tau <= 0.5)
    assert some.sample(counted, N, batch=N).evaluations == 5 + steps * len(some.corrected)


@settings(deadline=None, max_examples=6)
@given(tau=st.floats(0.05, 0.95), size=st.floats(0.05, 1.5), seed=st.integers(0, 99))
def test_detailed_balance(tau: float, size: float, seed: int) -> None:
    """p(x) q(y | x) min(1, r) is the same from x to y and back: log r changes its sign, found by the decision's threshold."""
    here, h = law(MIXTURE, tau), size * tau**2
    x, z = at_level(MIXTURE, tau, 8, seed), unit(8, seed + 1, *MIXTURE.shape)
    score = here.score(x)
    y = x + h * score + math.sqrt(2 * h) * z
    back = (x - y - h * here.score(y)) / math.sqrt(2 * h)

    def flow(a: Tensor, noise: Tensor) -> Tensor:
        """log p(a) q(b | a) min(1, r) up to a constant, r bracketed by decisions with many thresholds."""
        low, high = torch.full((8,), -60.0, dtype=torch.float64), torch.zeros(8, dtype=torch.float64)
        for _ in range(32):
            middle = (low + high) / 2
            took = Mala(size, "density").move(here, a, here.score(a), noise, middle).accepted
            low, high = torch.where(took, middle, low), torch.where(took, high, middle)
        assert here.log_density is not None
        return here.log_density(a) - inner(noise, noise).flatten() / 2 + high

    torch.testing.assert_close(flow(x, z), flow(y, back), rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=25)
@given(tau=st.floats(0.05, 0.95), size=st.floats(0.05, 3.0), seed=st.integers(0, 99))
def test_the_ratio_along_the_line_is_exact_for_a_gaussian(tau: float, size: float, seed: int) -> None:
    one = GaussianMixture.random((1, 1, 3), components=1, seed=seed)
    here, x = law(one, tau), at_level(one, tau, 64, seed)
    z, log_u = unit(64, seed, 1, 1, 3), unit(64, seed + 1).abs().neg()
    line, density = (Mala(size, ratio).move(here, x, here.score(x), z, log_u) for ratio in ("line", "density"))
    torch.testing.assert_close(line.x, density.x)
    assert line.score is not None
    torch.testing.assert_close(line.score, here.score(line.x))


@pytest.mark.parametrize(
    ("corrector", "stays"), [(Mala(0.8, "density"), True), (Mala(0.8), True), (Langevin(0.63, norms=False), False)]
)
def test_adjusted_steps_leave_the_law_as_it_is(corrector: Any, stays: bool) -> None:
    """Exact draws of a level stay so; unadjusted ones of the same size (h = 0.8 tau^2) spread, as the test can see."""
    n, tau = 20_000, 0.3
    here, x = law(MIXTURE, tau), at_level(MIXTURE, tau, n)
    assert here.log_density is not None
    before = here.log_density(x)
    for k in range(6):
        log_u = torch.special.log_ndtr(unit(n, 20 + k))
        x = corrector.move(here, x, here.score(x), unit(n, 10 + k, *MIXTURE.shape), log_u).x
    after = here.log_density(x)
    gap = float((after.mean() - before.mean()).abs()) / math.sqrt(float(after.var() + before.var()) / n)
    assert (gap < 4) == stays, gap


@given(v=st.floats(0.01, 4.0), tau=st.floats(0.1, 0.9), snr=st.floats(0.05, 0.5))
def test_the_bias_of_a_fixed_step_on_a_gaussian(v: float, tau: float, snr: float) -> None:
    """The variance w = V / (1 - h / (2 V)) is kept, V that of the level; h = 2 (snr tau)^2."""
    total = (1 - tau) ** 2 * v + tau**2
    h = 2 * (snr * tau) ** 2
    here = Law(tau, lambda x: -x / total)
    one, none = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    kept = float(Langevin(snr).move(here, one, here.score(one), none, none[0]).x)
    added = float(Langevin(snr).move(here, none, none, one, none[0]).x)
    w = total / (1 - h / (2 * total))
    assert kept**2 * w + added**2 == pytest.approx(w)


def test_the_step_from_norms_has_the_ratio_that_was_asked() -> None:
    x, z = unit(5, 0, 1, 2, 2), unit(5, 1, 1, 2, 2)
    g = 3 * unit(5, 2, 1, 2, 2)
    moved = Langevin(0.2, norms=True).move(Law(0.5, lambda x: g), x, g, z, unit(5, 3))
    drift = (
        moved.x - x - Langevin(0.2, norms=True).move(Law(0.5, lambda x: g), x, g, -z, unit(5, 3)).x + x
    ) / 2  # the noise's part
    pulled = moved.x - x - drift
    torch.testing.assert_close(pulled.flatten(1).norm(dim=1), 0.2 * drift.flatten(1).norm(dim=1))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda plan: Langevin(0.0), "snr is 0"),
        (lambda plan: Mala(math.nan), "size is nan"),
        (lambda plan: Mala(0.1, "path"), "ratio is 'path'"),
        (lambda plan: PredictorCorrector(plan, Langevin(), -1), "steps is -1"),
        (lambda plan: PredictorCorrector(plan, Langevin(), 1, (0.5, 0.5)), "within is"),
        (
            lambda plan: PredictorCorrector(fewer.standard("dpmpp-2m", MODEL, 4), Langevin()),
            "row 2 names more than its own state",
        ),
        (
            lambda plan: PredictorCorrector(plan, Mala(ratio="density")).sample(replace(MODEL, exact=None), 2),
            "needs a law whose density",
        ),
    ],
)
def test_bad_input(make: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as told:
        make(fewer.standard("ddim", MODEL, 4))
    assert "\n" not in str(told.value)
