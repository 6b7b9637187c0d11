"""Guidance away from the network itself with a layer weakened, on a trained network, by the Frechet distance to its data.

The papers weaken a middle layer of a network that can lose one and keep the image: of the bundled ones that is the transformer of
fourteen blocks.
"""

from __future__ import annotations

from functools import cache, partial

from torch import Tensor

from fewer import Plan
from fewer.claims.claim import Measured, claim
from fewer.claims.guidance import cifar
from fewer.guidance import guide
from fewer.guidance.pag import PerturbedAttention, SkipLayer
from fewer.guidance.seg import SmoothedEnergy

Kind = type[SkipLayer] | type[PerturbedAttention] | type[SmoothedEnergy]

NETWORK, LAYER = "cifar16-dit", 7  # in the middle
SAMPLES = {SkipLayer: 576, PerturbedAttention: 576, SmoothedEnergy: 4320}  # images: more where two are near each other
SCALES = (1.5, 2.5)
RULES: dict[str, Kind] = {
    "skip-layer": SkipLayer, "perturbed-attention": PerturbedAttention, "smoothed-energy": SmoothedEnergy,
}  # fmt: skip


@cache
def alone(seed: int, n: int) -> Tensor:
    """Images of the conditional network by as many passes: twice the rows."""
    return cifar.images(cifar.alone(NETWORK, 2 * cifar.ROWS), seed, n, NETWORK)


def against_alone(kind: Kind, seed: int, sabotage: bool) -> Measured:
    """The best scale, on other noise, against the network alone. The broken variant guides towards the weak pass."""

    def plan(scale: float) -> Plan:
        return guide(cifar.plain(NETWORK), kind(scale, (LAYER,)))

    other = seed + cifar.OTHER_NOISE
    scale = min(SCALES, key=lambda scale: cifar.distance(plan(scale), other, cifar.CHOOSING, NETWORK))
    mine = cifar.images(plan(2 - scale if sabotage else scale), seed, SAMPLES[kind], NETWORK)
    return cifar.nearer(mine, alone(seed, SAMPLES[kind]), seed).with_beside({"scale": scale})


for part, kind in RULES.items():
    claim(
        f"{part}/{NETWORK}",
        statement=f"With layer {LAYER} weakened, of scales {SCALES[0]:g} and {SCALES[1]:g} the best on other noise: images of "
        f"{NETWORK} are nearer to the data; difference of the Frechet distances on classifier features.",
        baseline=f"the conditional network alone of as many passes, {2 * cifar.ROWS}, same noise",
        below=0.0,
        tier="full",
    )(partial(against_alone, kind))
