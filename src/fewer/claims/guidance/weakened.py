"""Guidance away from the network itself with a layer weakened, on trained networks, by the Frechet distance to their data.

The papers weaken a middle layer of a network that can lose one and keep the image: of the bundled ones that is the transformer of
fourteen blocks. Beside it stands what is found on the one of six.
"""

from __future__ import annotations

from functools import cache, partial
from types import ModuleType

from torch import Tensor

from fewer import Plan
from fewer.claims.claim import Measured, claim
from fewer.claims.guidance import cifar, digits
from fewer.guidance import guide
from fewer.guidance.pag import PerturbedAttention, SkipLayer
from fewer.guidance.seg import SmoothedEnergy

Kind = type[SkipLayer] | type[PerturbedAttention] | type[SmoothedEnergy]

DEEP, SHALLOW = "cifar16-dit", "dit-digits"
SAMPLES, CLOSE = {DEEP: cifar.SAMPLES, SHALLOW: 576}, 2304  # images of a comparison, and of one of two near each other
CHOOSING = {DEEP: cifar.CHOOSING, SHALLOW: 192}  # and of a choice
LAYERS = {DEEP: (7,), SHALLOW: (2, 3)}  # in the middle, one at a time, of fourteen and of six
SCALES = (1.5, 2.5)
RULES: dict[str, Kind] = {
    "skip-layer": SkipLayer, "perturbed-attention": PerturbedAttention, "smoothed-energy": SmoothedEnergy,
}  # fmt: skip
MISSING = "Of the papers' conditions a network is missing that can lose a layer and keep the image: these have six blocks and four."


def on(name: str) -> ModuleType:
    """How images of a network are made and measured."""
    return cifar if name == DEEP else digits


@cache
def alone(seed: int, name: str, n: int) -> Tensor:
    """Images of the conditional network by as many passes: twice the rows."""
    judge = on(name)
    made: Tensor = judge.images(judge.alone(name, 2 * judge.ROWS), seed, n, name)
    return made


def against_alone(kind: Kind, name: str, n: int, seed: int, sabotage: bool) -> Measured:
    """The best layer and scale, on other noise, against the network alone. The broken variant guides towards the weak pass."""
    judge, other = on(name), seed + digits.OTHER_NOISE

    def plan(layer: int, scale: float) -> Plan:
        return guide(judge.plain(name), kind(scale, (layer,)))

    choices = [(layer, scale) for layer in LAYERS[name] for scale in SCALES]
    layer, scale = min(choices, key=lambda choice: judge.distance(plan(*choice), other, CHOOSING[name], name))
    mine = judge.images(plan(layer, 2 - scale if sabotage else scale), seed, n, name)
    measured: Measured = judge.nearer(mine, alone(seed, name, n), seed)
    return measured.with_beside({"layer": float(layer), "scale": scale})


def described(name: str) -> str:
    """What is chosen from."""
    some = "layer" if len(LAYERS[name]) == 1 else "layers"
    layers = " and ".join(map(str, LAYERS[name]))
    return f"Of {some} {layers} and scales {SCALES[0]:g} and {SCALES[1]:g} the best on other noise"


for part, kind in RULES.items():
    for name, called, data, condition in ((DEEP, DEEP, "data", ""), (SHALLOW, "digits", "digits", MISSING)):
        n = CLOSE if (kind, name) == (PerturbedAttention, SHALLOW) else SAMPLES[name]
        claim(
            f"{part}/{called}",
            statement=f"{described(name)}: images of {name} are nearer to the {data}; difference of the Frechet distances on "
            "classifier features.",
            baseline=f"the conditional network alone of as many passes, {2 * on(name).ROWS}, same noise",
            below=0.0,
            tier="full",
            condition=condition,
        )(partial(against_alone, kind, name, n))
