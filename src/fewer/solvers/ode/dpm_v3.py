"""DPM-Solver-v3: the linear part of the flow, and the drift of what is left, are taken from statistics of the model.

With X = x / alpha, r = sigma / alpha and lambda = -log r the flow is dX/dlambda = -r eps. For any l(lambda) (a number
a pixel) it splits into a linear part and the rest, f:

    dX/dlambda = -(l X + f),        f = r eps - l X = (1 - l) X - D

l = 0 leaves the noise prediction to the solver, l = 1 the data prediction. f in turn is predicted by a line,
df/dlambda = s f + b + (what is left), and only what is left, as

    g(lambda) = e^-(S - S_i) f - int_{lambda_i}^lambda e^-(S - S_i) b dr,        L = int l, S = int s,

is extrapolated by a polynomial. The step from lambda_i is then exact where g is that polynomial:

    X' = e^-(L' - L_i) [X - int_{lambda_i}^{lambda'} E (g + B) dlambda],     E = e^(L - L_i + S - S_i)

with B the integral in g above. On trajectories of the probability flow, at each lambda and for each pixel,

    l = E[r d eps_i / dX_i]            makes the Jacobian of f = r eps - l X least (squared, off the diagonal too)
    s = cov(f, f') / var(f), b = E f' - s E f        predict f' = df/dlambda along the trajectory by least squares

`fewer.calibrate.ems_statistics` measures them on the user's model.
Source: Zheng et al. 2023, DPM-Solver-v3 (paper 221), derived anew; its published code takes these tables as given.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

from fewer.errors import InputError
from fewer.files import LARGEST_TENSORS, read_safetensors, write_safetensors
from fewer.levels import half_log_snr
from fewer.models.model import Model
from fewer.solvers.integrals import Array, gauss_legendre, lagrange
from fewer.solvers.trace import Level, OneLevelACall, Trace, Vector, constant


@dataclass(frozen=True)
class Statistics:
    """l, s and b (N, *shape) float64 at regular `lam` (N,), rising, of the model with this hash.

    Between them they are piecewise linear; beyond the ends they stay as they are there. `evaluations` is what they
    cost, in network evaluations of single samples.
    """

    model: str
    lam: Tensor
    l: Tensor
    s: Tensor
    b: Tensor
    evaluations: int = 0

    def check(self, model: Model) -> Statistics:
        """The statistics themselves; InputError where they are another model's."""
        if self.model != model.hash or tuple(self.l.shape[1:]) != tuple(model.shape):
            raise InputError(f"these statistics were made on another model than {model.name}: make them on this one")
        return self

    def save(self, path: str | Path) -> Path:
        """Write a safetensors file."""
        tensors = {name: getattr(self, name).float().contiguous() for name in ("lam", "l", "s", "b")}
        write_safetensors(Path(path), tensors, {"model": self.model, "evaluations": str(self.evaluations)})
        return Path(path)

    @staticmethod
    def load(path: str | Path) -> Statistics:
        """Read what `save` wrote; InputError for anything else."""
        path = Path(path)
        tensors = read_safetensors(path, LARGEST_TENSORS)
        if set(tensors) != {"lam", "l", "s", "b"}:
            raise InputError(f"{path} holds no model statistics (lam, l, s, b), but {', '.join(sorted(tensors))}")
        lam, l, s, b = (tensors[name].double() for name in ("lam", "l", "s", "b"))
        regular = lam.ndim == 1 and len(lam) > 1 and bool((lam.diff() > 0).all())
        if not regular or not l.shape == s.shape == b.shape or len(l) != len(lam):
            raise InputError(f"{path}: statistics need rising lam (N,) and l, s, b of one shape (N, ...)")
        if not all(bool(t.isfinite().all()) for t in (lam, l, s, b)):
            raise InputError(f"{path}: statistics are not finite")
        header = safe_open(path, "pt").metadata() or {}
        return Statistics(header.get("model", ""), lam, l, s, b, int(header.get("evaluations", 0)))

    def l_at(self, lam: float) -> Tensor:
        """l at lambda."""
        return self._at(self.l, lam)

    def shrunk(self, start: float, end: float) -> Tensor:
        """e^-(L(end) - L(start))."""
        return torch.exp(self._at(self._L, start) - self._at(self._L, end))

    def decayed(self, start: float, end: float) -> Tensor:
        """e^-(S(end) - S(start))."""
        return torch.exp(self._at(self._S, start) - self._at(self._S, end))

    def grown(self, start: float, end: float) -> Tensor:
        """E = e^(L(end) - L(start) + S(end) - S(start))."""
        return 1 / (self.shrunk(start, end) * self.decayed(start, end))

    def drift(self, start: float, end: float) -> Tensor:
        """B = int_start^end e^-(S(r) - S(start)) b(r) dr."""
        return torch.exp(self._at(self._S, start)) * (self._at(self._C, end) - self._at(self._C, start))

    @cached_property
    def _L(self) -> Tensor:
        return self._summed(self.l)

    @cached_property
    def _S(self) -> Tensor:
        return self._summed(self.s)

    @cached_property
    def _C(self) -> Tensor:
        return self._summed(torch.exp(-self._S) * self.b)

    def _summed(self, values: Tensor) -> Tensor:
        """int from lam_0 to each lam, by the trapezoid rule."""
        parts = torch.cumulative_trapezoid(values, self.lam.view(-1, *[1] * (values.ndim - 1)), dim=0)
        return torch.cat([torch.zeros_like(values[:1]), parts])

    def _at(self, values: Tensor, lam: float) -> Tensor:
        """Linear interpolation of values (N, *shape) at lambda, constant beyond both ends."""
        place = (lam - float(self.lam[0])) / float(self.lam[-1] - self.lam[0]) * (len(self.lam) - 1)
        place = min(max(place, 0.0), len(self.lam) - 1.0)
        below = min(int(place), len(self.lam) - 2)
        return torch.lerp(values[below], values[below + 1], place - below)


