"""What edits are held against, where their law is known: image-to-image by SDEdit, and DDIM inversion."""

from __future__ import annotations

import torch

import fewer
from fewer import GaussianMixture, Model
from fewer.claims.claim import Measured, claim
from fewer.claims.editing.beds import SIDE, STYLES, mixture, model
from fewer.evaluate.distances.energy import energy_distance
from fewer.evaluate.statistics.paired import ratio, squared_errors
from fewer.models.schedules import Flow
from fewer.tasks.editing.methods.rf_inversion import RFInversion

IMAGES, LEVEL, CALLS, MARGIN = 1024, 0.7, 40, 0.05
DIM, SAMPLES, FEW, HALVED = 4, 256, 40, 0.6


@claim(
    "sdedit/law",
    statement=f"True pictures of a style, noised to level {LEVEL:g} and denoised towards that style in {CALLS} calls of "
    "DPM-Solver++(2M), have its law: energy distance to other true pictures of it.",
    baseline=f"0, within {MARGIN:g}; exact denoiser of pictures of two factors, {IMAGES} of them",
    below=MARGIN,
)
def law(seed: int, sabotage: bool) -> Measured:
    """The broken variant is asked for another style."""
    style = seed % STYLES
    true = [mixture(style).sample(IMAGES, seed=2 * seed + k)[0].float().view(-1, 1, SIDE, SIDE) for k in (0, 1)]
    plan = fewer.standard("dpmpp-2m", model(), CALLS, "uniform")
    asked = (style + 1) % STYLES if sabotage else style
    made = fewer.edit(
        model(), true[0], asked, method="sdedit", plan=plan, strength=LEVEL, seed=seed, batch=IMAGES
    ).images
    return Measured(energy_distance(made.flatten(1), true[1].flatten(1)))


@claim(
    "ddim-inversion/order",
    statement=f"Up to noise and down again the error of samples in {2 * FEW} levels is half of that in {FEW}, as of a method of "
    "first order: ratio of RMSEs.",
    baseline=f"half as many levels; exact Gaussian in {DIM} dimensions, {SAMPLES} samples",
    below=HALVED,
)
def order(seed: int, sabotage: bool) -> Measured:
    """The broken variant is steered towards fresh noise on the way up."""
    law = GaussianMixture.random(DIM, 1, seed=seed)
    exact, samples = Model.from_mixture(law, Flow()), law.sample(SAMPLES, seed=seed)[0].float()
    method = RFInversion(gamma=0.5, eta=0.0) if sabotage else "ddim-inversion"

    def error(calls: int) -> torch.Tensor:
        found = fewer.edit(exact, samples, method=method, plan=calls, seed=seed, batch=SAMPLES)
        return squared_errors(found.images, samples)

    return Measured(ratio(error(2 * FEW), error(FEW)))
