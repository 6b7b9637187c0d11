"""Refinement of the starting noise, at equal passes with what it costs, where the probability of a class is known."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch

from fewer import GaussianMixture, Model, sample, standard
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.exact import conditional, mixture_of
from fewer.claims.guidance.exact_classes import bias, surety
from fewer.claims.repeated import mean
from fewer.dynamic.noise_level_guidance import refine_noise
from fewer.guidance import guide
from fewer.noise import unit_noise

SAMPLES, SCALE, PASSES, STEPS, SIZE = 3072, 1.5, 20, 2, 3.0


@cache
def overlapping() -> Model:
    """Three classes of three round Gaussians each in 16 dimensions, whose means lie close together."""
    exact = GaussianMixture.random((1, 4, 4), components=9, seed=0, classes=3)
    near = replace(exact, means=0.2 * exact.means, variances=torch.full_like(exact.variances, 0.3))
    return conditional(near)


@claim(
    "noise-level-guidance/equal-passes",
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
    wanted = (labels + 1) % 3 if sabotage else labels
    refined = refine_noise(model, short, noise, wanted, steps=STEPS, size=SIZE, batch=512)
    mine, its = (
        sample(model, each, noise=z, labels=labels, batch=512) for each, z in ((short, refined), (plan, noise))
    )
    exact = mixture_of(model)
    one, other = (surety(x, labels, exact.to(dtype=torch.float64)) for x in (mine, its))
    far, its_far = (bias(x, seed, exact, 2 * SAMPLES).value for x in (mine, its))
    beside: Beside = {
        "log p": mean(one.tolist()), "its": mean(other.tolist()), "distance": far, "its distance": its_far,
    }  # fmt: skip
    return Measured(mean((one - other).tolist()), beside)
