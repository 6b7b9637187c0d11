"""Steps that are exact where one prediction is a polynomial in one variable: the forms of exponential integrators.

With s = sigma / alpha, lambda = -log s and X = x / alpha the flow has, among others, these forms:

    dX = eps ds                    noise prediction, in s             (1 - tau') int_s^s' l(r) dr
    dX = eps e^v dv, v = log s     noise prediction, in log s         (1 - tau') int_log s^log s' l(v) e^v dv
    d(x / sigma) = D d(1 / s)      data prediction, in log s          (1 - tau') int_log s'^log s l(v) s' e^-v dv
    dx = u dtau (x in flow frame)  flow prediction, in tau            int_tau^tau' l(r) dr

On the right is the weight in x' of a prediction whose Lagrange polynomial is l. Since the l sum to one, a step of any
order is DDIM's plus the weights times the differences of the other predictions from the one at the step's start.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fewer.solvers.history import half_log_snr, lagrange
from fewer.solvers.trace import Level, Output, Vector

Polynomial = Callable[[NDArray[np.float64]], NDArray[np.float64]]
_POINTS, _WEIGHTS = np.polynomial.legendre.leggauss(32)


class Form(Protocol):
    """Which prediction is a polynomial, in which variable."""

    def prediction(self, out: Output) -> Vector:
        """The prediction."""

    def place(self, level: Level) -> float:
        """The variable's value; not finite at levels where it has none."""

    def weight(self, here: Level, there: Level, l: Polynomial) -> float:
        """What a polynomial of the variable, as prediction, adds to the state at `there`."""


def integral(f: Polynomial, start: float, end: float) -> float:
    """int_start^end f, by Gauss-Legendre quadrature with 32 points."""
    half = (end - start) / 2
    return float(half * np.sum(_WEIGHTS * f(start + half * (1 + _POINTS))))


def s_of(level: Level) -> float:
    """s = sigma / alpha: inf at tau = 1."""
    return level.tau / (1 - level.tau) if level.tau < 1 else math.inf


@dataclass(frozen=True)
class NoiseInS:
    """eps as a polynomial in s."""

    def prediction(self, out: Output) -> Vector:
        """Eps."""
        return out.noise

    def place(self, level: Level) -> float:
        """The value of s."""
        return s_of(level)

    def weight(self, here: Level, there: Level, l: Polynomial) -> float:
        """(1 - tau') int l(r) dr."""
        return (1 - there.tau) * integral(l, s_of(here), s_of(there))


@dataclass(frozen=True)
class NoiseInLogS:
    """eps as a polynomial in log s."""

    def prediction(self, out: Output) -> Vector:
        """Eps."""
        return out.noise

    def place(self, level: Level) -> float:
        """The value of log s."""
        return -half_log_snr(level)

    def weight(self, here: Level, there: Level, l: Polynomial) -> float:
        """(1 - tau') int l(v) e^v dv."""
        return (1 - there.tau) * integral(lambda v: l(v) * np.exp(v), self.place(here), self.place(there))


@dataclass(frozen=True)
class NoiseInTime:
    """eps as a polynomial in the time t of the linear variance-preserving process, whatever the model's own.

    log(1 + s^2) = beta_min t + (beta_max - beta_min) t^2 / 2 (Song et al. 2021, score SDE), with t beyond 1 where s is
    above the process's largest.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def prediction(self, out: Output) -> Vector:
        """Eps."""
        return out.noise

    def place(self, level: Level) -> float:
        """The value of t."""
        return float(self.time(np.array(s_of(level)))) if level.tau < 1 else math.inf

    def time(self, s: NDArray[np.float64]) -> NDArray[np.float64]:
        """The time of s."""
        slope = self.beta_max - self.beta_min
        # the square root's difference, without cancellation at small s
        square = 2 * slope * np.log1p(s**2)
        return np.asarray(square / (slope * (np.sqrt(self.beta_min**2 + square) + self.beta_min)))

    def weight(self, here: Level, there: Level, l: Polynomial) -> float:
        """(1 - tau') int l(t(r)) dr, with r = sinh y: t is smooth in y at both ends."""
        start, end = math.asinh(s_of(here)), math.asinh(s_of(there))
        return (1 - there.tau) * integral(lambda y: l(self.time(np.sinh(y))) * np.cosh(y), start, end)


@dataclass(frozen=True)
class DataInLogS:
    """D as a polynomial in log s."""

    def prediction(self, out: Output) -> Vector:
        """D."""
        return out.data

    def place(self, level: Level) -> float:
        """The value of log s."""
        return -half_log_snr(level)

    def weight(self, here: Level, there: Level, l: Polynomial) -> float:
        """(1 - tau') int l(v) s' e^-v dv, downwards in v."""
        end = self.place(there)
        return (1 - there.tau) * integral(lambda v: l(v) * np.exp(end - v), end, self.place(here))


@dataclass(frozen=True)
class FlowInTau:
    """u as a polynomial in tau."""

    def prediction(self, out: Output) -> Vector:
        """u = eps - D."""
        return out.u

    def place(self, level: Level) -> float:
        """Tau."""
        return level.tau

    def weight(self, here: Level, there: Level, l: Polynomial) -> float:
        """int l(r) dr."""
        return integral(l, here.tau, there.tau)


Known = tuple[Level, Output]


def first_order(x: Vector, start: Known, there: Level) -> Vector:
    """x + (tau' - tau) u: DDIM's step, exact on straight lines."""
    here, out = start
    return x + (there.tau - here.tau) * out.u


def polynomial_step(form: Form, x: Vector, start: Known, there: Level, others: Sequence[Known]) -> Vector:
    """The step from x at `start` that is exact for the polynomial through `start` and `others`.

    Outputs where the variable is not finite are left out; from or to such a level the step is of first order.
    """
    here, out = start
    step = first_order(x, start, there)
    others = [known for known in others if math.isfinite(form.place(known[0]))]
    if not math.isfinite(form.place(here)) or not math.isfinite(form.place(there)):
        return step
    nodes = [form.place(level) for level, _ in (start, *others)]
    for j, (_, other) in enumerate(others, start=1):
        weight = form.weight(here, there, lagrange(nodes, j))
        step = step + weight * (form.prediction(other) - form.prediction(out))
    return step
