"""DPM-Solver, multistep: DPM-Solver++'s steps with the noise prediction in place of the data prediction."""

from __future__ import annotations

from fewer.registry import variant
from fewer.solvers.forms import NOISE_IN_LAMBDA
from fewer.solvers.ode.dpmpp import DPMSolverPP2M, DPMSolverPP3M

SOURCE = "Lu et al. 2022, DPM-Solver, arXiv:2206.00927; its multistep form in diffusers"
IN_2M = "eps is extrapolated to the step's middle: eps + (h / h_last) (eps - eps_last) / 2; first order at both ends."
IN_3M = "`dpmpp-3m` with eps for D: of second order too, since half of the curvature is integrated."

DPMSolver2M = variant(
    DPMSolverPP2M, "dpm-2m", "DPM-Solver multistep, second order", IN_2M, source=SOURCE, form=NOISE_IN_LAMBDA
)
DPMSolver3M = variant(
    DPMSolverPP3M, "dpm-3m", "DPM-Solver multistep, three outputs", IN_3M, source=SOURCE, form=NOISE_IN_LAMBDA
)
