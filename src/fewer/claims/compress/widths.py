"""Scores, allocators and recoveries of channels, heads and neurons, against magnitudes, random units and no repair.

The figure is the root mean square difference of a light network's outputs from the full one's over that of the baseline, on 512
states that neither has seen. 60 % of the multiply-adds stay. Beside the figure of a cut stands the same after the repair by least
squares, since a loss that is low before a repair says little of what is left after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from fewer.claims.claim import Measured, claim
from fewer.claims.compress.beds import SHARE, Reversed, against, light, repaired, subject
from fewer.compression import Allocator, Score
from fewer.compression.allocate.distortion import Distortion
from fewer.compression.allocate.knapsack import Global, Knapsack, Uniform
from fewer.compression.recover.distillation import Distillation
from fewer.compression.recover.least_squares import LeastSquares, fitted
from fewer.compression.scores.m_fac import MFAC
from fewer.compression.scores.magnitude import Magnitude, Random
from fewer.compression.scores.taylor import GaussNewton, Taylor
from fewer.compression.subject import Subject
from fewer.models.pipelines.narrow import Bare

SCORES: dict[str, Score] = {
    "magnitude": Magnitude(),
    "taylor": Taylor(),
    "gauss-newton": GaussNewton(),
    "m-fac": MFAC(),
}
STEPS = 40


def scored(score: Score, baseline: Score, seed: int, sabotage: bool) -> Measured:
    """Both allotted by the knapsack. Sabotage: the least important units stay."""
    bed = subject(seed)
    one, kept = light(bed, Reversed(score) if sabotage else score, Knapsack())
    other, others = light(bed, baseline, Knapsack())
    after = (repaired(bed, one, kept, LeastSquares()), repaired(bed, other, others, LeastSquares()))
    return Measured(against(bed, one, other), {"after least squares": against(bed, *after)})


for name, score in SCORES.items():
    claim(
        f"{name}/against-random",
        statement=f"Cut to {SHARE:.0%} of its multiply-adds by this score, dit-digits' outputs are nearer to the full network's "
        "than by units at random (ratio of root mean square differences).",
        baseline="random units, numbers by the same knapsack",
        below=1.0,
    )(partial(scored, score, Random()))
    if name != "magnitude":
        claim(
            f"{name}/against-magnitude",
            statement=f"Cut to {SHARE:.0%} of its multiply-adds by this score, dit-digits' outputs are nearer to the full "
            "network's than by magnitudes (ratio of root mean square differences).",
            baseline="magnitudes, numbers by the same knapsack",
            below=1.0,
        )(partial(scored, score, Magnitude()))


@claim(
    "magnitude/not-worse-than-first-order",
    statement=f"Cut to {SHARE:.0%} of its multiply-adds by magnitudes that are ranked globally, dit-digits' outputs are at most "
    "5 % farther from the full network's than by first-order changes of the loss, ranked likewise, both repaired by least squares.",
    baseline="the score `taylor`, ranked globally",
    below=1.05,
)
def not_worse(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the smallest weights stay."""
    bed = subject(seed)
    one, kept = light(bed, Reversed(Magnitude()) if sabotage else Magnitude(), Global())
    other, others = light(bed, Taylor(), Global())
    after = (repaired(bed, one, kept, LeastSquares()), repaired(bed, other, others, LeastSquares()))
    return Measured(against(bed, *after), {"before the repair": against(bed, one, other)})


def allotted(allocator: Allocator, baseline: Allocator, seed: int, sabotage: bool) -> Measured:
    """Both by first-order importances, repaired. Sabotage: numbers by the reversed importances."""
    bed, score = subject(seed), Taylor()
    one, kept = light(bed, Reversed(score) if sabotage else score, allocator)
    other, others = light(bed, score, baseline)
    after = (repaired(bed, one, kept, LeastSquares()), repaired(bed, other, others, LeastSquares()))
    return Measured(against(bed, *after), {"before the repair": against(bed, one, other)})


