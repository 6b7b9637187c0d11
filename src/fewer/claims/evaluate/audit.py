"""What faults of a pipeline's own schedule cost, as `fewer inspect --cost` measures it, on diffusers' own tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import diffusers
import numpy as np

from fewer import Model, Plan
from fewer.audit import Case, audit
from fewer.audit.cost import Costs
from fewer.audit.shifts import shift
from fewer.claims.claim import Measured, claim
from fewer.claims.exact import images, mixture_of
from fewer.engine import times
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.statistics.interval import Interval
from fewer.models.schedules import Flow, Schedule, betas, discrete
from fewer.noise import unit_noise

NOISES = 128
ENDS = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "scaled_linear"}  # of the bundled mixture
M = 3.0  # the shift of the flow
LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}  # of Rombach et al. 2022
SCHEDULES: dict[str, Schedule] = {
    "by flow": Flow(), "latent": discrete(betas("scaled_linear", 1000, 0.00085, 0.012), name="latent diffusion"),
}  # fmt: skip
AUDIT = ("evaluate", "schedule-audit")


@cache
def images_by(name: str) -> Model:
    """The bundled mixture of images on straight paths, or under latent diffusion's noise, which ends at alpha/sigma = 0.068."""
    return Model.from_mixture(mixture_of(images()), SCHEDULES[name], name=f"mixture16 {name}", hash=f"mixture16 {name}")


def ddim(steps: int, spacing: str = "trailing", latent: bool = False, **given: bool) -> Case:
    """DDIM of diffusers on the mixture's own noise, or on that of latent diffusion."""
    model, ends = (images_by("latent"), LATENT) if latent else (images(), ENDS)
    scheduler = diffusers.DDIMScheduler(**ends, clip_sample=False, timestep_spacing=spacing, **given)
    return Case.of(model, scheduler, steps)


def rounded(steps: int) -> Case:
    """DPM-Solver++ on Karras' levels, whose times diffusers rounds."""
    return Case.of(images(), diffusers.DPMSolverMultistepScheduler(**ENDS, use_karras_sigmas=True), steps)


def shifted_twice(steps: int) -> Case:
    """Euler on a flow, given levels that are shifted already."""
    sigmas = shift(np.linspace(1, 1 / steps, steps), M)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=M)
    return Case.of(images_by("by flow"), scheduler, steps, tuple(sigmas.tolist()))


@dataclass(frozen=True)
class Costly:
    """A fault, the case that has it, and what is claimed of its cost."""

    fault: str
    case: Callable[[int], Case]
    steps: int
    of: tuple[tuple[str, str], ...]
    claimed: str
    above: float = -math.inf
    below: float = math.inf


COSTLY = (
    Costly(
        "late start", partial(ddim, spacing="leading"), 5, (AUDIT, ("grids", "leading"), ("grids", "trailing")),
        "DDIM with leading spacing has a larger error than with trailing spacing", above=1.0,
    ),
    Costly(
        "residual noise", partial(ddim, set_alpha_to_one=False), 50, (AUDIT,),
        "DDIM that ends at the cleanest trained level has a larger error than if its last step goes on to level 0", above=1.0,
    ),
    Costly(
        "terminal SNR", partial(ddim, latent=True), 20, (AUDIT,),
        "pure noise at alpha/sigma = 0.068 makes the spread of the samples' means narrower than a start that holds its share "
        "of data", above=1.0,
    ),
    Costly(
        "off levels", ddim, 7, (AUDIT,),
        "DDIM whose steps end a time beside the next level costs at most 5 % of error", below=1.05,
    ),
    Costly(
        "rounded times", rounded, 10, (AUDIT,),
        "rounding times to whole ones costs DPM-Solver++ at most 5 % of error", below=1.05,
    ),
    Costly(
        "shift twice", shifted_twice, 10, (AUDIT,),
        "a flow whose levels are shifted twice has a larger error than with one shift", above=1.0,
    ),
)  # fmt: skip


RATIO = "ratio of paired RMSE, as it is over repaired"
FIGURES = {"terminal SNR": "ratio of the spreads of the samples' means, repaired over as it is"}


def mistimed(model: Model, plan: Plan) -> Plan:
    """The same table, its calls given each other's times in reverse."""
    pairs = zip(plan.rows, reversed(times(model, plan)), strict=True)
    return replace(plan, rows=tuple(replace(row, t=t) for row, t in pairs))


def cost_of(what: Costly, seed: int, sabotage: bool) -> Measured:
    """The cost of the fault.

    Sabotaged, the side that is claimed to be the better one has wrong times: the repaired table, or, where the fault is
    to cost little, the table as it is. Where no table repairs the fault, the two sides change places.
    """
    case = what.case(what.steps)
    plan, fault = case.plan, next(fault for fault in audit(case) if fault.name == what.fault)
    if sabotage and what.above == -math.inf:
        plan = mistimed(case.model, plan)
    elif sabotage and fault.repaired is not None:
        fault = replace(fault, repaired=mistimed(case.model, fault.repaired))
    noise = unit_noise(seed, range(NOISES), case.model.shape)
    noises = Evaluator(case.model, noise, case.model.labels(NOISES))
    cost = Costs(noises, [plan] if fault.repaired is None else [plan, fault.repaired]).of(plan, fault)
    if cost is None:
        raise TypeError(f"{what.fault} has no cost")
    if sabotage and fault.repaired is None:
        cost = Interval(1 / cost.value, 1 / cost.high, 1 / cost.low, cost.n)
    return Measured(cost)


for what in COSTLY:
    claim(
        f"audit/{what.fault.lower().replace(' ', '-')}",
        of=what.of,
        statement=f"At {what.steps} steps {what.claimed} ({FIGURES.get(what.fault, RATIO)}).",
        baseline="the same scheduler's table with this one fault repaired, same noise; exact 16x16 image mixture",
        above=what.above,
        below=what.below,
    )(partial(cost_of, what))
