"""Dormand and Prince's embedded Runge-Kutta pair of orders 5 and 4, with PI control of the step size.

After a step whose error is e_n times what is allowed, the next is h f with f = 0.9 e_n^-a e_{n-1}^b, where b = 0.04
and a = 1/5 - 3b/4, held between 1/5 and 5, and not above 1 after a rejected step. The second factor damps the
oscillation of steps that stability limits and not accuracy. Sources: Dormand & Prince 1980; Gustafsson 1991; Hairer &
Wanner, Solving Ordinary Differential Equations II (a and b as in their DOPRI5).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from scipy.integrate import RK45
from torch import Tensor

from fewer.errors import InputError

Field = Callable[[float, Tensor], Tensor]
Error = Callable[[Tensor, Tensor, Tensor], float]

STAGES = 6  # new ones a step: the seventh is the next step's first
_B = 0.04
_A = 0.2 - 0.75 * _B
_SHORTEST, _LONGEST, _SAFETY = 0.2, 5.0, 0.9


@dataclass(frozen=True)
class Solution:
    """State at the end, times of accepted steps with both ends, number of rejected steps and of evaluations of the field."""

    x: Tensor
    times: tuple[float, ...]
    rejected: int
    evaluations: int


def relative(rtol: float, atol: float) -> Error:
    """The error of a step of states (n, ...): root mean square over a sample's entries, the largest of the batch.

    Each entry counts in units of atol + rtol max(|x|, |x'|).
    """

    def error(estimate: Tensor, before: Tensor, after: Tensor) -> float:
        scaled = estimate / (atol + rtol * torch.maximum(before.abs(), after.abs()))
        return float(scaled.flatten(1).square().mean(1).max().sqrt())

    return error


def integrate(field: Field, x: Tensor, start: float, end: float, error: Error, most: int, what: str) -> Solution:
    """The solution at `end` of dx/dt = field(t, x) from x at `start`, in either direction.

    error  error(estimate, x, x') of a step, which is accepted up to 1
    most   evaluations of the field; InputError, which names `what`, where they do not suffice or are not finite
    """
    direction = math.copysign(1.0, end - start)
    t, times, rejected, before = start, [start], 0, 1.0
    first = field(t, x)
    if not bool(first.isfinite().all()):
        raise InputError(f"{what} is not finite at {t:.4g}")
    h, evaluations = _first_step(field, x, first, start, end, error), 2
    shortened = False  # after a rejection the step may not grow
    while t != end:
        if evaluations + STAGES > most:
            raise InputError(f"{what} is too rough: {evaluations} of at most {most} evaluations end at {t:.4g}")
        last = abs(end - t) <= h * (1 + 1e-9)
        step = end - t if last else direction * h
        there = end if last else t + step
        after, stages = _step(field, x, first, t, step, there)
        evaluations += STAGES
        e = error(step * _sum(RK45.E, stages), x, after)
        if not math.isfinite(e):
            e = 1e10
        if e <= 1:
            e = max(e, 1e-10)
            factor = _SAFETY * e**-_A * before**_B
            h = abs(step) * min(1.0 if shortened else _LONGEST, max(_SHORTEST, factor))
            t, x, first, before, shortened = there, after, stages[-1], max(e, 1e-4), False
            times.append(t)
        else:
            h = abs(step) * max(_SHORTEST, _SAFETY * e**-0.2)
            rejected, shortened = rejected + 1, True
            if h <= 1e-15 * max(abs(t), abs(end)):
                raise InputError(f"{what} is too rough: no step from {t:.4g} on is short enough")
    return Solution(x, tuple(times), rejected, evaluations)


def _step(field: Field, x: Tensor, first: Tensor, t: float, h: float, there: float) -> tuple[Tensor, list[Tensor]]:
    """The fifth-order state after a step, and its seven slopes, the last at that state."""
    stages = [first]
    for c, row in zip(RK45.C[1:], RK45.A[1:], strict=True):
        stages.append(field(there if c == 1 else t + float(c) * h, x + h * _sum(row[: len(stages)], stages)))
    after = x + h * _sum(RK45.B, stages)
    return after, [*stages, field(there, after)]


def _first_step(field: Field, x: Tensor, slope: Tensor, start: float, end: float, error: Error) -> float:
    """A hundredth of the allowed curvature's scale, from one Euler step (Hairer, Norsett & Wanner, volume I)."""
    span = abs(end - start)
    of_slope = error(slope, x, x)
    h = min(span, 0.01 * max(error(x, x, x), 1.0) / max(of_slope, 1e-10))
    step = math.copysign(h, end - start)
    bend = error(field(start + step, x + step * slope) - slope, x, x) / h
    return float(min(span, 100 * h, (0.01 / max(of_slope, bend, 1e-15)) ** 0.2))


def _sum(weights: Any, stages: list[Tensor]) -> Tensor:
    terms = [float(w) * stage for w, stage in zip(weights, stages, strict=True) if w != 0]
    return torch.stack(terms).sum(0)