claim(
    "knapsack/against-global",
    statement=f"At {SHARE:.0%} of dit-digits' multiply-adds the exact choice by what units cost leaves outputs nearer to the full "
    "network's than all units ranked together, whatever they cost, both repaired by least squares.",
    baseline="`global`, the same importances",
    below=1.0,
)(partial(allotted, Knapsack(), Global()))
claim(
    "knapsack/against-uniform",
    statement=f"At {SHARE:.0%} of dit-digits' multiply-adds the exact choice leaves outputs nearer to the full network's than the "
    "same share of every group, both repaired by least squares.",
    baseline="`uniform`, the same importances",
    below=1.0,
)(partial(allotted, Knapsack(), Uniform()))
claim(
    "distortion/against-uniform",
    statement=f"At {SHARE:.0%} of dit-digits' multiply-adds numbers by measured distortions leave outputs nearer to the full "
    "network's than the same share of every group, both repaired by least squares.",
    baseline="`uniform`, the same importances",
    below=1.0,
    tier="full",
)(partial(allotted, Distortion(), Uniform()))
claim(
    "distortion/against-global",
    statement=f"At {SHARE:.0%} of dit-digits' multiply-adds numbers by measured distortions leave outputs nearer to the full "
    "network's than all units ranked together, both repaired by least squares.",
    baseline="`global`, the same importances",
    below=1.0,
    tier="full",
)(partial(allotted, Distortion(), Global()))


claim(
    "repaired-distortion/against-knapsack",
    statement=f"At {SHARE:.0%} of dit-digits' multiply-adds numbers by what a repair leaves of each group's distortion leave "
    "outputs nearer to the full network's than the knapsack of first-order importances, both repaired by least squares.",
    baseline="`knapsack`, the same importances",
    below=1.0,
    tier="full",
)(partial(allotted, Distortion(points=3, repaired=True), Knapsack()))


@dataclass(frozen=True)
class Misfitted:
    """The repair with each fitted layer's outputs in the reverse order: its sabotage."""

    def recover(self, subject: Subject, light: nn.Module, kept: Mapping[str, Tensor]) -> int:
        """As the repair does."""
        made = LeastSquares().recover(subject, light, kept)
        for group in subject.groups:
            layer: Any = light.get_submodule(fitted(light, group, kept))
            last = layer.bias if isinstance(layer, Bare) else layer.weight
            last.data = last.data.flip(0)
        return made


@claim(
    "least-squares/against-no-repair",
    statement=f"Of dit-digits at {SHARE:.0%} of its multiply-adds by magnitudes, outputs are at most half as far from the full "
    "network's when layers that read removed units are fitted in closed form.",
    baseline="the same cut without a repair",
    below=0.5,
)
def repair(seed: int, sabotage: bool) -> Measured:
    """Sabotage: each fitted layer's outputs are in the reverse order."""
    bed = subject(seed)
    cut_, kept = light(bed, Magnitude(), Knapsack())
    fixed = repaired(bed, cut_, kept, Misfitted() if sabotage else LeastSquares())
    return Measured(against(bed, fixed, cut_))


@dataclass(frozen=True)
class Driven(Distillation):
    """Features are driven away from those of the full network, by a weight that the method refuses: its sabotage."""

    features: float = -1.0

    def __post_init__(self) -> None:
        """No check."""


@claim(
    "distillation/normalised-features",
    statement=f"Of dit-digits at {SHARE:.0%} of its multiply-adds, {STEPS} steps of distillation with normalised features leave "
    "outputs nearer to the full network's than as many steps on the outputs alone.",
    baseline=f"{STEPS} steps on the outputs alone, the same cut, repair and states",
    below=1.0,
    tier="full",
)
def features(seed: int, sabotage: bool) -> Measured:
    """Sabotage: features are driven away from those of the full network."""
    bed = subject(seed)
    cut_, kept = light(bed, Magnitude(), Knapsack())
    fitted = repaired(bed, cut_, kept, LeastSquares())
    taught = Driven(STEPS) if sabotage else Distillation(STEPS)
    with_, without = (repaired(bed, fitted, kept, each) for each in (taught, Distillation(STEPS, features=0.0)))
    return Measured(against(bed, with_, without), {"steps against none": against(bed, with_, fitted)})