class Known(NamedTuple):
    """An output made so far: f = r eps - l X at lambda."""

    at: float
    f: Vector


@dataclass(frozen=True)
class DPMSolverV3(OneLevelACall):
    """The method for one model, whose `statistics` it needs.

    order      outputs that the predictor's polynomial goes through, at most the calls made and the calls left
    corrector  whether each state is computed again from a polynomial of as many outputs, the newest among them, once
               its own call is made; that costs no call, and f is kept as it was found at the predicted state

    From pure noise (lambda = -inf) on the first step is DDIM's, and so is the step to level 0.
    """

    statistics: Statistics
    order: int = 3
    corrector: bool = True

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """Call, correct, predict."""
        x = trace.start
        past: list[Known] = []
        last: tuple[Vector, float, int] | None = None  # X and lambda at the last step's start, and its order
        for n, (here, there) in enumerate(pairwise(levels)):
            out = trace.call(x, here)
            now, then = half_log_snr(here.tau), half_log_snr(there.tau)
            if math.isinf(now) or there.tau == 0:
                x = x + (there.tau - here.tau) * out.u
                continue
            new = Known(now, out.data * -1.0 + (1 - self.statistics.l_at(now)) * (x / (1 - here.tau)))
            if self.corrector and last is not None and last[2] > 1:
                X, start, used = last
                # the last step's own output first, as `step` expects, then the newest, then older ones
                x = self.step(X, start, here, now, [past[-1], new, *past[-2::-1]][:used])
            past.append(new)
            used = min(self.order, len(past), calls - n)
            last = X, _, _ = x / (1 - here.tau), now, used
            x = self.step(X, now, there, then, past[::-1][:used])
        return x

    def step(self, X: Vector, start: float, there: Level, end: float, known: list[Known]) -> Vector:
        """The state at level `there` (lambda = end) from X at lambda = start, g a polynomial through `known`."""
        stats = self.statistics
        at, quadrature = gauss_legendre(start, end, 16)
        grow = [stats.grown(start, float(a)) for a in at]  # E
        drift = [stats.drift(start, float(a)) for a in at]  # B
        total = X - constant(_weighed(quadrature, [e * b for e, b in zip(grow, drift, strict=True)]))
        nodes = [entry.at for entry in known]
        for entry, values in zip(known, lagrange(nodes, at), strict=True):
            weight = _weighed(quadrature * values, grow)
            decay = stats.decayed(start, entry.at)
            total = total - weight * (decay * entry.f - constant(stats.drift(start, entry.at)))
        return (1 - there.tau) * (stats.shrunk(start, end) * total)


def _weighed(weights: Array, values: list[Tensor]) -> Tensor:
    return torch.einsum("i,i...->...", torch.from_numpy(weights), torch.stack(values))
