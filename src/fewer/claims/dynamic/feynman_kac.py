"""Feynman-Kac particles, where the guided distribution that they are for is known."""

from __future__ import annotations

from functools import cache, partial

import torch

from fewer import GaussianMixture, Model, sample, standard
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.exact import conditional, mixture_of
from fewer.claims.repeated import mean
from fewer.dynamic.feynman_kac import feynman_kac, guidance_experts
from fewer.guidance import guide
from fewer.noise import unit_noise

STRONG, ROWS = 3.0, 30
PARTICLES, POPULATIONS, STEPS = 4096, 128, 60


@cache
def two_modes() -> Model:
    """Two classes on a line, the first with modes at -1.5 and 1, of which the second class covers one."""
    one = torch.ones(4, dtype=torch.float64)
    means, deviations = torch.tensor([-1.5, 1.0, 0.2, 2.0]), torch.tensor([0.3, 0.3, 0.4, 0.3])
    exact = GaussianMixture(
        torch.tensor([0.3, 0.2, 0.3, 0.2]), means.double()[:, None], one[:, None, None],
        deviations.double()[:, None] ** 2, 0 * one, (1, 1, 1), torch.tensor([0, 0, 1, 1]),
    )  # fmt: skip
    return conditional(exact)


def true_share(model: Model, scale: float) -> float:
    """The mass above 0 of p(x | class 0)^scale p(x)^(1 - scale), by the rectangle rule."""
    grid = torch.linspace(-6, 6, 20_001, dtype=torch.float64).view(-1, 1, 1, 1)
    exact, labels = mixture_of(model).to(dtype=torch.float64), torch.zeros(len(grid), dtype=torch.int64)
    density = torch.softmax(scale * exact.log_prob(grid, labels=labels) + (1 - scale) * exact.log_prob(grid), 0)
    return float(density[grid.flatten() > 0].sum())


@claim(
    "feynman-kac/mode-weights",
    statement=f"The weight of a mode of p(x | label)^{STRONG:g} p(x)^{1 - STRONG:g} by {PARTICLES} weighted particles less the "
    f"true one: mean of {POPULATIONS} populations, within 0.05 of 0; beside, without weights, and by the flow of guidance.",
    baseline="quadrature on a line; exact mixture of two classes",
    above=-0.05,
    below=0.05,
    tier="full",
)
def mode_weights(seed: int, sabotage: bool) -> Measured:
    """The broken variant forgets the weights."""
    model = two_modes()
    truth = true_share(model, STRONG)
    weighted, forgotten, effective = [], [], []
    for number in range(POPULATIONS):
        population = partial(
            feynman_kac, guidance_experts(model, 0, STRONG), PARTICLES,
            seed=POPULATIONS * seed + number, steps=STEPS, batch=PARTICLES,
        )  # fmt: skip
        found, free = population(), population(threshold=0.0)
        weighted.append(float(found.weights[found.x.flatten() > 0].sum()) - truth)
        effective.append(min(found.effective) / PARTICLES)
        forgotten.append(float((free.x > 0).double().mean()) - truth)
    flow = sample(
        model, guide(standard("dpmpp-2m", model, ROWS, "logsnr"), STRONG), labels=0,
        noise=unit_noise(seed, range(PARTICLES), model.shape), batch=PARTICLES,
    )  # fmt: skip
    beside: Beside = {
        "true weight": truth, "without weights": mean(forgotten), "lowest effective share": mean(effective),
        "flow of guidance": mean(((flow.flatten() > 0).double() - truth).tolist()),
    }  # fmt: skip
    return Measured(mean(forgotten if sabotage else weighted), beside)
