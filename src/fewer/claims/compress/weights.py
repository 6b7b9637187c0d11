"""Single weights set to zero: how layers share what stays. 20 % of the weights of dit-digits' layers stay.

The figure is the root mean square difference of the outputs from the full network's over that of the baseline, on 512 states that
neither has seen, before any repair. Nothing is faster for it here.
"""

from __future__ import annotations

from functools import partial

from fewer.claims.claim import Measured, claim
from fewer.claims.compress.beds import Reversed, against, light, subject
from fewer.compression import Allocator, Score
from fewer.compression.allocate.erdos_renyi import ErdosRenyi
from fewer.compression.allocate.knapsack import Global, Uniform
from fewer.compression.scores.dimap import DIMAP
from fewer.compression.scores.lamp import LAMP
from fewer.compression.scores.magnitude import Magnitude, Random

DENSITY = 0.2
Choice = tuple[Score, Allocator]


def compared(one: Choice, other: Choice, seed: int, sabotage: bool) -> Measured:
    """One score and allocator against another. Sabotage: the least important weights of each layer stay."""
    of = subject(seed, kinds=("weights",))
    score = Reversed(one[0]) if sabotage else one[0]
    mine, its = (light(of, *each, share=DENSITY, unit="weights")[0] for each in ((score, one[1]), other))
    return Measured(against(of, mine, its))


def drawn(one: Allocator, other: Allocator, seed: int, sabotage: bool) -> Measured:
    """Random weights under two allocators. Sabotage: the allocators change places."""
    pair = (other, one) if sabotage else (one, other)
    return compared((Random(seed), pair[0]), (Random(seed), pair[1]), seed, False)


claim(
    "lamp/against-global-magnitude",
    statement=f"With {DENSITY:.0%} of its weights by LAMP, dit-digits' outputs are nearer to the full network's than by magnitudes "
    "that are ranked globally.",
    baseline="`magnitude`, both allotted by `global`",
    below=1.0,
)(partial(compared, (LAMP(), Global()), (Magnitude(), Global())))
claim(
    "lamp/against-uniform",
    statement=f"With {DENSITY:.0%} of its weights by LAMP, dit-digits' outputs are nearer to the full network's than by the "
    "largest weights of every layer, the same share of each.",
    baseline="`magnitude`, allotted by `uniform`",
    below=1.0,
)(partial(compared, (LAMP(), Global()), (Magnitude(), Uniform())))
claim(
    "dimap/against-global-magnitude",
    statement=f"With {DENSITY:.0%} of its weights by magnitudes that are compared within a role, dit-digits' outputs are nearer to "
    "the full network's than by magnitudes that are ranked globally.",
    baseline="`magnitude`, both allotted by `global`",
    below=1.0,
)(partial(compared, (DIMAP(), Global()), (Magnitude(), Global())))
claim(
    "global/against-random",
    of=(("compress", "global"), ("compress", "random"), ("compress", "uniform")),
    statement=f"With {DENSITY:.0%} of its weights by magnitudes that are ranked globally, dit-digits' outputs are nearer to the "
    "full network's than with as many at random in every layer.",
    baseline="`random`, allotted by `uniform`",
    below=1.0,
)(partial(compared, (Magnitude(), Global()), (Random(), Uniform())))
claim(
    "erdos-renyi/against-uniform",
    statement=f"With {DENSITY:.0%} of its weights at random, dit-digits' outputs are nearer to the full network's by densities of "
    "random graphs than by the same density of every layer.",
    baseline="`uniform`, both of the same random scores",
    below=1.0,
)(partial(drawn, ErdosRenyi(), Uniform()))
