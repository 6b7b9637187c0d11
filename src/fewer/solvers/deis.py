"""DEIS: the noise prediction as a polynomial, integrated exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fewer.parts import part
from fewer.solvers.adams import AdamsBashforth
from fewer.solvers.dpmpp import FEW
from fewer.solvers.forms import Form, NoiseInLogS

SOURCE = "Zhang & Chen 2023, DEIS (log-rho Adams-Bashforth)"


@part("deis", title="Diffusion exponential integrator, second order", source=SOURCE)
@dataclass(frozen=True)
class DEIS(AdamsBashforth):
    """x'/alpha' = x/alpha + sum_j eps_j int_s^s' l_j(log r) dr, with l_j Lagrange's polynomials in log s.

    Since the l_j sum to one this is DDIM's step plus the integrals of l_j on eps_j - eps for past j. The step to
    level 0 is of first order; with fewer than 15 calls the order falls towards it.
    """

    order: int = 2
    form: ClassVar[Form] = NoiseInLogS()

    def outputs(self, n: int, calls: int) -> int:
        """At most the calls left, where the plan has few."""
        return min(self.order, calls - n) if calls < FEW else self.order


@part("deis-3", title="Diffusion exponential integrator, third order", source=SOURCE)
@dataclass(frozen=True)
class DEIS3(DEIS):
    """DEIS with two past outputs."""

    order: int = 3
