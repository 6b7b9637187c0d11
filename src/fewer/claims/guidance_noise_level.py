"""Refinement of the starting noise, at equal passes with what it costs, where the probability of a class is known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from fewer import sample, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import mean
from fewer.guidance import guide
from fewer.measures.frechet import frechet
from fewer.measures.interval import Interval
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import betas, discrete
from fewer.noise import unit_noise
from fewer.processes.noise_level import refine_noise

SAMPLES, SCALE, PASSES, STEPS, SIZE = 3072, 1.5, 20, 2, 3.0


@cache
def overlapping() -> Model:
    """Three classes of three round Gaussians each in 16 dimensions, whose means lie close together."""
    exact = GaussianMixture.random((1, 4, 4), components=9, seed=0, classes=3)
    near = replace(exact, means=0.2 * exact.means, variances=torch.full_like(exact.variances, 0.3))
    return Model.from_mixture(near, discrete(betas("scaled_linear"), name="scaled_linear"), conditional=True)


@claim(
    "noise-level-guidance/equal-passes",
    of=(("processes", "noise-level-guidance"),),
    papers=(41,),
    statement=f"{STEPS} refinements of the noise (size {SIZE:g}) before classifier-free guidance at scale {SCALE:g}, at {PASSES} "
    "passes in all, make the class surer: mean gain of log p(label | x); beside, the squared Frechet distance to the class's "
    "true distribution, averaged over classes.",
    baseline=f"all {PASSES} passes spent on rows, same noise; dpmpp-2m, exact mixture of three classes in 16 dimensions",
    above=0.0,
)
def equal_passes(seed: int, sabotage: bool) -> Measured:
    """The broken variant refines for another label."""
    model, labels = overlapping(), torch.arange(SAMPLES) % 3
    noise = unit_noise(seed, range(SAMPLES), model.shape)
    plan, short = (guide(standard("dpmpp-2m", model, n, "logsnr"), SCALE) for n in (PASSES // 2, PASSES // 2 - STEPS))
    asked = (labels + 1) % 3 if sabotage else labels
    refined = refine_noise(model, short, noise, asked, steps=STEPS, size=SIZE, batch=512)
    mine, its = (
        sample(model, each, noise=z, labels=labels, batch=512) for each, z in ((short, refined), (plan, noise))
    )
    one, other = surety(mine, labels), surety(its, labels)
    beside: dict[str, Interval | float] = {"log p": mean(one.tolist()), "its": mean(other.tolist())}
    beside |= {"distance": distance(mine, seed), "its distance": distance(its, seed)}
    return Measured(mean((one - other).tolist()), beside)


def surety(x: Tensor, labels: Tensor) -> Tensor:
    """Log p(label | x) - log p(label) of each sample."""
    exact = overlapping().exact
    assert exact is not None
    density = exact.to(dtype=torch.float64).log_prob
    return density(x.double(), labels=labels) - density(x.double())


def distance(x: Tensor, seed: int) -> float:
    """The squared Frechet distance to the truth, averaged over the classes that samples have in turn."""
    exact = overlapping().exact
    assert exact is not None
    n = 2 * SAMPLES
    truth = [exact.sample(n, 7919 * seed + k, torch.full((n,), k))[0].flatten(1).double() for k in range(3)]
    return sum(frechet(x[k::3].flatten(1).double(), truth[k]).value for k in range(3)) / 3
