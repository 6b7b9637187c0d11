"""Order of convergence of every solver, with exact history, on exact models: a claim for each part of the room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewer.claims.claim import Check, Measured, claim
from fewer.claims.repeated import mean
from fewer.measures.interval import Interval
from fewer.models.mixture import GaussianMixture
from fewer.parts import parts
from fewer.plan import Plan
from fewer.solvers import Solver, compile_plan
from fewer.solvers.trace import Level

Taus = NDArray[np.float64]
GROUPS, EACH, COARSE, SLACK = 8, 8, 128, 0.15


def in_log_s(n: int) -> Taus:
    """n + 1 levels, regular in log s but for a ripple, from 0.85 to 0.15: above sigma = 0, where orders are defined."""
    part = np.linspace(0, 1, n + 1)
    log_s = 1.734601 * (1 - 2 * (part + 0.03 * np.sin(2 * np.pi * part)))
    return 1 / (1 + np.exp(-log_s))


def compiled(solver: Solver, taus: Taus | list[float]) -> Plan:
    """The solver on these levels, with the most calls that it can make there."""
    n = len(taus)
    calls = max(calls for calls in range(1, 2 * n + 2) if solver.steps(calls) == n)
    return compile_plan(solver, [Level(float(tau), 0.0) for tau in taus], calls)


def output(mixture: GaussianMixture, x: Tensor, tau: float) -> Tensor:
    """u = eps - D of the exact model."""
    return (x - mixture.denoise(x, tau)) / tau


def flow(mixture: GaussianMixture, x: Tensor, tau0: float, tau1: float) -> Tensor:
    """The probability flow: in closed form, or by the classical Runge-Kutta method in steps of about 0.002."""
    if mixture.components == 1:
        return mixture.flow(x, tau0, tau1)
    taus = np.linspace(tau0, tau1, 2 + int(abs(tau1 - tau0) / 0.002))
    for here, there in pairwise(taus.tolist()):
        h = there - here
        k1 = output(mixture, x, here)
        k2 = output(mixture, x + h / 2 * k1, here + h / 2)
        k3 = output(mixture, x + h / 2 * k2, here + h / 2)
        x = x + h / 6 * (k1 + 2 * k2 + 2 * k3 + output(mixture, x + h * k3, there))
    return x


def trajectories(mixture: GaussianMixture, taus: Taus, seed: int) -> list[Tensor]:
    """64 exact states (64, 2) at each of the levels."""
    n = GROUPS * EACH
    noise = torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    states = [float(taus[0]) * noise + (1 - float(taus[0])) * mixture.sample(n, seed=seed + 1)[0]]
    for here, there in pairwise(taus.tolist()):
        states.append(flow(mixture, states[-1], here, there))
    return states


def errors(plan: Plan, mixture: GaussianMixture, taus: Taus, exact: list[Tensor]) -> Tensor:
    """Squared error of each sample at the last of the levels, with exact states and outputs on the first three rows.

    Plans of several stages a step have no history and start from the first level. All in float64.
    """
    rows = plan.rows[:-1]  # the last goes on to level 0
    first = 3 if len(plan.rows) == len(taus) else 0
    outputs = {n: output(mixture, exact[n], float(taus[n])) for n in range(first)}
    x = exact[first]
    for n in range(first, len(rows)):
        outputs[n] = output(mixture, x, float(rows[n].tau))
        x = x + sum(float(b) * outputs[j] for j, b in rows[n].b.items())
    return (x - exact[-1]).square().mean(1)


def measured_order(
    solver: Solver,
    mixture: GaussianMixture,
    grid: Callable[[int], Taus] = in_log_s,
    coarse: int = COARSE,
    seed: int = 0,
    broken: bool = False,
) -> Interval:
    """log2 of the error at `coarse` steps over that at twice as many: mean and interval over groups of trajectories."""
    by_group = []
    for n in (coarse, 2 * coarse):
        plan = compiled(solver, grid(n))
        found = errors(overshooting(plan) if broken else plan, mixture, grid(n), trajectories(mixture, grid(n), seed))
        by_group.append(found.view(GROUPS, EACH).mean(1).sqrt())
    return mean(torch.log2(by_group[0] / by_group[1]).tolist())


def overshooting(plan: Plan) -> Plan:
    """Each step 10 % too long: weights that do not sum to the step, so that no refinement helps."""
    return replace(plan, rows=tuple(replace(row, b={j: 1.1 * b for j, b in row.b.items()}) for row in plan.rows))


def weak_order(solver: Solver, seed: int, broken: bool = False) -> Interval:
    """Order of the variance of one Gaussian direction, carried exactly through the rows; over random directions."""
    rng = np.random.default_rng(seed)
    return mean(
        [
            float(np.log2(_wrong(solver, v, 64, broken) / _wrong(solver, v, 128, broken)))
            for v in rng.uniform(0.1, 0.6, GROUPS)
        ]
    )


def _wrong(solver: Solver, v: float, n: int, broken: bool) -> float:
    plan = compiled(solver, in_log_s(n))
    plan = overshooting(plan) if broken else plan
    tau = float(plan.start.tau)
    variance = (1 - tau) ** 2 * v + tau**2
    for k, row in enumerate(plan.rows[:-1]):
        a = (1 - float(row.tau)) ** 2 * v + float(row.tau) ** 2
        slope = (1 - (1 - float(row.tau)) * v / a) / float(row.tau)  # du/dx
        gain = float((row.a or {k: 1.0}).get(k, 0.0)) + float(row.b[k]) * slope
        variance = gain**2 * variance + float(row.noise) ** 2
    end = float(plan.rows[-1].tau)
    return abs(variance - (1 - end) ** 2 * v - end**2)


def order_check(make: Callable[..., Any]) -> Check:
    """The lowest order over two exact models, one Gaussian and one mixture, drawn from the seed."""

    def check(seed: int, sabotage: bool) -> Measured:
        solver = make()
        if compiled(solver, [0.9, 0.5]).stochastic:
            return Measured(weak_order(solver, seed, sabotage))
        found = {
            name: measured_order(
                solver, GaussianMixture.random(2, components=k, seed=seed + k), seed=seed, broken=sabotage
            )
            for name, k in (("on a Gaussian", 1), ("on a mixture", 3))
        }
        worst = min(found.values(), key=lambda order: order.low)
        return Measured(worst, dict(found))

    return check


for part in parts("solvers"):
    order = part.make().order
    claim(
        f"{part.name}/order",
        of=(("solvers", part.name),),
        papers=part.papers,
        statement=f"Halving the steps divides the error by 2^p with p at least {order} (the lower of two exact models).",
        baseline=f"the declared order {order}, less {SLACK}",
        above=order - SLACK,
    )(order_check(part.make))
