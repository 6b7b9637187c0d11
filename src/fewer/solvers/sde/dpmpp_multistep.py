"""SDE-DPM-Solver++ and SDE-DPM-Solver, multistep: the exponential integrators of the reverse SDE.

With lambda = log(alpha / sigma), h = lambda' - lambda and eta times the variance of its noise, the reverse SDE has the exact
solutions (eta = 0: the flow)

    x' = (sigma'/sigma) e^(-eta h) x + (1 + eta) alpha' int_0^h e^((1 + eta) (r - h)) D dr + sigma' sqrt(1 - e^(-2 eta h)) z
    x' = (alpha'/alpha) x - (1 + eta) sigma' int_0^h e^(h - r) eps dr + sigma' sqrt(eta (e^(2 h) - 1)) z

and D or eps is replaced by a polynomial in lambda. Each is the deterministic method of its form with other kernels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Literal

from fewer.registry import part
from fewer.settings import share
from fewer.solvers.forms import DATA_IN_LAMBDA, NOISE_IN_LAMBDA, Exponential, Known, first_order
from fewer.solvers.ode.dpmpp import SOURCE, DPMSolverPP2M, DPMSolverPP3M, Multistep
from fewer.solvers.sde.fresh import kept_by_sde, ratio, refreshed
from fewer.solvers.trace import Level, OneLevelACall, Trace, Vector


def data_with_noise(eta: float) -> Exponential:
    """The form of the reverse SDE with eta: D as a polynomial in lambda; for eta = 0 `DATA_IN_LAMBDA`, to the bit."""

    def kernel(tau: float, end: float) -> tuple[float, float]:
        scale, g = DATA_IN_LAMBDA.kernel(tau, end)
        return (1 + eta) * scale, (1 + eta) * g

    return replace(DATA_IN_LAMBDA, kernel=kernel)


def data_step(trace: Trace, x: Vector, start: Known, there: Level, eta: float) -> Vector:
    """The exact step of the reverse SDE with a constant D: DDIM's, with all but e^(-eta h) of the noise fresh."""
    here, out = start
    return refreshed(trace, first_order(x, start, there), out.noise, there, kept_by_sde(eta, here, there))


def noise_step(trace: Trace, x: Vector, start: Known, there: Level, eta: float) -> Vector:
    """The exact step of the reverse SDE with a constant eps; with a constant D from pure noise on, and to level 0."""
    here, out = start
    if there.tau == 0 or here.tau == 1 or eta == 0:
        return data_step(trace, x, start, there, eta)
    r = ratio(here, there)  # in units of alpha' s: s - s' is 1 - r
    s = here.tau / (1 - here.tau) * (1 - there.tau)
    step = first_order(x, start, there)
    return step - eta * s * (1 - r) * out.noise + s * math.sqrt(eta * (1 - r**2)) * trace.noise()


@dataclass(frozen=True)
class WithNoise(Multistep):
    """A multistep method of the reverse SDE with eta times the variance of its noise: 0 is the flow, 1 the usual SDE."""

    eta: float = 1.0

    def __post_init__(self) -> None:
        share("eta", self.eta, math.inf)

    def first(self, trace: Trace, x: Vector, start: Known, there: Level) -> Vector:
        """The step with a constant prediction."""
        return data_step(trace, x, start, there, self.eta)

    def kernel(self, here: Level, there: Level) -> tuple[float, float]:
        """That of the SDE."""
        return data_with_noise(self.eta).kernel(here.tau, there.tau)


@part("dpmpp-2m-sde", title="SDE-DPM-Solver++ multistep, two outputs", source=SOURCE, ranked=False)
@dataclass(frozen=True)
class SDEDPMSolverPP2M(WithNoise, DPMSolverPP2M):
    """`dpmpp-2m` of the reverse SDE: the step with a constant D plus half of its weight times (h / h_last) (D - D_last)."""

    order: int = 2


@part(
    "dpmpp-3m-sde",
    title="SDE-DPM-Solver++ multistep, three outputs",
    source=f"{SOURCE}; Crowson et al., k-diffusion (dpmpp_3m_sde)",
    ranked=False,
)
@dataclass(frozen=True)
class SDEDPMSolverPP3M(WithNoise, DPMSolverPP3M):
    """`dpmpp-3m` of the reverse SDE; by default with the second row and the end of k-diffusion (`variant` "heun").

    diffusers subtracts the curvature's 1/2 where its integral adds it, so that its term tends to -1 and not to 0 with h.
    """

    order: int = 2
    variant: Literal["midpoint", "heun"] = "heun"


@part("dpm-2m-sde", title="SDE-DPM-Solver multistep, noise prediction", source=SOURCE, ranked=False)
@dataclass(frozen=True)
class SDEDPMSolver2M(WithNoise, DPMSolverPP2M):
    """`dpm-2m` of the reverse SDE, with eps for D. Of data that are one point it has too much noise, less with more calls."""

    order: int = 2
    form: ClassVar[Exponential] = NOISE_IN_LAMBDA
    exact_on_points: ClassVar[bool] = False

    def first(self, trace: Trace, x: Vector, start: Known, there: Level) -> Vector:
        """The step with a constant eps."""
        return noise_step(trace, x, start, there, self.eta)

    def kernel(self, here: Level, there: Level) -> tuple[float, float]:
        """That of the SDE: 1 + eta times that of the flow."""
        scale, g = self.form.kernel(here.tau, there.tau)
        return (1 + self.eta) * scale, g


@part(
    "exponential-euler-maruyama",
    title="The reverse SDE with a constant noise prediction",
    source=f"{SOURCE} (SDE-DPM-Solver-1); Gonzalez et al. 2023, SEEDS-1 (noise prediction), arXiv:2305.14267",
    ranked=False,
)
@dataclass(frozen=True)
class ExponentialEulerMaruyama(OneLevelACall):
    """x'/alpha' = x/alpha - (1 + eta) (s - s') eps + sqrt(eta (s^2 - s'^2)) z: the first order of `dpm-2m-sde`.

    With a constant D instead it is `ancestral`. From pure noise on, and to level 0, the step is that one.

    eta  at least 0: 0 is DDIM
    """

    eta: float = 1.0
    order: int = 1
    exact_on_points: ClassVar[bool] = False

    def __post_init__(self) -> None:
        share("eta", self.eta, math.inf)

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """One call a level; all but the last add noise."""
        x = trace.start
        for here, there in pairwise(levels):
            x = noise_step(trace, x, (here, trace.call(x, here)), there, self.eta)
        return x
