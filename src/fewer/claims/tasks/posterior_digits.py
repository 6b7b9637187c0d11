"""Samplers of posteriors on a trained network, by held-out images: what can be said without an exact posterior."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fewer import load, solve
from fewer.claims.claim import Measured, claim
from fewer.evaluate.distances.energy import energy_distance
from fewer.evaluate.posteriors import coverage, energy_scores
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import student
from fewer.models.bundled import digits_classifier, digits_images
from fewer.tasks.inverse import PosteriorSampler
from fewer.tasks.inverse.methods.dps import DPS
from fewer.tasks.inverse.methods.mmps import MMPS
from fewer.tasks.inverse.operators import SuperResolution

IMAGES, DRAWS, CALLS, NOISE = 160, 8, 20, 0.1
RANGE = 2.0  # of pixels, for the peak signal-to-noise ratio


@claim(
    "mmps/digits",
    statement=f"On held-out digits seen as means of 2 x 2 pixels with noise {NOISE:g}, {DRAWS} samples of the bundled network at "
    f"{CALLS} calls say how sure one may be: their central 80 % hold 80 % of the true pixels, to 5 %; beside, DPS, the peak "
    "signal-to-noise ratio of their means, the energy score, and the energy distance in a classifier's features to the digits.",
    baseline="DPS at as many calls, at the better of two strengths; held-out images that no network has seen",
    above=0.75,
    below=0.85,
    tier="full",
)
def on_digits(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the method is told a hundredth of the noise, so that its samples are too sure."""
    model, operator = load("digits"), SuperResolution((1, 8, 8))
    images, _ = digits_images("test")
    truth = images[torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[:IMAGES]]
    clean = operator(truth)
    y = clean + NOISE * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))

    def samples(method: PosteriorSampler, noise: float = NOISE) -> Tensor:
        return solve(model, operator, y, plan=CALLS, method=method, noise=noise, n=DRAWS, seed=seed).samples

    mine = samples(MMPS(1), NOISE / 100 if sabotage else NOISE)
    strengths = [samples(DPS(strength)) for strength in (0.3, 1.0)]
    its = min(strengths, key=lambda x: float(energy_scores(x, truth).mean()))
    features = digits_classifier().features
    beside: dict[str, Interval | float] = {"dps: coverage": coverage(its, truth, (0.8,), seed)[0.8]}
    for name, x in (("mmps", mine), ("dps", its)):
        beside[f"{name}: peak signal-to-noise ratio of the mean, dB"] = _ratio(x.mean(1), truth)
        found = features(x.flatten(0, 1)).view(IMAGES, DRAWS, -1)
        beside[f"{name}: energy distance in features"] = energy_distance(found[:, 0], features(images))
    beside["energy score less that of dps"] = student((energy_scores(mine, truth) - energy_scores(its, truth)).tolist())
    return Measured(coverage(mine, truth, (0.8,), seed)[0.8], beside)


def _ratio(x: Tensor, truth: Tensor) -> Interval:
    """10 log10(RANGE^2 / mean squared error), mean over images."""
    errors = (x - truth).double().square().flatten(1).mean(1)
    return student([10 * math.log10(RANGE**2 / error) for error in errors.tolist()])
