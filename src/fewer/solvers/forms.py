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
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fewer.levels import half_log_snr, s_of_tau
from fewer.solvers.integrals import Array, gauss_legendre, lagrange, polynomial_weights
from fewer.solvers.trace import Level, Output, Vector


class Form(ABC):
    """A form of the flow: the prediction that is taken for a polynomial, and the variable of that polynomial."""

    @abstractmethod
    def prediction(self, out: Output) -> Vector:
        """D, eps or u of a call."""

    @abstractmethod
    def place(self, level: Level) -> float:
        """The variable at a level; not finite where it has no value."""

    @abstractmethod
    def weights(self, here: Level, there: Level, nodes: Sequence[float]) -> list[float]:
        """The weight in the state at `there` of each prediction, whose variables are `nodes`, for the polynomial through all."""


@dataclass(frozen=True)
class Exponential(Form):
    """A form of weights scale int_0^1 e^(g (1 - v)) l(v) dv, v linear in the variable, 0 here and 1 there.

    predicts    the field of `Output` that is a polynomial
    coordinate  the variable, of tau
    kernel      (scale, g) of the levels tau and tau' of a step
    """

    predicts: Literal["data", "noise", "u"]
    coordinate: Callable[[float], float]
    kernel: Callable[[float, float], tuple[float, float]]

    def prediction(self, out: Output) -> Vector:
        """D, eps or u."""
        return {"data": out.data, "noise": out.noise, "u": out.u}[self.predicts]

    def place(self, level: Level) -> float:
        """The coordinate of the level."""
        return self.coordinate(level.tau)

    def weights(self, here: Level, there: Level, nodes: Sequence[float]) -> list[float]:
        """The weights from the moments of the kernel."""
        start, end = self.place(here), self.place(there)
        if start == end:  # a step of no length
            return [0.0] * len(nodes)
        scale, g = self.kernel(here.tau, there.tau)
        steps = [(node - start) / (end - start) for node in nodes]
        return [scale * float(weight) for weight in polynomial_weights(steps, g)]


def step_in_lambda(tau: float, end: float) -> float:
    """h = lambda' - lambda."""
    return half_log_snr(end) - half_log_snr(tau)


NOISE_IN_S = Exponential("noise", s_of_tau, lambda tau, end: ((1 - end) * (s_of_tau(end) - s_of_tau(tau)), 0.0))
NOISE_IN_LAMBDA = Exponential(
    "noise", half_log_snr, lambda tau, end: (-end * step_in_lambda(tau, end), step_in_lambda(tau, end))
)
DATA_IN_LAMBDA = Exponential(
    "data", half_log_snr, lambda tau, end: ((1 - end) * step_in_lambda(tau, end), -step_in_lambda(tau, end))
)
FLOW_IN_TAU = Exponential("u", float, lambda tau, end: (end - tau, 0.0))


@dataclass(frozen=True)
class NoiseInTime(Form):
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
        """The time t at a level."""
        return float(self.time(np.array(s_of_tau(level.tau)))) if level.tau < 1 else math.inf

    def time(self, s: Array) -> Array:
        """The time t at which sigma / alpha is s."""
        slope = self.beta_max - self.beta_min
        # the square root's difference, without cancellation at small s
        square = 2 * slope * np.log1p(s**2)
        return np.asarray(square / (slope * (np.sqrt(self.beta_min**2 + square) + self.beta_min)))

    def weights(self, here: Level, there: Level, nodes: Sequence[float]) -> list[float]:
        """(1 - tau') int l(t(r)) dr, with r = sinh y: t is smooth in y at both ends."""
        start, end = math.asinh(s_of_tau(here.tau)), math.asinh(s_of_tau(there.tau))
        y, quadrature = gauss_legendre(start, end)
        return ((1 - there.tau) * lagrange(nodes, self.time(np.sinh(y))) @ (quadrature * np.cosh(y))).tolist()


Known = tuple[Level, Output]  # a call made so far


def first_order(x: Vector, start: Known, there: Level) -> Vector:
    """x + (tau' - tau) u: DDIM's step, exact on straight lines."""
    here, out = start
    return x + (there.tau - here.tau) * out.u


def polynomial_step(form: Form, x: Vector, start: Known, there: Level, others: Sequence[Known]) -> Vector:
    """The step from x at `start` that is exact where the prediction is the polynomial through `start` and `others`.

    Outputs where the variable is not finite are left out; from or to such a level the step is of first order.
    """
    here, out = start
    step = first_order(x, start, there)
    others = [known for known in others if math.isfinite(form.place(known[0]))]
    if not math.isfinite(form.place(here)) or not math.isfinite(form.place(there)):
        return step
    weights = form.weights(here, there, [form.place(level) for level, _ in (start, *others)])
    for weight, (_, other) in zip(weights[1:], others, strict=True):
        step = step + weight * (form.prediction(other) - form.prediction(out))
    return step
