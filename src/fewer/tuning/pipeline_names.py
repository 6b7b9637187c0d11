"""What a pipeline's own scheduler is called here: for `--keep steps` and `--keep solver`."""

from __future__ import annotations

from fewer.errors import InputError
from fewer.models.model import Model

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
}
_THIRD = {"dpmpp-2m": "dpmpp-3m", "unipc": "unipc-3", "deis": "deis-3"}
_INTERVALS = ("DPMSolver", "UniPC", "DEIS")  # their 'linspace' is n intervals, which is 'uniform' here


def own_names(model: Model) -> tuple[str, str]:
    """Solver and grid of the model's own pipeline. Raises InputError where it has none that is known here.

    An ancestral DDPM scheduler counts as its deterministic form, DDIM.
    """
    if model.pipeline is None:
        raise InputError(f"keep of steps or solver needs a pipeline with a scheduler; {model.name} has none")
    kind, config = model.pipeline["class"], model.pipeline["config"]
    if kind not in _SOLVERS:
        raise InputError(f"keep of steps or solver does not know {kind}; expected one of {', '.join(_SOLVERS)}")
    solver = _SOLVERS[kind]
    if config.get("solver_order") == 3:
        solver = _THIRD.get(solver, solver)
    return solver, _grid(kind, config)


def _grid(kind: str, config: dict[str, object]) -> str:
    for option, name in (("karras_sigmas", "karras"), ("exponential_sigmas", "exponential"), ("lu_lambdas", "lu")):
        if config.get(f"use_{option}"):
            return name
    if kind.startswith("EDM"):
        return "karras"
    spacing = str(config.get("timestep_spacing") or "linspace")
    return "uniform" if spacing == "linspace" and kind.startswith(_INTERVALS) else spacing
