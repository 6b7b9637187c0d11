"""Adams-Bashforth methods of exponential integrators: a polynomial through the latest predictions, integrated exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from fewer.registry import part, variant
from fewer.solvers.forms import DATA_IN_LAMBDA, FLOW_IN_TAU, NOISE_IN_S, Form, Known, NoiseInTime, polynomial_step
from fewer.solvers.trace import Level, OneLevelACall, Trace, Vector


@dataclass(frozen=True)
class AdamsBashforth(OneLevelACall):
    """A step of a form that is exact where the prediction is a polynomial through the last `order` outputs.

    The first steps use the outputs that there are. Subclasses choose the form.
    """

    order: int = 2
    form: ClassVar[Form]

    def outputs(self, n: int, calls: int) -> int:
        """How many outputs, at most, the step after call n of `calls` uses."""
        return self.order

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """One call a level."""
        x = trace.start
        past: list[Known] = []
        for n, (here, there) in enumerate(pairwise(levels)):
            start = (here, trace.call(x, here))
            past = [*past, start][-self.outputs(n, calls) :]
            x = polynomial_step(self.form, x, start, there, past[:-1])
        return x


@part(
    "lms",
    title="Linear multistep in sigma, fourth order",
    source="Bashforth & Adams 1883, with variable steps; k-diffusion's LMS; rhoAB of Zhang & Chen 2023, DEIS, "
    "arXiv:2204.13902",
    ranked=False,
)
@dataclass(frozen=True)
class LMS(AdamsBashforth):
    """x'/alpha' = x/alpha + sum_j eps_j int_s^s' l_j(r) dr, with l_j Lagrange's polynomials in s.

    Regular down to level 0, where it keeps its order.
    """

    order: int = 4
    form: ClassVar[Form] = NOISE_IN_S


IPNDMV = variant(
    LMS,
    "ipndm-v",
    "iPNDM with the weights of variable steps",
    """Adams-Bashforth of variable steps on eps in s: the same table as `lms`.

    The code by which it is known has two slips (a bracket of the third output's weight, a ratio of steps of the
    fourth's); with these the weights do not sum to one where steps differ. Here are the weights that it means.
    """,
    source="Zhang & Chen 2023, DEIS, arXiv:2204.13902; Zhou et al. 2024, AMED-Solver (iPNDM_v), arXiv:2312.00094",
)
DEISRho = variant(
    LMS, "deis-rho", "DEIS rhoAB, three outputs", "`lms` of third order.",
    source="Zhang & Chen 2023, DEIS (rhoAB), arXiv:2204.13902", order=3,
)  # fmt: skip


@part("deis-tab", title="DEIS tAB, three outputs", source="Zhang & Chen 2023, DEIS (tAB), arXiv:2204.13902")
@dataclass(frozen=True)
class DEISTime(AdamsBashforth):
    """x'/alpha' = x/alpha + sum_j eps_j int_s^s' l_j(t(r)) dr, with l_j Lagrange's polynomials in the time t.

    t is that of the linear process with beta from 0.1 to 20, for which the method was proposed.
    """

    order: int = 3
    form: ClassVar[Form] = NoiseInTime()


@part(
    "vab",
    title="Adams-Bashforth on the flow, third order",
    source="Bashforth & Adams 1883, with variable steps, on dx = u dtau; azula's vAB",
)
@dataclass(frozen=True)
class FlowAdams(AdamsBashforth):
    """x' = x + sum_j u_j int_tau^tau' l_j(r) dr in the flow frame: regular from pure noise to level 0."""

    order: int = 3
    form: ClassVar[Form] = FLOW_IN_TAU


RES = (
    "Hochbruck & Ostermann 2010, exponential Adams-Bashforth, doi:10.1017/S0962492910000048; Zhang et al. "
    "2023, RES (multistep), arXiv:2308.02157"
)


@part("res-2m", title="Exponential Adams-Bashforth on data, second order", source=RES)
@dataclass(frozen=True)
class RES2M(AdamsBashforth):
    """x' = (sigma'/sigma) x + alpha' sum_j D_j int_0^h e^(r - h) l_j(lambda + r) dr, l_j Lagrange's in lambda.

    DPM-Solver++ 2M has the same differences, with (1 - e^-h) / 2 for the integral of r / h. The step to level 0 is
    x' = D.
    """

    order: int = 2
    form: ClassVar[Form] = DATA_IN_LAMBDA


RES3M = variant(
    RES2M, "res-3m", "Exponential Adams-Bashforth on data, third order",
    "`res-2m` with two past outputs: what `dpmpp-3m` is but for the curvature's weight, and UniPC-3's predictor.", order=3,
)  # fmt: skip
RES4M = variant(
    RES2M, "res-4m", "Exponential Adams-Bashforth on data, fourth order", "`res-2m` with three past outputs.", order=4
)
