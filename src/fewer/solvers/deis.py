"""DEIS: the noise prediction as a polynomial, integrated exactly."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fewer.parts import part
from fewer.solvers.dpmpp import FEW
from fewer.solvers.history import half_log_snr, lagrange
from fewer.solvers.trace import Level, Trace, Vector

SOURCE = "Zhang & Chen 2023, DEIS (log-rho Adams-Bashforth)"
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(32)


@part("deis", title="Diffusion exponential integrator, second order", source=SOURCE)
@dataclass(frozen=True)
class DEIS:
    """x'/alpha' = x/alpha + sum_j eps_j int_s^s' l_j(log r) dr, with l_j Lagrange's polynomials in log s.

    Since the l_j sum to one this is DDIM's step plus the integrals of l_j on eps_j - eps for past j. The step to
    level 0 is of first order; with fewer than 15 calls the order falls towards it.
    """

    order: int = 2

    def steps(self, calls: int) -> int:
        """One level a call."""
        return calls

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """One call a level."""
        x = trace.start
        past: list[tuple[float, Vector]] = []
        for n, (here, there) in enumerate(pairwise(levels)):
            out = trace.call(x, here)
            x = x + (there.tau - here.tau) * out.u
            known = [entry for entry in past if math.isfinite(entry[0])]
            most = min(self.order, calls - n) if calls < FEW else self.order
            past.append((-half_log_snr(here), out.noise))
            if there.tau == 0 or here.tau == 1:
                continue
            used = [*known[max(0, len(known) - most + 1) :], past[-1]]
            nodes = [log_s for log_s, _ in used]
            for j, (_, noise) in enumerate(used[:-1]):
                integral = self.integral(nodes, j, nodes[-1], -half_log_snr(there))
                x = x + (1 - there.tau) * integral * (noise - out.noise)
        return x

    def integral(self, nodes: Sequence[float], j: int, start: float, end: float) -> float:
        """int l_j(log r) dr over r from e^start to e^end, by Gauss-Legendre quadrature in log r."""
        middle, half = (start + end) / 2, (end - start) / 2
        log_r = middle + half * _POINTS
        return float(half * np.sum(_WEIGHTS * lagrange(nodes, j)(log_r) * np.exp(log_r)))


@part("deis-3", title="Diffusion exponential integrator, third order", source=SOURCE)
@dataclass(frozen=True)
class DEIS3(DEIS):
    """DEIS with two past outputs."""

    order: int = 3
