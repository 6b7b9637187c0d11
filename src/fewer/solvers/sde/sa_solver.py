"""SA-Solver: Adams methods of the reverse SDE, with a corrector that keeps the predictor's noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from fewer.errors import InputError
from fewer.levels import half_log_snr, s_of_tau
from fewer.registry import part
from fewer.settings import share
from fewer.solvers.forms import step_in_lambda
from fewer.solvers.ode.unipc import Node, Start, UniPC
from fewer.solvers.sde.dpmpp_multistep import data_with_noise
from fewer.solvers.sde.fresh import between, kept_by_sde
from fewer.solvers.trace import Level, OneLevelACall, Trace, Vector


@part(
    "sa-solver",
    title="Stochastic Adams predictor and corrector of the reverse SDE",
    source="Xue et al. 2023, SA-Solver, arXiv:2309.05019",
    ranked=False,
)
@dataclass(frozen=True)
class SASolver(OneLevelACall):
    """The SDE of `dpmpp-2m-sde` with eta = tau(s)^2, D a polynomial in lambda through `predictor` or `corrector` outputs.

        x' = (sigma'/sigma) e^(-tau^2 h) x + (1 + tau^2) alpha' int_0^h e^((1 + tau^2) (r - h)) D dr + n
        n = sigma' sqrt(1 - e^(-2 tau^2 h)) z

    The corrector makes the step again with the output at its end among the others and the same z, at no call. A polynomial of two
    outputs has the weights of UniPC's B(h) = h, as in diffusers; with tau = 0 it is `unipc-bh1`, for `corrector` one
    above `predictor`. Orders grow with the calls made and fall with those left; level 0 is reached at first order.

    tau        at least 0: how much noise, between the levels `low` and `high` of s = sigma / alpha; 0 elsewhere
    predictor  outputs of the predictor, 1 to 3
    corrector  of the corrector, with the one at the step's end: 2 to 4, or 0 for none
    """

    tau: float = 1.0
    low: float = 0.05
    high: float = math.inf
    predictor: int = 3
    corrector: int = 4
    order: int = 2

    def __post_init__(self) -> None:
        share("tau", self.tau, math.inf)
        between(self.low, self.high)
        for name, value, those in (
            ("predictor", self.predictor, (1, 2, 3)),
            ("corrector", self.corrector, (0, 2, 3, 4)),
        ):
            if value not in those:
                raise InputError(f"{name} is {value!r}; expected one of {', '.join(map(str, those))}")

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """Predict, call, correct."""
        x = trace.start
        past: list[Node] = []  # newest first
        step: tuple[Start, Vector, list[Node]] | None = None
        for n, (here, there) in enumerate(pairwise(levels)):
            out = trace.call(x, here)
            if step is not None and self.corrector:
                start, noise, earlier = step
                new = (half_log_snr(start.level.tau) + step_in_lambda(start.level.tau, here.tau), out.data)
                x = self.to(start, here, [*earlier, new], noise)
            start = Start(x, here, out)
            order = 1 if there.tau == 0 else min(self.predictor, calls - n, len(past) + 1)
            kept = self.kept(here, there)
            noise = there.tau * math.sqrt(1 - kept**2) * trace.noise() if kept < 1 else Vector({})
            x = self.to(start, there, past[: order - 1], noise)
            step = start, noise, past[: max(min(self.corrector, calls - n + 1) - 2, 0)]
            if here.tau < 1:
                past = [(half_log_snr(here.tau), out.data), *past]
        return x

    def to(self, start: Start, there: Level, nodes: Sequence[Node], noise: Vector) -> Vector:
        """The step through the output at the start and those of the nodes, with a noise."""
        x, here, out = start
        unipc, kept = UniPC(variant="bh1"), self.kept(here, there)
        step = unipc.first_order(x, here, there, out)
        if kept < 1:
            step = step - there.tau / here.tau * (1 - kept) * (x - (1 - here.tau) * out.data) + noise
        lam, h = half_log_snr(here.tau), step_in_lambda(here.tau, there.tau)
        if math.isinf(h):
            return step
        scale, g = data_with_noise(self.eta(here)).kernel(here.tau, there.tau)
        weights = unipc.weights(g, [(at - lam) / h for at, _ in nodes]) if nodes else []
        for weight, (_, data) in zip(weights, nodes, strict=True):
            step = step + scale * weight * (data - out.data)
        return step

    def eta(self, here: Level) -> float:
        """tau^2 of a step, at its start."""
        return self.tau**2 if self.low <= s_of_tau(here.tau) <= self.high else 0.0

    def kept(self, here: Level, there: Level) -> float:
        """The share of the old noise in the step's end."""
        return kept_by_sde(self.eta(here), here, there)
