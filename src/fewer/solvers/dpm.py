"""DPM-Solver, multistep: DPM-Solver++'s steps with the noise prediction in place of the data prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from fewer.parts import part
from fewer.solvers.dpmpp import DPMSolverPP2M, DPMSolverPP3M

SOURCE = "Lu et al. 2022, DPM-Solver; its multistep form in diffusers"


@part("dpm-2m", title="DPM-Solver multistep, second order", source=SOURCE, ranked=False)
@dataclass(frozen=True)
class DPMSolver2M(DPMSolverPP2M):
    """eps is extrapolated to the step's middle: eps + (h / h_last) (eps - eps_last) / 2; first order at both ends."""

    predicts: ClassVar[Literal["data", "noise"]] = "noise"


@part("dpm-3m", title="DPM-Solver multistep, three outputs", source=SOURCE, ranked=False)
@dataclass(frozen=True)
class DPMSolver3M(DPMSolverPP3M):
    """`dpmpp-3m` with eps for D: of second order too, since half of the curvature is integrated."""

    predicts: ClassVar[Literal["data", "noise"]] = "noise"
