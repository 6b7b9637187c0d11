"""Denoising MCMC against runs from pure noise, at equal network evaluations a sample, on the exact score."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from fewer import GaussianMixture, Model, sample, standard
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.repeated import mean
from fewer.dynamic.denoising_mcmc import LevelLogits, denoising_mcmc, exact_levels
from fewer.evaluate.distances.energy import energy_distance
from fewer.models.schedules import VarianceExploding
from fewer.noise import unit_noise

POPULATIONS, CHAINS, DRAWS, TRUE = 24, 64, 24, 4096
SKIP, WARM_UP, ROWS = 4, 36, 3


@cache
def separated() -> Model:
    """Twelve Gaussians in 8 dimensions, apart."""
    mixture = GaussianMixture.random((1, 2, 4), components=12, seed=0)
    return Model.from_mixture(mixture, VarianceExploding(0.01, 50.0))


def levels_of(mixture: GaussianMixture, sabotage: bool) -> tuple[Tensor, LevelLogits]:
    """Levels s, log-uniform, and their exact logits; the broken variant draws them whatever the state."""
    levels = torch.logspace(math.log10(0.05), math.log10(4.0), 12, dtype=torch.float64)
    return levels, (lambda x: torch.zeros(len(x), 12)) if sabotage else exact_levels(mixture, levels)


def effective(x: Tensor) -> float:
    """Effective share of correlated samples (chains, draws, d): the variance over `draws` times that of chains' means."""
    flat = x.flatten(2).double()
    return float((flat.flatten(0, 1).var(0) / (flat.shape[1] * flat.mean(1).var(0))).mean())


@claim(
    "denoising-mcmc/equal-evaluations",
    statement=f"Samples of chains over data and level are nearer to the true distribution than DDIM's from pure noise at as many "
    "evaluations a sample, the chains' own and their warm-up among them: difference of energy distances, below 0 where they are; "
    f"mean of {POPULATIONS} populations of {CHAINS} chains with {DRAWS} draws; beside, dpmpp-2m, and the effective share of draws.",
    baseline="DDIM on equal steps of log-SNR; exact mixture of twelve Gaussians in 8 dimensions, levels drawn exactly",
    below=0.0,
    tier="full",
)
def equal_evaluations(seed: int, sabotage: bool) -> Measured:
    """The broken variant draws levels uniformly, whatever the state."""
    model = separated()
    assert model.exact is not None
    levels, logits = levels_of(model.exact, sabotage)
    found: dict[str, list[float]] = {"chains": [], "ddim": [], "dpmpp-2m": []}
    shares, costs = [], []
    for number in range(POPULATIONS):
        own = POPULATIONS * seed + number
        truth = model.exact.sample(TRUE, 7919 * own + 1)[0].flatten(1).double()
        chained = denoising_mcmc(
            model, levels, logits, CHAINS, DRAWS, skip=SKIP, warm_up=WARM_UP, denoise=ROWS, seed=own
        )
        noise = unit_noise(own, range(CHAINS * DRAWS), model.shape)
        made = {"chains": chained.x.flatten(0, 1)}
        for solver in ("ddim", "dpmpp-2m"):
            plan = standard(solver, model, math.ceil(chained.evaluations), "logsnr")
            made[solver] = sample(model, plan, noise=noise, batch=CHAINS * DRAWS)
        for name, x in made.items():
            found[name].append(energy_distance(x.flatten(1).double(), truth).value)
        shares.append(effective(chained.x))
        costs.append(chained.evaluations)
    beside: Beside = {
        **{f"{name}, distance": mean(each) for name, each in found.items()},
        "less dpmpp-2m": mean([a - b for a, b in zip(found["chains"], found["dpmpp-2m"], strict=True)]),
        "effective share of draws": mean(shares), "evaluations a sample": sum(costs) / len(costs),
    }  # fmt: skip
    return Measured(mean([a - b for a, b in zip(found["chains"], found["ddim"], strict=True)]), beside)
