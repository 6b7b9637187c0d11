"""What faults of a pipeline's own schedule cost, as `fewer inspect --cost` measures it, on diffusers' own tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import diffusers
import numpy as np

from fewer.claims.claim import Check, Measured, claim
from fewer.claims.exact import images
from fewer.measures.audit import Case, Fault, audit
from fewer.measures.audit.cost import Bench
from fewer.measures.audit.shifts import shift
from fewer.measures.interval import Interval
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Flow, betas, discrete
from fewer.noise import unit_noise
from fewer.plan import Plan

NOISES = 128
ENDS = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "scaled_linear"}  # of the bundled mixture
M = 3.0  # the shift of the flow


LATENT = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}  # of Rombach et al. 2022
AUDIT = ("measures", "schedule-audit")


def _mixture() -> GaussianMixture:
    exact = images().exact
    if not isinstance(exact, GaussianMixture):
        raise TypeError("mixture16 is not exact")
    return exact


@cache
def images_by_flow() -> Model:
    """The bundled mixture of 16x16 images on straight paths."""
    return Model.from_mixture(_mixture(), Flow(), name="mixture16 by flow", hash="mixture16 by flow")


@cache
def images_by_latent() -> Model:
    """The same under the noise of latent diffusion, which ends at alpha/sigma = 0.068."""
    schedule = discrete(betas("scaled_linear", 1000, 0.00085, 0.012), name="latent diffusion")
    return Model.from_mixture(_mixture(), schedule, name="mixture16 latent", hash="mixture16 latent")


def leading(steps: int) -> Case:
    """DDIM with leading spacing."""
    return Case.of(images(), diffusers.DDIMScheduler(**ENDS, clip_sample=False, timestep_spacing="leading"), steps)


def ending_early(steps: int) -> Case:
    """DDIM with trailing spacing that ends at the cleanest trained level."""
    given = {"clip_sample": False, "timestep_spacing": "trailing", "set_alpha_to_one": False}
    return Case.of(images(), diffusers.DDIMScheduler(**ENDS, **given), steps)


def off_levels(steps: int) -> Case:
    """DDIM with trailing spacing, at a number of steps that does not divide 1000."""
    given = {"clip_sample": False, "timestep_spacing": "trailing"}
    return Case.of(images(), diffusers.DDIMScheduler(**ENDS, **given), steps)


def terminal(steps: int) -> Case:
    """DDIM with trailing spacing on the noise of latent diffusion."""
    given = {"clip_sample": False, "timestep_spacing": "trailing"}
    return Case.of(images_by_latent(), diffusers.DDIMScheduler(**LATENT, **given), steps)


def rounded(steps: int) -> Case:
    """DPM-Solver++ on Karras' levels, whose times diffusers rounds."""
    return Case.of(images(), diffusers.DPMSolverMultistepScheduler(**ENDS, use_karras_sigmas=True), steps)


def shifted_twice(steps: int) -> Case:
    """Euler on a flow, given levels that are shifted already."""
    sigmas = shift(np.linspace(1, 1 / steps, steps), M)
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=M)
    return Case.of(images_by_flow(), scheduler, steps, tuple(sigmas.tolist()))


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
    papers: tuple[int, ...] = ()


COSTLY = (
    Costly(
        "late start", leading, 5, (AUDIT, ("steps", "leading"), ("steps", "trailing")),
        "DDIM with leading spacing has a larger error than with trailing spacing", above=1.0, papers=(210,),
    ),
    Costly(
        "residual noise", ending_early, 50, (AUDIT,),
        "DDIM that ends at the cleanest trained level has a larger error than if its last step goes on to level 0", above=1.0,
    ),
    Costly(
        "terminal SNR", terminal, 20, (AUDIT,),
        "pure noise at alpha/sigma = 0.068 makes the spread of the samples' means narrower than a start that holds its share "
        "of data", above=1.0,
    ),
    Costly(
        "off levels", off_levels, 7, (AUDIT,),
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


def found(case: Case, name: str) -> Fault:
    """The fault of this name."""
    return next(fault for fault in audit(case) if fault.name == name)


def mistold(plan: Plan) -> Plan:
    """The same table, its calls told each other's times in reverse."""
    times = [row.t for row in reversed(plan.rows)]
    return replace(plan, rows=tuple(replace(row, t=t) for row, t in zip(plan.rows, times, strict=True)))


def costs(what: Costly) -> Check:
    """The cost of the fault.

    Sabotaged, the side that is claimed to be the better one is told wrong times: the repaired table, or, where the fault is
    to cost little, the table as it is. Where no table repairs the fault, the two sides change places.
    """

    def check(seed: int, sabotage: bool) -> Measured:
        case = what.case(what.steps)
        plan, fault = case.plan, found(case, what.fault)
        if sabotage and what.above == -math.inf:
            plan = mistold(plan)
        elif sabotage and fault.repaired is not None:
            fault = replace(fault, repaired=mistold(fault.repaired))
        noise = unit_noise(seed, range(NOISES), case.model.shape)
        bench = Bench(case.model, noise, [plan] if fault.repaired is None else [plan, fault.repaired])
        cost = bench.cost(plan, fault)
        if cost is None:
            raise TypeError(f"{what.fault} has no cost")
        if sabotage and fault.repaired is None:
            cost = Interval(1 / cost.value, 1 / cost.high, 1 / cost.low, cost.n)
        return Measured(cost)

    return check


for what in COSTLY:
    claim(
        f"audit/{what.fault.lower().replace(' ', '-')}",
        of=what.of,
        papers=what.papers,
        statement=f"At {what.steps} steps {what.claimed} ({FIGURES.get(what.fault, RATIO)}).",
        baseline="the same scheduler's table with this one fault repaired, same noise; exact 16x16 image mixture",
        above=what.above,
        below=what.below,
    )(costs(what))
