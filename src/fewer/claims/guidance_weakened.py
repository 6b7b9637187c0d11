"""Guidance away from the network itself with layers weakened, on trained networks, by the Frechet distance to their digits."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from fewer.claims.claim import Check, Measured, claim
from fewer.claims.guidance_digits import (
    MODEL,
    OTHER_NOISE,
    ROWS,
    accuracy,
    classes,
    distances,
    images,
    nearer,
    plain,
)  # fmt: skip
from fewer.claims.repeated import mean
from fewer.engine import sample
from fewer.guidance import guide
from fewer.guidance.autoguidance import Autoguidance
from fewer.guidance.smoothed_energy import SmoothedEnergy
from fewer.guidance.weakened import PerturbedAttention, SkipLayer
from fewer.measures.interval import Interval
from fewer.models.load import load
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Guidance
from fewer.solvers import standard

Kind = type[SkipLayer] | type[PerturbedAttention] | type[SmoothedEnergy]

SAMPLES, CHOOSING = 576, 192
LAYERS = {"dit-digits": (2, 3), "digits": (1, 2)}  # the two in the middle, one at a time, of six and of four
SCALES = (1.5, 2.5)
DAMAGE = 0.1  # of a weight's own spread, added to a copy of the network as noise
RULES: dict[str, tuple[Kind, tuple[int, ...]]] = {
    "skip-layer": (SkipLayer, (73,)),
    "perturbed-attention": (PerturbedAttention, (354,)),
    "smoothed-energy": (SmoothedEnergy, ()),
}


@cache
def alone(seed: int, name: str) -> Tensor:
    """Images of the conditional network by as many passes: twice the rows."""
    return images(standard("dpmpp-2m", load(name), 2 * ROWS, "logsnr"), seed, SAMPLES, name)


@cache
def damaged(name: str) -> Model:
    """The network beside a copy of itself whose weights are noisy, which stands for one that was trained worse."""
    model = load(name)
    network: Any = deepcopy(model.network)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.module.parameters():
            if weight.ndim > 1:
                weight += DAMAGE * weight.std() * torch.randn(weight.shape, generator=draw)
    return replace(model, weaker=replace(model, network=network))


@cache
def by_a_worse_copy(seed: int, name: str) -> tuple[float, Tensor]:
    """The scale of autoguidance that is best on other noise, and its images."""

    def made(scale: float, seed: int, n: int) -> Tensor:
        model, plan = damaged(name), guide(plain(name), Autoguidance(scale))
        return sample(model, plan, noise=unit_noise(seed, range(n), model.shape), labels=classes(seed, n), batch=192)

    scale = min(SCALES, key=lambda scale: sum(distances(made(scale, seed + OTHER_NOISE, CHOOSING))))
    return scale, made(scale, seed, SAMPLES)


@cache
def by_itself(kind: Kind, seed: int, name: str, sabotage: bool) -> tuple[int, float, Tensor]:
    """The layer and scale that are best on other noise, and their images. The broken variant guides towards the weak pass."""

    def rule(layer: int, scale: float) -> Guidance:
        return kind(scale, (layer,))

    def far(choice: tuple[int, float]) -> float:
        plan = guide(plain(name), rule(*choice))
        return sum(distances(images(plan, seed + OTHER_NOISE, CHOOSING, name)))

    layer, scale = min(((layer, scale) for layer in LAYERS[name] for scale in SCALES), key=far)
    plan = guide(plain(name), rule(layer, 2 - scale if sabotage else scale))
    return layer, scale, images(plan, seed, SAMPLES, name)


def against_alone(kind: Kind, name: str) -> Check:
    """The rule against the network alone."""

    def check(seed: int, sabotage: bool) -> Measured:
        layer, scale, found = by_itself(kind, seed, name, sabotage)
        measured = nearer(found, alone(seed, name), seed)
        return replace(measured, beside={**measured.beside, "layer": float(layer), "scale": scale})

    return check


def against_autoguidance(kind: Kind, name: str) -> Check:
    """The rule against guidance by a network of its own that is worse; beside, the network alone."""

    def check(seed: int, sabotage: bool) -> Measured:
        layer, scale, found = by_itself(kind, seed, name, sabotage)
        its_scale, its = by_a_worse_copy(seed, name)
        measured = nearer(found, its, seed)
        beside: dict[str, Interval | float] = {
            "layer": float(layer), "scale": scale, "autoguidance's scale": its_scale,
            "alone": mean(distances(alone(seed, name))),
            "alone, accuracy": accuracy(alone(seed, name), classes(seed, SAMPLES)),
        }  # fmt: skip
        return replace(measured, beside={**measured.beside, **beside})

    return check


def choices(name: str) -> str:
    """What is chosen from."""
    first, second = LAYERS[name]
    return f"Of layers {first} and {second} and scales {SCALES[0]:g} and {SCALES[1]:g} the best on other noise"


for part, (kind, papers) in RULES.items():
    claim(
        f"{part}/digits",
        of=(("guidance", part),),
        papers=papers,
        statement=f"{choices(MODEL)}: images of {MODEL} are nearer to the digits; difference of the Frechet distances on "
        "classifier features.",
        baseline=f"the conditional network alone of as many passes, {2 * ROWS}, same noise",
        below=0.0,
    )(against_alone(kind, MODEL))
    for network in LAYERS:
        claim(
            f"{part}/against-autoguidance/{network}",
            of=(("guidance", part),),
            papers=papers,
            statement=f"{choices(network)}: images of {network} are nearer to the digits than by autoguidance; difference of "
            "the Frechet distances on classifier features, with the shares of images whose class a support vector machine "
            "finds.",
            baseline=f"autoguidance by a copy of noisy weights (a tenth of their spread) at the best of these scales, same {ROWS} "
            "rows, passes and noise; beside, the network alone of as many passes",
            below=0.0,
            tier="full",
        )(against_autoguidance(kind, network))
