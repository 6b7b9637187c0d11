"""A sampler whose every step makes its own choices: a unified form of multistep exponential integrators.

A step goes from level b (the present one n, or the one before) to level n+1. It integrates exactly a polynomial of the
chosen prediction m that stands for m along the flow, in the variable r = lambda - lambda_n with lambda = -log s, or
r = tau - tau_n for the output u:

    data    x' = tau'/tau_b x_b + (1 - tau'/tau_b) D_n + (1 - tau') sum_k c_k int e^(r - h) r^k dr
    noise   x' = (1 - tau')/(1 - tau_b) x_b + (1 - tau') (s' - s_b) eps_n - (1 - tau') s_n sum_k c_k int e^-r r^k dr
    flow    x' = x_b + (tau' - tau_b) u_n + sum_k c_k int r^k dr

with c_k the coefficients of m - m_n = sum_k c_k r^k, k = 1 .. p - 1, estimated from outputs made before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fewer.levels import half_log_snr
from fewer.solvers.integrals import moments as exponential_moments
from fewer.solvers.trace import Level, Output, Trace, Vector

Prediction = Literal["data", "noise", "flow"]
Derivatives = Literal["full", "nearest"]

PREDICTIONS: tuple[Prediction, ...] = ("data", "noise", "flow")
DERIVATIVES: tuple[Derivatives, ...] = ("full", "nearest")
ORDERS = (1, 2, 3)


@dataclass(frozen=True)
class Choice:
    """The choices of one step.

    predicts     which prediction is taken as a polynomial
    order        p, one more than the polynomial's degree; at most as many outputs as there are
    derivatives  "full": c_k by the polynomial through all p outputs; "nearest": each c_k by its k + 1 nearest ones
    corrector    whether the step is made again with the output after it among the others (at no call)
    before       whether it starts from the state before the present one, with the present output in its middle
    """

    predicts: Prediction = "data"
    order: int = 2
    derivatives: Derivatives = "full"
    corrector: bool = False
    before: bool = False


@dataclass(frozen=True)
class StepChoices:
    """A solver, as `fewer.solvers` has them, of one choice a step."""

    choices: tuple[Choice, ...]
    order: int = 1

    def steps(self, calls: int) -> int:
        """One level a call."""
        return calls

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """Predict, call, correct where the step before is to be corrected."""
        x = trace.start
        states: list[Vector] = []
        outputs: list[Output] = []
        for n in range(len(levels) - 1):
            outputs.append(trace.call(x, levels[n]))
            if n and self.choices[n - 1].corrector:
                x = step(self.choices[n - 1], levels, states, outputs, n - 1)
            states.append(x)
            x = step(self.choices[n], levels, states, outputs, n)
        return x


def step(
    choice: Choice, levels: Sequence[Level], states: Sequence[Vector], outputs: Sequence[Output], n: int
) -> Vector:
    """The state at level n + 1. With the output of that level among `outputs` it is the corrected one.

    To level 0 data are taken as constant, and from pure noise everything is.
    """
    here, there = levels[n], levels[n + 1]
    at = n - 1 if choice.before and n > 0 and levels[n - 1].tau < 1 else n
    m = [prediction(choice.predicts, output) for output in outputs]
    x = straight(choice.predicts, levels[at], there, states[at], m[n]) if at < n else None
    if x is None:
        x = states[n] + (there.tau - here.tau) * outputs[n].u
    ends = position(choice.predicts, levels[at]), position(choice.predicts, here), position(choice.predicts, there)
    if math.isinf(ends[1]) or (choice.predicts == "data" and there.tau == 0):
        return x
    used = [j for j in range(n - 1, -1, -1) if math.isfinite(position(choice.predicts, levels[j]))][: choice.order - 1]
    used += [n + 1] if len(outputs) == n + 2 else []
    if not used:
        return x
    nodes = [position(choice.predicts, levels[j]) - ends[1] for j in used]
    integrals = moments(choice.predicts, ends[0] - ends[1], ends[2] - ends[1], len(nodes))
    if choice.predicts != "flow":
        integrals = (1 - there.tau) * integrals
    if choice.predicts == "noise":
        integrals = -math.exp(-ends[1]) * integrals
    for j, weight in zip(used, weights(nodes, integrals, choice.derivatives), strict=True):
        x = x + float(weight) * (m[j] - m[n])
    return x


def prediction(kind: Prediction, output: Output) -> Vector:
    """D, eps or u."""
    return {"data": output.data, "noise": output.noise, "flow": output.u}[kind]


def position(kind: Prediction, level: Level) -> float:
    """The variable in which a prediction is a polynomial: tau for u, else lambda."""
    return level.tau if kind == "flow" else half_log_snr(level.tau)


def straight(kind: Prediction, start: Level, end: Level, x: Vector, m: Vector) -> Vector:
    """The step from `start` (below pure noise) to `end` with m constant, whatever level it is of."""
    if kind == "data":
        ratio = end.tau / start.tau
        return ratio * x + (1 - ratio) * m
    if kind == "noise":
        ratio = (1 - end.tau) / (1 - start.tau)
        return ratio * x + (end.tau - ratio * start.tau) * m
    return x + (end.tau - start.tau) * m


def moments(kind: Prediction, low: float, high: float, count: int) -> np.ndarray:
    """int w(r) r^k dr from low to high for k = 1 .. count, w = e^(r - high), e^-r or 1; high may be inf for noise."""
    h = high - low
    g = {"data": -h, "noise": h, "flow": 0.0}[kind]
    if math.isinf(h):
        about_low = [math.exp(-low) * math.factorial(k) for k in range(count + 1)]  # int w(r) (r - low)^k dr
    else:
        scale = math.exp(-high) if kind == "noise" else 1.0
        about_low = [scale * h ** (k + 1) * m for k, m in enumerate(exponential_moments(g, count + 1))]
    return np.array(
        [sum(math.comb(k, j) * low ** (k - j) * about_low[j] for j in range(k + 1)) for k in range(1, count + 1)]
    )


def weights(nodes: Sequence[float], integrals: np.ndarray, derivatives: Derivatives) -> np.ndarray:
    """Weights of m_j - m_n, m_j at r = nodes[j], in sum_k c_k integrals[k - 1]."""
    r = np.asarray(nodes)
    if derivatives == "full":
        return np.asarray(np.linalg.solve(np.vander(r, len(r) + 1, increasing=True)[:, 1:].T, integrals))
    nearest = np.argsort(np.abs(r), kind="stable")
    totals = np.zeros(len(r))
    for k, integral in enumerate(integrals, 1):
        some = nearest[:k]
        fit = np.linalg.inv(np.vander(r[some], k + 1, increasing=True)[:, 1:])
        totals[some] += integral * fit[k - 1]
    return totals
