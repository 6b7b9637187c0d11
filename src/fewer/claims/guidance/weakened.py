"""Guidance away from the network itself with layers weakened, on trained networks, by the Frechet distance to their digits."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from fewer import Model, load, standard
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.guidance import digits
from fewer.claims.repeated import mean
from fewer.guidance import guide
from fewer.guidance.autoguidance import Autoguidance
from fewer.guidance.pag import PerturbedAttention, SkipLayer
from fewer.guidance.seg import SmoothedEnergy

Kind = type[SkipLayer] | type[PerturbedAttention] | type[SmoothedEnergy]

SAMPLES, CLOSE, CHOOSING = (
    576,
    2304,
    192,
)  # images of a comparison, of one of two that are near each other, and of a choice
LAYERS = {"dit-digits": (2, 3), "digits": (1, 2)}  # the two in the middle, one at a time, of six and of four
SCALES = (1.5, 2.5)
DAMAGE = 0.1  # of a weight's own spread, added to a copy of the network as noise
RULES: dict[str, Kind] = {
    "skip-layer": SkipLayer, "perturbed-attention": PerturbedAttention, "smoothed-energy": SmoothedEnergy,
}  # fmt: skip


@cache
def alone(seed: int, name: str, n: int = SAMPLES) -> Tensor:
    """Images of the conditional network by as many passes: twice the rows."""
    return digits.images(standard("dpmpp-2m", load(name), 2 * digits.ROWS, "logsnr"), seed, n, name)


@cache
def damaged(name: str) -> Model:
    """The network beside a copy of itself whose weights are noisy, which stands for one that was trained worse."""
    model = load(name)
    network: Any = deepcopy(model.network)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.module.parameters():
            if weight.ndim > 1:
                weight += DAMAGE * weight.std() * torch.randn(weight.shape, dtype=torch.float32, generator=draw)
    return replace(model, weaker=replace(model, network=network))


@cache
def by_a_worse_copy(seed: int, name: str) -> tuple[float, Tensor]:
    """The scale of autoguidance that is best on other noise, and its images."""
    plans = {scale: guide(digits.plain(name), Autoguidance(scale)) for scale in SCALES}
    other, model = seed + digits.OTHER_NOISE, damaged(name)
    scale = min(plans, key=lambda scale: digits.distance(plans[scale], other, CHOOSING, model))
    return scale, digits.images(plans[scale], seed, SAMPLES, model)


@cache
def by_itself(kind: Kind, seed: int, name: str, sabotage: bool, n: int = SAMPLES) -> tuple[int, float, Tensor]:
    """The layer and scale that are best on other noise, and their images. The broken variant guides towards the weak pass."""
    plans = {(k, scale): guide(digits.plain(name), kind(scale, (k,))) for k in LAYERS[name] for scale in SCALES}
    layer, scale = min(
        plans, key=lambda choice: digits.distance(plans[choice], seed + digits.OTHER_NOISE, CHOOSING, name)
    )
    plan = guide(digits.plain(name), kind(2 - scale if sabotage else scale, (layer,)))
    return layer, scale, digits.images(plan, seed, n, name)


def against_alone(kind: Kind, name: str, n: int, seed: int, sabotage: bool) -> Measured:
    """The rule against the network alone."""
    layer, scale, found = by_itself(kind, seed, name, sabotage, n)
    return digits.nearer(found, alone(seed, name, n), seed).with_beside({"layer": float(layer), "scale": scale})


def against_autoguidance(kind: Kind, name: str, seed: int, sabotage: bool) -> Measured:
    """The rule against guidance by a network of its own that is worse; beside, the network alone."""
    layer, scale, found = by_itself(kind, seed, name, sabotage)
    its_scale, its = by_a_worse_copy(seed, name)
    beside: Beside = {
        "layer": float(layer), "scale": scale, "autoguidance's scale": its_scale,
        "alone": mean(digits.distances(alone(seed, name))),
        "alone, accuracy": digits.accuracy(alone(seed, name), digits.classes(seed, SAMPLES)),
    }  # fmt: skip
    return digits.nearer(found, its, seed).with_beside(beside)


MISSING = "Of the papers' conditions a network is missing that can lose a layer and keep the image: these have six blocks and four."


def choices(name: str) -> str:
    """What is chosen from."""
    first, second = LAYERS[name]
    return f"Of layers {first} and {second} and scales {SCALES[0]:g} and {SCALES[1]:g} the best on other noise"


for part, kind in RULES.items():
    claim(
        f"{part}/digits",
        statement=f"{choices(digits.MODEL)}: images of {digits.MODEL} are nearer to the digits; difference of the Frechet "
        "distances on classifier features.",
        baseline=f"the conditional network alone of as many passes, {2 * digits.ROWS}, same noise",
        below=0.0,
        condition=MISSING,
    )(partial(against_alone, kind, digits.MODEL, CLOSE if kind is PerturbedAttention else SAMPLES))
    for network in LAYERS:
        claim(
            f"{part}/against-autoguidance/{network}",
            statement=f"{choices(network)}: images of {network} are nearer to the digits than by autoguidance; difference of "
            "the Frechet distances on classifier features, with the shares of images whose class a support vector machine "
            "finds.",
            baseline=f"autoguidance by a copy of noisy weights (a tenth of their spread) at the best of these scales, same "
            f"{digits.ROWS} rows, passes and noise; beside, the network alone of as many passes",
            below=0.0,
            tier="full",
            condition=MISSING,
        )(partial(against_autoguidance, kind, network))
