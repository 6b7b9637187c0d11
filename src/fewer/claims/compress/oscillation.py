"""Training with few bits, with and without what keeps weights from jumping between two codes.

The figure is the ratio of paired RMSE to the samples of the network as it is, from the same noises and plan.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from torch import Tensor, nn

from fewer.claims.claim import Measured, claim
from fewer.claims.compress.quantise import Trial
from fewer.compression.quantise.ofq import OFQ, Scales
from fewer.evaluate.statistics import paired

STEPS, NOISES = 80, 8192
TWO = Trial("dit-digits", 2, (("kind", "half-step"),), NOISES)


class Learned(Scales):
    """Scales that are learnt with the weights, of Esser et al. 2020, arXiv:1902.08153; Adam makes no use of that paper's factor on
    their gradients.
    """

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.places = {name: number for number, name in enumerate(weights)}
        self.reach = nn.ParameterList([Scales.forward(self, name, w) for name, w in weights.items()])

    def forward(self, name: str, w: Tensor) -> Tensor:
        """The scale, at least 1e-8."""
        return self.reach[self.places[name]].clamp(min=1e-8)


@dataclass(frozen=True)
class LearnedScales(OFQ):
    """The same training with learned scales: the baseline."""

    def scales(self, weights: Mapping[str, Tensor]) -> Scales:
        """They begin where statistics have them."""
        return Learned(weights)


@cache
def errors(rounding: OFQ, seed: int) -> Tensor:
    """Squared errors (n,) of samples."""
    return TWO.errors(rounding, seed)


@claim(
    "ofq/against-learned-scales",
    statement=f"With weights of 2 bits, {STEPS} steps of training with scales by statistics, doubtful weights that settle last and "
    "keys that are merged into queries leave dit-digits a lower error than as many with learned scales (ratio of paired RMSE).",
    baseline="learned step sizes (LSQ), same steps, rate and states",
    below=1.0,
    tier="full",
)
def learned_scales(seed: int, sabotage: bool) -> Measured:
    """Sabotage: all weights settle from the first step on, in no band, so that none is trained."""
    other = errors(LearnedScales(STEPS, batch=32, settling=0.0, merged=False), seed)
    mine = OFQ(STEPS, batch=32, settling=1.0, band=0.0) if sabotage else OFQ(STEPS, batch=32)
    return Measured(paired.ratio(errors(mine, seed), other))
