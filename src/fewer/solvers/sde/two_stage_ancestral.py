"""Ancestral samplers of two calls a step: a second-order step down to a lower level, and fresh noise up again."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

from fewer.registry import part, variant
from fewer.settings import share
from fewer.solvers.forms import first_order
from fewer.solvers.ode.kdpm2 import KDPM2
from fewer.solvers.ode.singlestep import DPMSolverPP2S
from fewer.solvers.sde.ddim_eta import kept_by_flow
from fewer.solvers.sde.fresh import kept_by_eta, lower, raised
from fewer.solvers.trace import Level, Trace, Vector

ETA = "Song et al. 2021, DDIM, arXiv:2010.02502"


@dataclass(frozen=True)
class TwoStageAncestral(ABC):
    """A second-order step to s_d = k s', then noise up to s', with k = sqrt(1 - eta^2 (1 - s'^2 / s^2)), s = sigma / alpha.

    Two calls a step, one for the step to level 0; where the budget is a call short, the first step is of first order. No
    noise on the step to level 0.

    eta  0 to 1: 0 is the deterministic method
    """

    eta: float = 1.0
    order: int = 2
    in_flow: ClassVar[bool] = False  # whether the lower level is in proportion in tau, as ComfyUI has it on flows

    def __post_init__(self) -> None:
        share("eta", self.eta)

    def steps(self, calls: int) -> int:
        """n levels cost 2 n - 1 calls, or 2 n - 2 with a first step of one call."""
        return calls // 2 + 1

    def run(self, trace: Trace, levels: Sequence[Level], calls: int) -> Vector:
        """Down, call, down, up."""
        x = trace.start
        spare = calls < 2 * (len(levels) - 1) - 1
        for n, (here, there) in enumerate(pairwise(levels)):
            kept = (kept_by_flow if self.in_flow else kept_by_eta)(self.eta, here, there)
            low = lower(there, kept)
            if low.tau == 0 or (n == 0 and spare):
                x = first_order(x, (here, trace.call(x, here)), low)
            else:
                x = self.down(trace, x, here, low)
            x = raised(trace, x, low, there, kept)
        return x

    @abstractmethod
    def down(self, trace: Trace, x: Vector, here: Level, low: Level) -> Vector:
        """The deterministic step of two calls."""


@part(
    "dpmpp-2s-ancestral",
    title="DPM-Solver++ singlestep down, and noise up again",
    source=f"Lu et al. 2022, DPM-Solver++, arXiv:2211.01095; Crowson et al., k-diffusion; {ETA}",
    ranked=False,
)
@dataclass(frozen=True)
class DPMSolverPP2SAncestral(TwoStageAncestral):
    """The step down is `dpmpp-2s` with its inner call in the middle in log s."""

    def down(self, trace: Trace, x: Vector, here: Level, low: Level) -> Vector:
        """D_1 in the place of D, after a step of first order to the middle."""
        solver, middle = DPMSolverPP2S(inner="own"), here.between_in_log_s(low, 0.5)
        known = [(here, trace.call(x, here))]
        known.append((middle, trace.call(solver.step(x, known, middle), middle)))
        return solver.step(x, known, low)


@part(
    "kdpm2-ancestral",
    title="The midpoint rule in sigma down, and noise up again",
    source=f"Karras et al. 2022, EDM, arXiv:2206.00364; Crowson et al., k-diffusion; {ETA}",
    ranked=False,
)
@dataclass(frozen=True)
class KDPM2Ancestral(TwoStageAncestral):
    """The step down is `kdpm2`."""

    def down(self, trace: Trace, x: Vector, here: Level, low: Level) -> Vector:
        """The noise prediction in the middle in log s for that at the step's start."""
        return KDPM2().step(trace, x, here, low)


FLOWS = "Comfy Org, ComfyUI (ancestral samplers on flows)"
DPMSolverPP2SAncestralFlow = variant(
    DPMSolverPP2SAncestral, "dpmpp-2s-ancestral-flow", "dpmpp-2s-ancestral of flows: the lower level in proportion in tau",
    "`dpmpp-2s-ancestral` down to tau_d = tau' (1 - eta (1 - tau' / tau)), as `euler-ancestral-flow` goes.",
    source=FLOWS, in_flow=True,
)  # fmt: skip


@part(
    "kdpm2-ancestral-flow",
    title="kdpm2-ancestral of flows: lower and middle level in proportion in tau",
    source=FLOWS,
    ranked=False,
)
@dataclass(frozen=True)
class KDPM2AncestralFlow(TwoStageAncestral):
    """The midpoint rule in tau down to tau_d = tau' (1 - eta (1 - tau' / tau)), the middle at sqrt(tau tau_d), and noise up."""

    in_flow: ClassVar[bool] = True

    def down(self, trace: Trace, x: Vector, here: Level, low: Level) -> Vector:
        """u in the middle for the whole step."""
        middle = Level(math.sqrt(here.tau * low.tau), here.schedule)
        inner = x + (middle.tau - here.tau) * trace.call(x, here).u
        return x + (low.tau - here.tau) * trace.call(inner, middle).u
