"""DPM-Solver-v3: the linear part of the flow, and the drift of what is left, are taken from statistics of the model.

With X = x / alpha, r = sigma / alpha and lambda = -log r the flow is dX/dlambda = -r eps. For any l(lambda) (a number
a pixel) it splits into a linear part and the rest, f:

    dX/dlambda = -(l X + f),        f = r eps - l X = (1 - l) X - D

l = 0 leaves the noise prediction to the solver, l = 1 the data prediction. f in turn is predicted by a line,
df/dlambda = s f + b + (what is left), and only what is left, as

    g(lambda) = e^-(S - S_i) f - int_{lambda_i}^lambda e^-(S - S_i) b dr,        L = int l, S = int s,

is extrapolated by a polynomial. The step from lambda_i is then exact where g is that polynomial:

    X' = e^-(L' - L_i) [X - int_{lambda_i}^{lambda'} E (g + B) dlambda],     E = e^(L - L_i + S - S_i)

with B the integral in g above. l, s and b are found on the user's model (`fewer.solvers.statistics`).
Source: Zheng et al. 2023, DPM-Solver-v3 (paper 221), derived anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from fewer.solvers.history import half_log_snr, lagrange
from fewer.solvers.statistics import Statistics
from fewer.solvers.trace import Level, Trace, Vector, constant

_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(16)


class Known(NamedTuple):
    """An output made so far: f = r eps - l X at lambda."""

    at: float
    f: Vector


@dataclass(frozen=True)
class DPMSolverV3:
    """The method for one model, whose `statistics` it needs.

    order      outputs that the predictor's polynomial goes through, at most the calls made and the calls left
    corrector  whether each state is computed again from a polynomial of as many outputs, the newest among them, once
               its own call is made; that costs no call, and f is kept as it was found at the predicted state

    From pure noise (lambda = -inf) on the first step is DDIM's, and so is the step to level 0.
    """

    statistics: Statistics
    order: int = 3
    corrector: bool = True

    def steps(self, calls: int) -> int:
        """One level a call."""
        return calls

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """Call, correct, predict."""
        x = trace.start
        past: list[Known] = []
        before: tuple[Vector, float, int] | None = None  # state before the last step, its lambda and order
        for n, (here, there) in enumerate(pairwise(levels)):
            out = trace.call(x, here)
            now, then = half_log_snr(here), half_log_snr(there)
            if math.isinf(now) or there.tau == 0:
                x = x + (there.tau - here.tau) * out.u
                continue
            found = Known(now, out.data * -1.0 + (1 - self.statistics.l_at(now)) * (x / (1 - here.tau)))
            if self.corrector and before is not None and before[2] > 1:
                start, came_from, used = before
                # the last step's own output first, as `step` expects, then the newest, then older ones
                x = self.step(start, came_from, here, now, [past[-1], found, *past[-2::-1]][:used])
            past.append(found)
            used = min(self.order, len(past), calls - n)
            before = (x / (1 - here.tau), now, used)
            x = self.step(before[0], now, there, then, past[::-1][:used])
        return x

    def step(self, X: Vector, start: float, there: Level, end: float, known: list[Known]) -> Vector:
        """The state at level `there` (lambda = end) from X at lambda = start, g a polynomial through `known`."""
        stats = self.statistics
        middle, half = (start + end) / 2, (end - start) / 2
        at = middle + half * _POINTS
        grow = [stats.grown(start, float(a)) for a in at]  # E
        drift = [stats.drift(start, float(a)) for a in at]  # B
        total = X - constant(_integral(half, [e * b for e, b in zip(grow, drift, strict=True)]))
        nodes = [entry.at for entry in known]
        for j, entry in enumerate(known):
            weight = _integral(half, [float(v) * e for v, e in zip(lagrange(nodes, j)(at), grow, strict=True)])
            decay = stats.decayed(start, entry.at)
            total = total - weight * (decay * entry.f - constant(stats.drift(start, entry.at)))
        return (1 - there.tau) * (stats.shrunk(start, end) * total)


def _integral(half: float, values: list[Tensor]) -> Tensor:
    return half * torch.einsum("i,i...->...", torch.from_numpy(_WEIGHTS), torch.stack(values))
