"""UniPC: a multistep predictor and corrector of any order, data prediction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fewer.parts import part
from fewer.solvers.dpmpp import exponential_step
from fewer.solvers.history import half_log_snr
from fewer.solvers.trace import Level, Trace, Vector

SOURCE = "Zhao et al. 2023, UniPC"


@part("unipc", title="UniPC, second-order predictor and corrector", source=SOURCE)
@dataclass(frozen=True)
class UniPC:
    """The method; `order` the predictor's, `variant` the function B(h).

    With r_i = (lambda_i - lambda) / h for past levels i, D_i their data predictions and D the current one, predictor
    and corrector add alpha' B(h) sum_i (rho_i / r_i) (D_i - D) to the first-order step, the corrector with the new
    level (r = 1) among them; rho solves sum_i r_i^(k-1) rho_i = h int_0^1 e^(-h (1 - v)) v^k dv / B for k = 1 .. p, so
    that a polynomial D of degree p is integrated exactly. B(h) = h (bh1) or 1 - e^-h (bh2). The corrector costs no
    call: it uses the output of the call after the step. The order is at most the number of calls made, and of calls
    left; level 0 is reached at first order.
    """

    order: int = 2
    variant: Literal["bh1", "bh2"] = "bh2"

    def steps(self, calls: int) -> int:
        """One level a call."""
        return calls

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """Predict, call, correct."""
        x = trace.start
        past: list[tuple[float, Vector]] = []
        before: tuple[Vector, Level, Vector] | None = None
        used = 0
        for n, here in enumerate(levels[:-1]):
            data = trace.call(x, here).data
            if before is not None:
                start, level, old = before
                x = self.update(start, level, here, old, past[:-1][-(used - 1) :] if used > 1 else [], data)
            past.append((half_log_snr(here), data))
            there = levels[n + 1]
            used = min(self.order, n + 1, calls - n)
            finite = [entry for entry in past[:-1] if math.isfinite(entry[0])]
            used = 1 if there.tau == 0 else min(used, len(finite) + 1)
            before = (x, here, data)
            x = self.update(x, here, there, data, finite[-(used - 1) :] if used > 1 else [])
        return x

    def update(
        self, x: Vector, here: Level, there: Level, data: Vector, past: list[tuple[float, Vector]],
        new: Vector | None = None,
    ) -> Vector:  # fmt: skip
        """The step from `here` to `there`, predicted from `past`, or corrected with the data prediction `new`."""
        step = exponential_step(x, here, there, data)
        start = half_log_snr(here)
        h = half_log_snr(there) - start
        if math.isinf(h):
            return step
        r = [(time - start) / h for time, _ in reversed(past)]
        known = [(D - data) / r_i for r_i, (_, D) in zip(r, reversed(past), strict=True)]
        if new is not None:
            r, known = [*r, 1.0], [*known, new - data]
        if not known:
            return step
        for rho, difference in zip(self.weights(h, r), known, strict=True):
            step = step + (1 - there.tau) * self.b(h) * rho * difference
        return step

    def b(self, h: float) -> float:
        """B(h)."""
        return h if self.variant == "bh1" else -math.expm1(-h)

    def weights(self, h: float, r: list[float]) -> list[float]:
        """rho: each power v^k, v in [0, 1] across the step, is integrated against e^(-h (1 - v)) exactly.

        A single weight is 1/2 whatever h (the paper's choice, which keeps the order).
        """
        if len(r) == 1:
            return [0.5]
        phi = -math.expm1(-h) / h  # int_0^1 e^(-h (1 - v)) dv
        right = []
        for k in range(1, len(r) + 1):
            phi = (1 - phi) / h if k == 1 else (1 - k * phi) / h  # int_0^1 e^(-h (1 - v)) v^k dv
            right.append(h * phi / self.b(h))
        matrix = np.array([[r_i ** (k - 1) for r_i in r] for k in range(1, len(r) + 1)])
        return list(np.linalg.solve(matrix, np.array(right)))


@part("unipc-3", title="UniPC, third-order predictor and corrector", source=SOURCE)
@dataclass(frozen=True)
class UniPC3(UniPC):
    """UniPC with two past outputs in the predictor and three in the corrector."""

    order: int = 3
