"""UniPC: a multistep predictor and corrector of any order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, NamedTuple

from fewer.levels import half_log_snr
from fewer.registry import part, variant
from fewer.solvers.forms import DATA_IN_LAMBDA, NOISE_IN_LAMBDA, Exponential, step_in_lambda
from fewer.solvers.integrals import moments, polynomial_weights
from fewer.solvers.trace import Level, OneLevelACall, Output, Trace, Vector

SOURCE = "Zhao et al. 2023, UniPC, arXiv:2302.04867"
Node = tuple[float, Vector]  # lambda and the prediction there


class Start(NamedTuple):
    """The start of a step: its state, level and output."""

    x: Vector
    level: Level
    out: Output


@part("unipc", title="UniPC, second-order predictor and corrector", source=SOURCE)
@dataclass(frozen=True)
class UniPC(OneLevelACall):
    """A predictor and a corrector by the same polynomial, the corrector with the output at the step's end among its nodes.

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

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """Predict, call, correct."""
        x = trace.start
        past: list[Node] = []
        start: Start | None = None
        earlier: list[Node] = []
        for n, (here, there) in enumerate(pairwise(levels)):
            out = trace.call(x, here)
            if start is not None and self.corrector:
                x = self.correct(start, here, earlier, self.prediction(out))
            start = Start(x, here, out)
            finite = [node for node in past if math.isfinite(node[0])]
            order = 1 if there.tau == 0 else min(self.order, calls - n, len(finite) + 1)
            earlier = finite[: order - 1]
            x = self.predict(start, there, earlier)
            past = [(half_log_snr(here.tau), self.prediction(out)), *past]
        return x

    def predict(self, start: Start, there: Level, earlier: Sequence[Node]) -> Vector:
        """Predictor: the state at `there` from the output at the step's start and earlier ones, newest first."""
        return self.step(start, there, earlier)

    def correct(self, start: Start, there: Level, earlier: Sequence[Node], new: Vector) -> Vector:
        """Corrector: the same step again, with the prediction at its end among the nodes."""
        lam = half_log_snr(start.level.tau)
        return self.step(start, there, [*earlier, (lam + step_in_lambda(start.level.tau, there.tau), new)])

    def step(self, start: Start, there: Level, nodes: Sequence[Node]) -> Vector:
        """The first-order step plus alpha' B(h) sum_i (rho_i / r_i) (D_i - D) over the nodes."""
        x, here, out = start
        step = self.first_order(x, here, there, out)
        lam, h = half_log_snr(here.tau), step_in_lambda(here.tau, there.tau)
        if math.isinf(h):
            return step
        scale, g = self.form.kernel(here.tau, there.tau)
        weights = self.weights(g, [(at - lam) / h for at, _ in nodes])
        for weight, (_, prediction) in zip(weights, nodes, strict=True):
            step = step + scale * weight * (prediction - self.prediction(out))
        return step

    @property
    def form(self) -> Exponential:
        """The exponential form whose polynomial is integrated."""
        return DATA_IN_LAMBDA if self.predicts == "data" else NOISE_IN_LAMBDA

    def prediction(self, out: Output) -> Vector:
        """D or eps."""
        return self.form.prediction(out)

    def first_order(self, x: Vector, here: Level, there: Level, out: Output) -> Vector:
        """DDIM's step from x, which the corrector may have moved since the call that gave `out`."""
        if self.predicts == "data":
            ratio = there.tau / here.tau
            return ratio * x + (1 - ratio) * out.data
        if here.tau == 1:
            return x + (there.tau - 1) * out.u
        return ((1 - there.tau) * x + (there.tau - here.tau) * out.noise) / (1 - here.tau)

    def weights(self, g: float, r: list[float]) -> list[float]:
        """The weights B(h) rho_i / (h r_i) of the differences D_i - D, D_i at r_i.

        A single one has rho = 1/2 whatever h, the paper's choice, which keeps the order; more integrate exactly.
        """
        if len(r) == 1:
            return [(1.0 if self.variant == "bh1" else moments(g, 1)[0]) / (2 * r[0])]
        return polynomial_weights([0.0, *r], g)[1:].tolist()


UniPC1 = variant(
    UniPC, "unipc-1", "UniPC, first-order predictor, second-order corrector",
    "DDIM's step, then the corrector with both ends of the step.", order=1,
)  # fmt: skip
UniPC3 = variant(
    UniPC, "unipc-3", "UniPC, third-order predictor and corrector",
    "UniPC with two past outputs in the predictor and three in the corrector.", ranked=True, order=3,
)  # fmt: skip
UniPCBH1 = variant(
    UniPC, "unipc-bh1", "UniPC with B(h) = h, second order", "The other of the paper's two choices of B.", variant="bh1"
)
