"""SEEDS and DPM++ SDE: steps of several calls, whose stages share one Brownian path.

With lambda = log(alpha / sigma), h = lambda' - lambda and eta times the variance of its noise (eta = 1: the usual SDE), the
reverse SDE has the exact solution

    x' = (sigma'/sigma) e^(-eta h) x + (1 + eta) alpha' int_0^h e^((1 + eta) (r - h)) D dr + sigma' n
    n = sqrt(2 eta) int_0^h e^(eta (r - h)) dW

A stage at c h has the noise n_c of the path up to there, and with m = (1 - c) h the step has n = e^(-eta m) n_c + sqrt(1 - e^(-2
eta m)) z with fresh z: what a stage has seen of the path is in the step's noise too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from fewer.levels import s_of_tau
from fewer.registry import part, variant
from fewer.settings import share
from fewer.solvers.forms import Known, first_order, step_in_lambda
from fewer.solvers.ode.singlestep import DPMSolverPP2S
from fewer.solvers.sde.dpmpp_multistep import data_with_noise
from fewer.solvers.sde.fresh import kept_by_eta, kept_by_sde
from fewer.solvers.trace import Level, Trace, Vector

NONE = Vector({})
SOURCE = "Gonzalez et al. 2023, SEEDS (data prediction), arXiv:2305.14267"


@part("seeds-2", title="Exponential integrator of the reverse SDE, two calls a step", source=SOURCE, ranked=False)
@dataclass(frozen=True)
class SEEDS2:
    """The stage lies in the middle of h; the step has D + (D_1 - D) / (2 c), c = 1/2, for D: `dpmpp-2s` for eta = 0.

    Calls that fill no whole step make the first but one, a shorter one; the last goes on to level 0 without noise. From pure
    noise on D is that of the step's last call.

    eta  at least 0: 0 is the flow, 1 the usual SDE
    """

    eta: float = 1.0
    order: int = 2
    stages: ClassVar[int] = 2

    def __post_init__(self) -> None:
        share("eta", self.eta, math.inf)

    @property
    def without_noise(self) -> DPMSolverPP2S:
        """The deterministic method, which has the same calls."""
        return DPMSolverPP2S(self.stages, "midpoint" if self.stages < 3 else "paper", "own")

    def steps(self, calls: int) -> int:
        """One level a step."""
        return self.without_noise.steps(calls)

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """Step by step, stage by stage."""
        x = trace.start
        for size, (here, there) in zip(self.without_noise.sizes(calls), pairwise(levels), strict=True):
            known, seen, last = [(here, trace.call(x, here))], NONE, here
            for level in [here.between_in_log_s(there, k / size) for k in range(1, size)]:
                seen, last = self.path(trace, seen, (here, last, level)), level
                known.append((level, trace.call(self.step(x, known, level, seen), level)))
            x = self.step(x, known, there, self.path(trace, seen, (here, last, there)))
        return x

    def step(self, x: Vector, known: Sequence[Known], there: Level, noise: Vector) -> Vector:
        """From x at the first of the known calls to `there`, with the path's noise up to there."""
        (here, first), (late, last) = known[0], known[-1]
        kept = self.kept(here, there)
        if kept == 1 or len(known) == 1:
            step = self.without_noise.step(x, known, there)
        elif here.tau == 1:
            step = first_order(x, known[0], there) + (1 - there.tau) * (last.data - first.data)
        else:
            form = data_with_noise(-math.log(kept) / step_in_lambda(here.tau, there.tau))
            lambdas = [form.place(level) for level in (here, late, there)]
            if self.stages < 3:
                c = (lambdas[1] - lambdas[0]) / (lambdas[2] - lambdas[0])
                weight = form.weights(here, there, lambdas[:1])[0] / (2 * c)
            else:
                weight = form.weights(here, there, lambdas[:2])[1]
            step = first_order(x, known[0], there) + weight * (last.data - first.data)
        return step if kept == 1 else step - there.tau * (1 - kept) * first.noise + there.tau * noise

    def kept(self, here: Level, there: Level) -> float:
        """The share of a step's first noise that is left at a level."""
        return kept_by_sde(self.eta, here, there)

    def path(self, trace: Trace, seen: Vector, levels: tuple[Level, Level, Level]) -> Vector:
        """n at the last of three levels from n at the second; the first is the step's start, where n = 0."""
        _, last, level = levels
        kept = self.kept(last, level)
        return seen if kept == 1 else kept * seen + math.sqrt(1 - kept**2) * trace.noise()


SEEDS1 = variant(
    SEEDS2, "seeds-1", "Exponential integrator of the reverse SDE, one call a step",
    "The step with a constant D: for eta = 1 the table of `ancestral`, for eta = 0 DDIM.", order=1, stages=1,
)  # fmt: skip
SEEDS3 = variant(
    SEEDS2, "seeds-3", "Exponential integrator of the reverse SDE, three calls a step",
    "Stages at thirds of h; the second and the step take the line through D and the stage before them, exactly.", stages=3,
)  # fmt: skip


@part(
    "dpmpp-sde",
    title="DPM++ SDE: DPM-Solver++ singlestep with the noise of a Brownian path in sigma",
    source="Lu et al. 2022, DPM-Solver++, arXiv:2211.01095; Crowson et al., k-diffusion (dpmpp_sde)",
    ranked=False,
)
@dataclass(frozen=True)
class DPMSolverPPSDE(SEEDS2):
    """`seeds-2` with noise as k-diffusion and diffusers draw it: increments of a path in s = sigma / alpha, made of unit variance.

    Each then has the right variance, but stage and step are correlated by sqrt((s - s_c) / (s - s')), which is the SDE's own number
    for small steps only. The noise kept is DDIM's with eta, sqrt(1 - eta^2 (1 - r^2)), r = s' / s.

    eta  0 to 1
    """

    def __post_init__(self) -> None:
        share("eta", self.eta)

    def kept(self, here: Level, there: Level) -> float:
        """That of DDIM with eta."""
        return kept_by_eta(self.eta, here, there)

    def path(self, trace: Trace, seen: Vector, levels: tuple[Level, Level, Level]) -> Vector:
        """The increment from the step's start to a level, of unit variance, times the deviation of the noise at that level."""
        here, last, level = levels
        kept = self.kept(here, level)
        if kept == 1:
            return seen
        if last == here:
            return math.sqrt(1 - kept**2) * trace.noise()
        s, low, end = (s_of_tau(each.tau) for each in (here, last, level))
        old = (s - low) / (s - end) if math.isfinite(s) else 1.0
        fresh = math.sqrt(1 - old) * trace.noise()
        return math.sqrt(1 - kept**2) * (math.sqrt(old / (1 - self.kept(here, last) ** 2)) * seen + fresh)
