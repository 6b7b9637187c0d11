"""ER-SDE-Solvers: the reverse SDE with a free share of noise, D as a polynomial in sigma / alpha."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from fewer.errors import InputError
from fewer.levels import s_of_tau
from fewer.registry import part, variant
from fewer.solvers.forms import first_order
from fewer.solvers.integrals import Array, gauss_legendre
from fewer.solvers.sde.fresh import refreshed
from fewer.solvers.trace import Level, OneLevelACall, Trace, Vector

SOURCE = "Cui et al. 2023, Elucidating the Solution Space of Extended Reverse-Time SDE, arXiv:2309.06169"


@part("er-sde-3", title="ER-SDE-Solver, three outputs", source=SOURCE, ranked=False)
@dataclass(frozen=True)
class ERSDE(OneLevelACall):
    """With s = sigma / alpha, phi(s) = s psi(s) and k = psi(s') / psi(s) a step is

        x'/alpha' = (s'/s) k x/alpha + (1 - (s'/s) k) D + (s' - s + phi' I_0) D_1 + ((s' - s)^2 / 2 + phi' I_1) D_2 + n
        n = s' sqrt(1 - k^2) z
        I_j = int_s'^s (r - s)^j / phi(r) dr

    in which D_1 is the slope of the last two outputs in s, and D_2 that of the last two slopes, taken to lie half of the span of
    the last three outputs apart. From pure noise on D is constant.

    outputs  1 to 3: how many are used
    psi      the choice of noise, which must not fall with s: "er" is e^(s^0.3) + 10, the paper's ER SDE 5; "flow" is 1, without
             noise; "sde" is s, the usual SDE
    """

    outputs: int = 3
    psi: Literal["er", "flow", "sde"] = "er"
    order: int = 2

    def __post_init__(self) -> None:
        if self.outputs not in (1, 2, 3):
            raise InputError(f"outputs is {self.outputs!r}; expected 1, 2 or 3")
        if self.psi not in ("er", "flow", "sde"):
            raise InputError(f"psi is {self.psi!r}; expected 'er', 'flow' or 'sde'")

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """One call a level; all but the last add noise."""
        x = trace.start
        past: list[tuple[float, Vector]] = []  # s and D, newest first
        slope: Vector | None = None
        for here, there in pairwise(levels):
            out = trace.call(x, here)
            kept = self.kept(here, there)
            x = refreshed(trace, first_order(x, (here, out), there), out.noise, there, kept)
            if here.tau == 1:
                continue
            past = [(s_of_tau(here.tau), out.data), *past][:3]
            before, slope = slope, _quotient(*past[:2]) if len(past) > 1 else None
            if there.tau == 0 or slope is None or self.outputs == 1:
                continue
            first, second = self.integrals(here, there)
            x = x + (1 - there.tau) * first * slope
            if before is not None and self.outputs == 3:
                x = x + (1 - there.tau) * second * (2 / (past[0][0] - past[2][0]) * (slope - before))
        return x

    def integrals(self, here: Level, there: Level) -> tuple[float, float]:
        """s' - s + phi' I_0 and (s' - s)^2 / 2 + phi' I_1, by Gauss-Legendre quadrature in log s."""
        s, end = s_of_tau(here.tau), s_of_tau(there.tau)
        logs, weights = gauss_legendre(math.log(end), math.log(s))
        share = weights * np.exp(self.log_psi(math.log(end)) - self.log_psi(logs))  # phi' / phi dr, in units of s'
        r = np.exp(logs) - s
        return end - s + end * float(share.sum()), (end - s) ** 2 / 2 + end * float(share @ r)

    def kept(self, here: Level, there: Level) -> float:
        """Psi(s') / psi(s), the share of the noise that a step keeps; 1 on that to level 0."""
        if there.tau == 0 or self.psi == "flow":
            return 1.0
        if here.tau == 1:
            return 0.0
        top, bottom = (math.log(s_of_tau(level.tau)) for level in (here, there))
        return math.exp(float(self.log_psi(bottom) - self.log_psi(top)))

    def log_psi(self, log_s: Array | float) -> Array:
        """The logarithm of psi, of log s."""
        if self.psi == "er":
            return np.logaddexp(np.exp(0.3 * np.asarray(log_s)), math.log(10))
        return np.asarray(log_s) if self.psi == "sde" else np.zeros_like(log_s)


def _quotient(new: tuple[float, Vector], old: tuple[float, Vector]) -> Vector:
    return 1 / (new[0] - old[0]) * (new[1] - old[1])


ERSDE1 = variant(
    ERSDE,
    "er-sde-1",
    "ER-SDE-Solver, one output",
    "`er-sde-3` with D constant over a step; without noise DDIM.",
    outputs=1,
    order=1,
)
ERSDE2 = variant(
    ERSDE, "er-sde-2", "ER-SDE-Solver, two outputs", "`er-sde-3` with D linear in s over a step.", outputs=2
)
