"""Whether noise helps: samplers with noise against deterministic ones of as many calls, with an exact score and flawed ones.

With an exact score noise has nothing to mend. With one that errs it can: what a step did wrong is forgotten with the noise that is
replaced. Of the errors that docs/noise.md maps, that of a network which is too smooth is the one that noise mends: claims are made
there, and beside them stands what noise does with an output that errs by a factor rough in the level, and with the exact score.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial

import numpy as np

from fewer import Plan, standard
from fewer.claims.beds import CLASSES, Bed, bed, mean_of, scaled_linear
from fewer.claims.claim import Measured, claim
from fewer.claims.solvers.orders import of_a_point
from fewer.evaluate.statistics.interval import Interval
from fewer.guidance import guide
from fewer.models.flawed import Branch, FlawedMixture
from fewer.models.schedules import Flow
from fewer.solvers import compile_plan, places
from fewer.solvers.sde.flow import FlowCPS, FlowSDE
from fewer.solvers.trace import Level

CALLS = 20
PAIRS = (  # sampler with noise, its deterministic member, whether as a flow
    ("euler-ancestral", "ddim", False),
    ("dpmpp-2s-ancestral", "dpmpp-2s", False),
    ("dpmpp-2m-sde", "dpmpp-2m", False),
    ("dpmpp-3m-sde", "dpmpp-3m", False),
    ("dpmpp-sde", "dpmpp-2s", False),
    ("seeds-2", "dpmpp-2s", False),
    ("seeds-3", "dpmpp-3s", False),
    ("sa-solver", "unipc-3", False),
    ("er-sde-3", "dpmpp-3m", False),
    ("heun-churn", "heun", False),
    ("euler-churn", "euler", False),
    ("restart", "heun", False),
    ("overshoot", "ddim", True),
)
SEEDS = {"dpmpp-sde": 8, "seeds-3": 32}  # of solvers that lie so near that one is too few


@cache
def exact(flow: bool) -> Bed:
    """The same data with the exact score."""
    flawed = FlawedMixture(CLASSES, Branch(CLASSES), Branch(CLASSES))
    return Bed(flawed, flawed.model(Flow() if flow else scaled_linear(), name="exact"))


def louder(plan: Plan) -> Plan:
    """Twice the noise in every row."""
    return replace(plan, rows=tuple(replace(row, noise=2 * row.noise) for row in plan.rows))


def nearer(solver: str, member: str, flow: bool, seed: int, sabotage: bool) -> Measured:
    """Energy distance to the data less that of the deterministic member, averaged over classes; other scores' beside it."""
    found = []
    for each in (bed("weaker", flow), bed("rough", flow), exact(flow)):
        plan, plain = each.plain(solver, CALLS), each.plain(member, CALLS)
        plan = louder(plan) if sabotage else plan
        count = SEEDS.get(solver, 1)
        seeds = range(count * seed, count * (seed + 1))
        found.append(mean_of(each.nearer(each.made(plan, s), each.made(plain, s), s) for s in seeds))
    return Measured(found[0], {"rough in the level": found[1], "exact score": found[2]})


for solver, member, flow in PAIRS:
    claim(
        f"{solver}/against-{member}",
        statement=f"With a score that is too smooth its samples of {CALLS} calls are nearer to the data than {member}'s "
        "(difference of energy distances, averaged over classes).",
        baseline=f"{member} with as many calls from the same noise; exact mixture of four classes, its variance too large by 0.45",
        below=0.0,
        tier="full" if solver in SEEDS else "quick",
    )(partial(nearer, solver, member, flow))


@claim(
    "flow-cps/against-flow-sde",
    of=(("solvers", "flow-cps"), ("solvers", "flow-sde")),
    statement="At 10 calls on an exact flow its samples are nearer to the data than those of the Euler-Maruyama step of Flow-GRPO, "
    "whose noise is in excess (difference of energy distances, averaged over classes).",
    baseline="flow-sde with a = 0.7 on the same levels, from the same noise, as much noise in a step on average; exact flow",
    below=0.0,
)
def without_excess(seed: int, sabotage: bool) -> Measured:
    """Beside it: the same with a = 0.35, and both against Euler's method. The broken variant has twice the noise."""
    ground = exact(flow=True)
    taus = [float(row.tau) for row in standard("ddim", ground.model, 10, "straight").rows]

    def of(solver: FlowCPS | FlowSDE) -> Plan:
        return guide(compile_plan(solver, places(ground.model, taus)), 1.0)

    cps = of(FlowCPS(0.5))
    mine = ground.made(louder(cps) if sabotage else cps, seed)
    its, quiet, euler = (ground.made(of(solver), seed) for solver in (FlowSDE(0.7), FlowSDE(0.35), FlowCPS(0.0)))
    return Measured(
        ground.nearer(mine, its, seed),
        {"a = 0.35": ground.nearer(mine, quiet, seed), "against Euler": ground.nearer(mine, euler, seed)},
    )


@claim(
    "flow-cps/no-excess-noise",
    statement="Of data that are one point its states have the levels' own noise: the largest share over 10 levels by which their "
    "deviation is off, beside that of the Euler-Maruyama step of Flow-GRPO.",
    baseline="the deviation tau of the level; flow-sde with a = 0.7 on the same levels, beside it",
    below=0.001,
)
def no_excess(seed: int, sabotage: bool) -> Measured:
    """By algebra, from the rows; levels are drawn from the seed. The broken variant has twice the noise."""
    drawn = np.sort(np.random.default_rng(seed).uniform(0.05, 0.95, 10))[::-1]
    taus = [Level(float(tau)) for tau in drawn]
    cps = compile_plan(FlowCPS(0.5), taus)
    mine, its = (excess(plan) for plan in (louder(cps) if sabotage else cps, compile_plan(FlowSDE(0.7), taus)))
    return Measured(Interval(mine, mine, mine, 10), {"flow-sde": its})


def excess(plan: Plan) -> float:
    """The largest |deviation / tau - 1| of the states' noise, where the data are one point."""
    states = zip(of_a_point(plan)[:-1], plan.levels[:-1], strict=True)
    return max(abs(float(np.linalg.norm(state[1:])) / float(tau) - 1) for state, tau in states)
