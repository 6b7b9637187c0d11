"""Solver and grid of fewer that a pipeline's scheduler corresponds to, for `--keep solver` and `--keep steps`."""

from __future__ import annotations

from fewer.errors import InputError
from fewer.models.model import Model
from fewer.models.pipelines.pipeline_defaults import PipelineDefaults

_SOLVERS = {
    "DDIMScheduler": "ddim",
    "DDPMScheduler": "ddim",
    "EulerDiscreteScheduler": "euler",
    "EDMEulerScheduler": "euler",
    "FlowMatchEulerDiscreteScheduler": "euler",
    "HeunDiscreteScheduler": "heun",
    "FlowMatchHeunDiscreteScheduler": "heun-flow",
    "PNDMScheduler": "ipndm",
    "IPNDMScheduler": "ipndm",
    "DPMSolverMultistepScheduler": "dpmpp-2m",
    "EDMDPMSolverMultistepScheduler": "dpmpp-2m",
    "UniPCMultistepScheduler": "unipc",
    "DEISMultistepScheduler": "deis",
    "LCMScheduler": "lcm",
    "FlowMatchLCMScheduler": "lcm",
    "TCDScheduler": "tcd",
    "CMStochasticIterativeScheduler": "consistency",
}
_THIRD = {"dpmpp-2m": "dpmpp-3m", "unipc": "unipc-3", "deis": "deis-3"}
_INTERVALS = ("DPMSolver", "UniPC", "DEIS")  # their 'linspace' is n intervals, which is 'uniform' here


def own_solver(model: Model) -> str:
    """Solver of the model's pipeline. Raises InputError where it has none that is known here.

    An ancestral DDPM scheduler counts as its deterministic form, DDIM.
    """
    pipeline = _known(model)
    solver = _SOLVERS[pipeline.scheduler]
    return _THIRD.get(solver, solver) if pipeline.config.get("solver_order") == 3 else solver


def own_grid(model: Model) -> str:
    """Grid of the model's own pipeline. Raises InputError where it has none that is known here, as of shifted levels."""
    pipeline = _known(model)
    kind, config = pipeline.scheduler, pipeline.config
    shift = config.get("flow_shift") if config.get("use_flow_sigmas") else config.get("shift")
    if config.get("use_dynamic_shifting") or (shift or 1.0) != 1.0:
        raise InputError(
            f"keep of steps knows no grid of the shifted levels of {model.name}'s {kind}; keep solver goes"
        )
    if pipeline.shift is not None and pipeline.shift.regular:
        return "trailing"
    for option, name in (("karras_sigmas", "karras"), ("exponential_sigmas", "exponential"), ("lu_lambdas", "lu")):
        if config.get(f"use_{option}"):
            return name
    if kind in ("LCMScheduler", "TCDScheduler"):
        return "lcm"
    if kind.startswith("EDM"):
        return "karras"
    spacing = str(config.get("timestep_spacing") or "linspace")
    return "uniform" if spacing == "linspace" and kind.startswith(_INTERVALS) else spacing


def _known(model: Model) -> PipelineDefaults:
    """What the model keeps of a pipeline whose scheduler has names here."""
    if model.pipeline is None:
        raise InputError(f"keep of steps or solver needs a pipeline with a scheduler; {model.name} has none")
    if (kind := model.pipeline.scheduler) not in _SOLVERS:
        raise InputError(f"keep of steps or solver does not know {kind}; expected one of {', '.join(_SOLVERS)}")
    return model.pipeline
