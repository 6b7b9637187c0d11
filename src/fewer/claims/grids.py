"""Whether a grid is better than the one that its authors or users hold it against, from equal noise, exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fewer import standard
from fewer.claims.claim import Check, Measured, claim
from fewer.claims.exact import against, images, images_by_sigma
from fewer.models.model import Model
from fewer.parts import find
from fewer.plan import Plan
from fewer.solvers import compile_plan, places
from fewer.steps import Range
from fewer.steps.shifted import shift


@dataclass(frozen=True)
class Comparison:
    """A grid against another with one solver; `worse` where the claim is that it is worse."""

    grid: str
    other: str
    solver: str
    calls: int
    by_sigma: bool = False
    worse: bool = False


COMPARISONS = (
    Comparison("uniform", "leading", "ddim", 10),
    Comparison("trailing", "leading", "ddim", 10),
    Comparison("leading", "trailing", "ddim", 10, worse=True),
    Comparison("linspace", "uniform", "ddim", 10, worse=True),
    Comparison("quadratic", "uniform", "ddim", 10),
    Comparison("logsnr", "uniform", "dpmpp-2m", 10),
    Comparison("lu", "uniform", "dpmpp-2m", 10),
    Comparison("karras", "uniform", "heun", 20, by_sigma=True),
    Comparison("exponential", "uniform", "euler", 10, by_sigma=True),
    Comparison("polynomial", "karras", "heun", 20, by_sigma=True, worse=True),
    Comparison("beta", "uniform", "ddim", 10),
    Comparison("beta-sigma", "beta", "dpmpp-2m", 10, worse=True),
    Comparison("simple", "leading", "ddim", 10),
    Comparison("sgm-uniform", "leading", "ddim", 10),
)


def crowded(plan: Plan, solver: str, model: Model) -> Plan:
    """The same solver with as many levels, nearly all of them close to the start: s falls with the fourth power."""
    top, low = (float(row.tau) / (1 - float(row.tau)) for row in (plan.rows[0], plan.rows[-1]))
    s = top - (top - low) * np.linspace(0, 1, len(plan.rows)) ** 4
    return compile_plan(find("solvers", solver).make(), places(model, s / (1 + s)), len(plan.rows))


def grid_check(what: Comparison) -> Check:
    """RMSE on one grid over that on the other."""

    def check(seed: int, sabotage: bool) -> Measured:
        model = images_by_sigma() if what.by_sigma else images()
        plan, other = (standard(what.solver, model, what.calls, grid) for grid in (what.grid, what.other))
        if sabotage:
            plan = other if what.worse else crowded(plan, what.solver, model)
        return Measured(against(plan, other, seed, what.by_sigma))

    return check


for what in COMPARISONS:
    claim(
        f"{what.grid}/against-{what.other}",
        of=(("steps", what.grid),),
        papers=find("steps", what.grid).papers,
        statement=f"With {what.solver} at {what.calls} calls its error is {'at least 1 % above' if what.worse else 'below'} "
        f"that on the {what.other} grid (ratio of paired RMSE).",
        baseline=f"{what.other} with the same solver, calls and noise; exact 16x16 image mixture",
        above=1.01 if what.worse else -math.inf,
        below=math.inf if what.worse else 1.0,
    )(grid_check(what))


@claim(
    "shift/against-unshifted",
    of=(("steps", "shift"),),
    statement="With ddim at 10 calls on levels regular in tau its error falls if s is multiplied by 3 (ratio of paired "
    "RMSE).",
    baseline="the same levels unshifted (m = 1), same solver, calls and noise; exact 16x16 image mixture",
    below=1.0,
)
def shifted(seed: int, sabotage: bool) -> Measured:
    """RMSE on the shifted grid over that on the unshifted one."""
    model = images()
    span = Range(model.schedule, model.start)
    plan, other = (compile_plan(find("solvers", "ddim").make(), places(model, shift(span, 10, m))) for m in (3.0, 1.0))
    return Measured(against(crowded(plan, "ddim", model) if sabotage else plan, other, seed))
