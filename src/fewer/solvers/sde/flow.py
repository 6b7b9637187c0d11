"""Samplers with noise that were made for flow models, on straight paths x = (1 - tau) D + tau eps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from fewer.registry import part
from fewer.settings import share
from fewer.solvers.forms import first_order
from fewer.solvers.sde.fresh import KeepsNoise
from fewer.solvers.trace import Level, OneLevelACall, Trace, Vector


@part(
    "flow-cps",
    title="Coefficients-preserving sampling: a fixed share of each step's noise is fresh",
    source="Wang & Yu 2025, Coefficients-Preserving Sampling for Reinforcement Learning with Flow Matching, arXiv:2509.05952",
    papers=(56,),
    ranked=False,
)
@dataclass(frozen=True)
class FlowCPS(KeepsNoise):
    """x' = (1 - tau') D + tau' (cos(eta pi / 2) eps + sin(eta pi / 2) z) with fresh unit noise z, none on the step to level 0.

    Data and noise keep the flow's own coefficients, whatever eta is. The share of fresh noise does not fall with the step, so
    that many steps forget the state and shrink the samples towards the data's mean.

    eta    0 to 1: 0 is Euler's method, 1 makes all noise fresh
    order  0: samples do not converge with more calls, but for eta = 0
    """

    eta: float = 0.5
    order: int = 0

    def __post_init__(self) -> None:
        share("eta", self.eta)

    def kept(self, here: Level, there: Level) -> float:
        """The share of the noise that a step keeps."""
        return math.cos(self.eta * math.pi / 2)


@part(
    "overshoot",
    title="Overshooting: Euler's step too far, and fresh noise back up to the level",
    source="Hu et al. 2024, AMO Sampler: Enhancing Text Rendering with Overshooting, arXiv:2411.19415",
    ranked=False,
)
@dataclass(frozen=True)
class Overshoot(KeepsNoise):
    """Down to tau_o = tau' - c (tau - tau'), at least 0, then a share of it and fresh noise up to tau': the law of tau' is kept.

    AMO's sampler without its map of attention, which gives each pixel a c of its own.

    c  at least 0, the overshoot in units of the step: 0 is Euler's method
    """

    c: float = 1.0
    order: int = 1

    def __post_init__(self) -> None:
        share("c", self.c, math.inf)

    def kept(self, here: Level, there: Level) -> float:
        """s_o / s' of the level tau_o."""
        if self.c == 0:
            return 1.0
        low = max(there.tau - self.c * (here.tau - there.tau), 0.0)
        return low * (1 - there.tau) / (there.tau * (1 - low))


@part(
    "flow-sde",
    title="Euler-Maruyama on the flow's SDE, as in Flow-GRPO",
    source="Liu et al. 2025, Flow-GRPO (equation 12), arXiv:2505.05470",
    ranked=False,
)
@dataclass(frozen=True)
class FlowSDE(OneLevelACall):
    """x' = x + h (u + g^2 / (2 tau) (x + (1 - tau) u)) + g sqrt(-h) z with h = tau' - tau and g = a sqrt(tau / (1 - tau)).

    x + (1 - tau) u is eps, so that the drift is that of the SDE of diffusion g with the law of every level. Of data that are one
    point it has too much noise, less with more calls. No noise on the step to level 0; from pure noise on g is that of tau'.

    a  at least 0: 0 is Euler's method
    """

    a: float = 0.7
    order: int = 1
    exact_on_points: ClassVar[bool] = False

    def __post_init__(self) -> None:
        share("a", self.a, math.inf)

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """One call a level; all but the last add noise."""
        x = trace.start
        for here, there in pairwise(levels):
            out = trace.call(x, here)
            step = first_order(x, (here, out), there)
            if there.tau > 0 and self.a > 0:
                h, tau = there.tau - here.tau, here.tau if here.tau < 1 else there.tau
                g = self.a * math.sqrt(tau / (1 - tau))
                step = step + h * g**2 / (2 * here.tau) * out.noise + g * math.sqrt(-h) * trace.noise()
            x = step
        return x
