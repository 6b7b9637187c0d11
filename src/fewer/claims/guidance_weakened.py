"""Guidance away from the network itself with layers weakened, on a trained network, by the Frechet distance to its digits."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from fewer.claims.claim import Check, Measured, claim
from fewer.claims.guidance_digits import MODEL, OTHER_NOISE, ROWS, classes, distances, images, nearer, plain
from fewer.claims.repeated import mean
from fewer.engine import sample
from fewer.guidance import guide
from fewer.guidance.autoguidance import Autoguidance
from fewer.guidance.weakened import PerturbedAttention, SkipLayer
from fewer.measures.interval import Interval
from fewer.models.load import load
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.solvers import standard

SAMPLES, CHOOSING = 576, 192
LAYERS, SCALES = (2, 3), (1.5, 2.5)  # of six layers the two in the middle, one at a time
DAMAGE = 0.1  # of a weight's own spread, added to a copy of the network as noise


@cache
def alone(seed: int) -> Tensor:
    """Images of the conditional network by as many passes: twice the rows."""
    return images(standard("dpmpp-2m", load(MODEL), 2 * ROWS, "logsnr"), seed, SAMPLES)


@cache
def damaged() -> Model:
    """The network beside a copy of itself whose weights are noisy, which stands for one that was trained worse."""
    model = load(MODEL)
    network: Any = deepcopy(model.network)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.module.parameters():
            if weight.ndim > 1:
                weight += DAMAGE * weight.std() * torch.randn(weight.shape, generator=draw)
    return replace(model, weaker=replace(model, network=network))


@cache
def by_a_worse_copy(seed: int) -> list[float]:
    """Distances of images under autoguidance at the gentler scale."""
    noise, plan = unit_noise(seed, range(SAMPLES), damaged().shape), guide(plain(), Autoguidance(SCALES[0]))
    return distances(sample(damaged(), plan, noise=noise, labels=classes(seed, SAMPLES), batch=192))


def against_alone(kind: type[SkipLayer] | type[PerturbedAttention]) -> Check:
    """The rule at the layer and scale that are best on other noise, against the network alone."""

    def plan(layer: int, scale: float) -> Plan:
        return guide(plain(), kind(scale, (layer,)))

    def check(seed: int, sabotage: bool) -> Measured:
        """The broken variant guides towards the weak pass."""
        choices = [(layer, scale) for layer in LAYERS for scale in SCALES]
        other = seed + OTHER_NOISE
        layer, scale = min(choices, key=lambda choice: sum(distances(images(plan(*choice), other, CHOOSING))))
        found = images(plan(layer, 2 - scale if sabotage else scale), seed, SAMPLES)
        measured = nearer(found, alone(seed), seed)
        beside: dict[str, Interval | float] = {
            "layer": float(layer),
            "scale": scale,
            f"autoguidance by a noisy copy, scale {SCALES[0]:g}": mean(by_a_worse_copy(seed)),
        }
        return replace(measured, beside=measured.beside | beside)

    return check


for part, kind, papers in (("skip-layer", SkipLayer, (73,)), ("perturbed-attention", PerturbedAttention, (354,))):
    claim(
        f"{part}/digits",
        of=(("guidance", part),),
        papers=papers,
        statement=f"Of layers {LAYERS[0]} and {LAYERS[1]} and scales {SCALES[0]:g} and {SCALES[1]:g} the best on other noise: "
        f"images of {MODEL} are nearer to the digits; difference of the Frechet distances on classifier features.",
        baseline=f"the conditional network alone of as many passes, {2 * ROWS}, same noise",
        below=0.0,
    )(against_alone(kind))
