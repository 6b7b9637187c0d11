"""UniPC: a multistep predictor and corrector of any order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fewer.parts import part
from fewer.solvers.history import half_log_snr
from fewer.solvers.trace import Level, Output, Trace, Vector

SOURCE = "Zhao et al. 2023, UniPC"


@part("unipc", title="UniPC, second-order predictor and corrector", source=SOURCE)
@dataclass(frozen=True)
class UniPC:
    """Predictor and corrector of one polynomial, the corrector with the newest output among its nodes.

    order      the predictor's; the corrector's is one higher
    variant    the function B(h)
    predicts   what is a polynomial in lambda: D ("data") or eps ("noise")
    corrector  False leaves the predictor alone (the paper's UniP)

    With r_i = (lambda_i - lambda) / h for past levels i, D_i their data predictions and D the current one, predictor
    and corrector add alpha' B(h) sum_i (rho_i / r_i) (D_i - D) to the first-order step, the corrector with the new
    level (r = 1) among them; rho solves sum_i r_i^(k-1) rho_i = h int_0^1 e^(-h (1 - v)) v^k dv / B for k = 1 .. p, so
    that a polynomial D of degree p is integrated exactly. B(h) = h (bh1) or 1 - e^-h (bh2). With noise prediction eps
    stands for D, -sigma' for alpha', e^(h (1 - v)) for e^(-h (1 - v)), and bh2 is e^h - 1.
    The corrector costs no call: it uses the output of the call after the step. The order is at most the number of calls
    made, and of calls left; level 0 is reached at first order.
    """

    order: int = 2
    variant: Literal["bh1", "bh2"] = "bh2"
    predicts: Literal["data", "noise"] = "data"
    corrector: bool = True

    def steps(self, calls: int) -> int:
        """One level a call."""
        return calls

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """Predict, call, correct."""
        x = trace.start
        past: list[tuple[float, Vector]] = []
        before: tuple[Vector, Level, Output] | None = None
        used = 0
        for n, here in enumerate(levels[:-1]):
            out = trace.call(x, here)
            if before is not None and self.corrector:
                start, level, old = before
                known = past[:-1][-(used - 1) :] if used > 1 else []
                x = self.update(start, level, here, old, known, self.prediction(out))
            past.append((half_log_snr(here), self.prediction(out)))
            there = levels[n + 1]
            used = min(self.order, n + 1, calls - n)
            finite = [entry for entry in past[:-1] if math.isfinite(entry[0])]
            used = 1 if there.tau == 0 else min(used, len(finite) + 1)
            before = (x, here, out)
            x = self.update(x, here, there, out, finite[-(used - 1) :] if used > 1 else [])
        return x

    def update(
        self, x: Vector, here: Level, there: Level, out: Output, past: list[tuple[float, Vector]],
        new: Vector | None = None,
    ) -> Vector:  # fmt: skip
        """The step from `here` to `there`, predicted from `past`, or corrected with the prediction `new`."""
        step = self.first_order(x, here, there, out)
        start, now = half_log_snr(here), self.prediction(out)
        h = half_log_snr(there) - start
        if math.isinf(h):
            return step
        r = [(time - start) / h for time, _ in reversed(past)]
        known = [(old - now) / r_i for r_i, (_, old) in zip(r, reversed(past), strict=True)]
        if new is not None:
            r, known = [*r, 1.0], [*known, new - now]
        if not known:
            return step
        scale, g = (1 - there.tau, -h) if self.predicts == "data" else (-there.tau, h)
        for rho, difference in zip(self.weights(g, r), known, strict=True):
            step = step + scale * self.b(g) * rho * difference
        return step

    def prediction(self, out: Output) -> Vector:
        """D or eps."""
        return out.data if self.predicts == "data" else out.noise

    def first_order(self, x: Vector, here: Level, there: Level, out: Output) -> Vector:
        """From x, which a corrector may have moved since the call, with the prediction as it was."""
        if self.predicts == "data":
            ratio = there.tau / here.tau
            return ratio * x + (1 - ratio) * out.data
        if here.tau == 1:
            return x + (there.tau - 1) * out.u
        return ((1 - there.tau) * x + (there.tau - here.tau) * out.noise) / (1 - here.tau)

    def b(self, g: float) -> float:
        """B as a function of g = -h (data) or h (noise): |g| or |e^g - 1|."""
        return abs(g) if self.variant == "bh1" else abs(math.expm1(g))

    def weights(self, g: float, r: list[float]) -> list[float]:
        """rho: each power v^k, v in [0, 1] across the step, is integrated against e^(g (1 - v)) exactly.

        A single weight is 1/2 whatever h (the paper's choice, which keeps the order).
        """
        if len(r) == 1:
            return [0.5]
        phi = math.expm1(g) / g  # int_0^1 e^(g (1 - v)) dv
        right = []
        for k in range(1, len(r) + 1):
            phi = (k * phi - 1) / g  # int_0^1 e^(g (1 - v)) v^k dv
            right.append(abs(g) * phi / self.b(g))
        matrix = np.array([[r_i ** (k - 1) for r_i in r] for k in range(1, len(r) + 1)])
        return list(np.linalg.solve(matrix, np.array(right)))


@part("unipc-1", title="UniPC, first-order predictor, second-order corrector", source=SOURCE, ranked=False)
@dataclass(frozen=True)
class UniPC1(UniPC):
    """DDIM's step, then the corrector with both ends of the step."""

    order: int = 1


@part("unipc-3", title="UniPC, third-order predictor and corrector", source=SOURCE)
@dataclass(frozen=True)
class UniPC3(UniPC):
    """UniPC with two past outputs in the predictor and three in the corrector."""

    order: int = 3


@part("unipc-bh1", title="UniPC with B(h) = h, second order", source=SOURCE, ranked=False)
@dataclass(frozen=True)
class UniPCBH1(UniPC):
    """The other of the paper's two choices of B."""

    variant: Literal["bh1", "bh2"] = "bh1"
