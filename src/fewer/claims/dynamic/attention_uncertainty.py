"""Starting noises chosen by attention on a trained transformer: whether what comes of them is nearer to the data."""

from __future__ import annotations

import torch
from scipy.stats import spearmanr

from fewer import load, sample
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.guidance import digits
from fewer.claims.repeated import mean
from fewer.dynamic.attention_uncertainty import choose_noise, enough_layers
from fewer.noise import Stream, unit_noise

SAMPLES, CANDIDATES, MASKS = 960, 4, 6


@claim(
    "attention-uncertainty/against-any-noise",
    statement=f"Images from the noise of least disagreement of {CANDIDATES} are nearer to the digits: difference of the Frechet "
    "distances "
    "on classifier features; beside, the rank correlation of a noise's score with its image's distance to the nearest digit, "
    "and how many of the layers' scores rank noises as all do.",
    baseline=f"the first of the {CANDIDATES} noises, same labels, {digits.MODEL}, {digits.ROWS} rows (and {CANDIDATES} calls less)",
    below=0.0,
    tier="full",
)
def against_any_noise(seed: int, sabotage: bool) -> Measured:
    """The broken variant takes the noise of most disagreement."""
    model, plan, labels = load(digits.MODEL), digits.plain(), digits.classes(seed, SAMPLES)
    found = choose_noise(model, plan, SAMPLES, labels, candidates=CANDIDATES, masks=MASKS, seed=seed, batch=192)
    every = unit_noise(seed, Stream.SAMPLES.numbers(SAMPLES * CANDIDATES), model.shape)
    scores = found.scores.mean(2)
    worst = every[torch.arange(SAMPLES) * CANDIDATES + scores.argmax(1)]
    mine, its = (
        sample(model, plan, noise=noise, labels=labels, batch=192)
        for noise in (worst if sabotage else found.noise, every[::CANDIDATES])
    )
    off = torch.cdist(digits.features(its), digits.data()).amin(1)
    gaps = [a - b for a, b in zip(digits.distances(mine), digits.distances(its), strict=True)]
    beside: Beside = {
        "distance": mean(digits.distances(mine)), "baseline's": mean(digits.distances(its)),
        "accuracy": digits.accuracy(mine, labels), "its": digits.accuracy(its, labels),
        "rank correlation": float(spearmanr(scores[:, 0], off).statistic),
        "layers enough": enough_layers(found.scores), "layers": found.scores.shape[2],
    }  # fmt: skip
    return Measured(mean(gaps), beside)
