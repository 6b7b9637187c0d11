"""DEIS: the noise prediction as a polynomial, integrated exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fewer.registry import part, variant
from fewer.solvers.forms import NOISE_IN_LAMBDA, Form
from fewer.solvers.ode.adams import AdamsBashforth
from fewer.solvers.ode.dpmpp import FEW

SOURCE = "Zhang & Chen 2023, DEIS (log-rho Adams-Bashforth), arXiv:2204.13902"


@part("deis", title="Diffusion exponential integrator, second order", source=SOURCE)
@dataclass(frozen=True)
class DEIS(AdamsBashforth):
    """x'/alpha' = x/alpha + sum_j eps_j int_s^s' l_j(log r) dr, with l_j Lagrange's polynomials in log s.

    Since the l_j sum to one this is DDIM's step plus the integrals of l_j on eps_j - eps for past j. The step to
    level 0 is of first order; with fewer than 15 calls the order falls towards it.
    """

    order: int = 2
    form: ClassVar[Form] = NOISE_IN_LAMBDA

    def outputs(self, n: int, calls: int) -> int:
        """At most the calls left, where the plan has few."""
        return min(self.order, calls - n) if calls < FEW else self.order


DEIS3 = variant(
    DEIS, "deis-3", "Diffusion exponential integrator, third order", "DEIS with two past outputs.", ranked=True, order=3
)
