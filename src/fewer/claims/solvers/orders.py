"""Order of convergence of every solver, with exact history, on exact models: a claim for each part of the room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewer import GaussianMixture, Plan
from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import mean
from fewer.evaluate.statistics.interval import Interval
from fewer.levels import tau_of_log_s
from fewer.registry import parts
from fewer.solvers import Solver, compile_plan
from fewer.solvers.trace import Level

Taus = NDArray[np.float64]
GROUPS, EACH, COARSE, SLACK = 8, 8, 240, 0.15  # steps that divide by 2, 3 and 4: none with fewer stages is among them
WEAK = (64, 128)  # steps of solvers that add noise


def in_log_s(n: int) -> Taus:
    """n + 1 levels, regular in log s but for a ripple, from 0.85 to 0.15: above sigma = 0, where orders are defined."""
    part = np.linspace(0, 1, n + 1)
    log_s = 1.734601 * (1 - 2 * (part + 0.03 * np.sin(2 * np.pi * part)))
    return tau_of_log_s(log_s)


def compiled(solver: Solver, taus: Taus | list[float]) -> Plan:
    """The solver on these levels, with the most calls that it can make there."""
    n = len(taus)
    calls = next(calls for calls in range(4 * n + 1, 0, -1) if solver.steps(calls) == n)
    return compile_plan(solver, [Level(float(tau)) for tau in taus], calls)


def one_call_a_step(solver: Solver) -> bool:
    """Whether a level costs one call, as in multistep methods."""
    return all(solver.steps(calls) == calls for calls in (5, 9, 13))


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


@lru_cache(maxsize=8)
def trajectories(mixture: GaussianMixture, grid: Callable[[int], Taus], n: int, seed: int) -> list[Tensor]:
    """64 exact states (64, 2) at each of the grid's levels."""
    taus, size = grid(n), GROUPS * EACH
    noise = torch.randn(size, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    states = [float(taus[0]) * noise + (1 - float(taus[0])) * mixture.sample(size, seed=seed + 1)[0]]
    for here, there in pairwise(taus.tolist()):
        states.append(flow(mixture, states[-1], here, there))
    return states


def errors(plan: Plan, mixture: GaussianMixture, taus: Taus, exact: list[Tensor], own_start: bool = False) -> Tensor:
    """Squared error of each sample at the last of the levels, with exact states and outputs on the first six rows.

    Six, since steps of two or three rows end there. Plans with more calls than levels have no history and start from
    the first level, as all do with their `own_start`. All in float64.
    """
    rows = plan.rows[:-1]  # the last goes on to level 0
    first = 6 if len(plan.rows) == len(taus) and not own_start else 0
    outputs = {n: output(mixture, exact[n], float(taus[n])) for n in range(first)}
    x = exact[first]
    for n in range(first, len(rows)):
        outputs[n] = output(mixture, x, float(rows[n].tau))
        x = x + sum(float(b) * outputs[j] for j, b in rows[n].b.items())
    return (x - exact[-1]).square().mean(1)


class Orders(NamedTuple):
    """Measured orders: with exact history, and with the history that grows from the solver's own first call."""

    exact: Interval
    own_start: Interval


class Errors(NamedTuple):
    """Root mean square errors (GROUPS,) over each group of trajectories, with exact history and with an own start."""

    exact: Tensor
    own_start: Tensor


def group_errors(
    solver: Solver,
    mixture: GaussianMixture,
    n: int,
    grid: Callable[[int], Taus] = in_log_s,
    seed: int = 0,
    broken: bool = False,
) -> Errors:
    """Errors of the solver in n steps of the grid."""
    plan = compiled(solver, grid(n))
    plan = overshooting(plan) if broken else plan
    exact = trajectories(mixture, grid, n, seed)
    return Errors(*(of_groups(errors(plan, mixture, grid(n), exact, own_start)) for own_start in (False, True)))


def of_groups(squared: Tensor) -> Tensor:
    """The root mean square (GROUPS,) of each group's squared errors."""
    return squared.view(GROUPS, EACH).mean(1).sqrt()


def order_of(once: Tensor, twice: Tensor) -> Interval:
    """log2 of the errors over those at twice as many steps: mean and interval over groups of trajectories."""
    return mean(torch.log2(once / twice).tolist())


def measured_orders(
    solver: Solver,
    mixture: GaussianMixture,
    grid: Callable[[int], Taus] = in_log_s,
    coarse: int = COARSE,
    seed: int = 0,
    broken: bool = False,
) -> Orders:
    """The orders between `coarse` steps and twice as many."""
    once, twice = (group_errors(solver, mixture, n, grid, seed, broken) for n in (coarse, 2 * coarse))
    return Orders(*map(order_of, once, twice))


def measured_order(
    solver: Solver,
    mixture: GaussianMixture,
    grid: Callable[[int], Taus] = in_log_s,
    coarse: int = COARSE,
    seed: int = 0,
) -> Interval:
    """The order with exact history, without the runs from the solver's own start that `measured_orders` makes."""
    once, twice = (
        errors(compiled(solver, grid(n)), mixture, grid(n), trajectories(mixture, grid, n, seed))
        for n in (coarse, 2 * coarse)
    )
    return order_of(of_groups(once), of_groups(twice))


def overshooting(plan: Plan) -> Plan:
    """Each step 10 % too long: weights that do not sum to the step, so that no refinement helps."""
    return replace(plan, rows=tuple(replace(row, b={j: 1.1 * b for j, b in row.b.items()}) for row in plan.rows))


def variance_errors(solver: Solver, n: int, seed: int, broken: bool = False) -> list[float]:
    """Error of the variance of one Gaussian direction after n steps, for each of some random directions."""
    plan = compiled(solver, in_log_s(n))
    plan = overshooting(plan) if broken else plan
    found: list[float] = _wrong(plan, np.random.default_rng(seed).uniform(0.1, 0.6, GROUPS)).tolist()
    return found


def weak_order(solver: Solver, seed: int, broken: bool = False) -> Interval:
    """Order of the variance of one Gaussian direction, carried exactly through the rows; over random directions."""
    once, twice = (variance_errors(solver, n, seed, broken) for n in WEAK)
    return mean([float(np.log2(one / two)) for one, two in zip(once, twice, strict=True)])


def _wrong(plan: Plan, v: Taus) -> Taus:
    """How far the variance of each of some directions, v (n,) in the data, is off at the last row's level."""
    tau = float(plan.start.tau)
    draws = np.eye(len(plan.rows))  # the starting state's and each row's noise
    states = [np.sqrt((1 - tau) ** 2 * v + tau**2)[:, None] * draws[0]]
    outputs: list[Taus] = []
    for k, row in enumerate(plan.rows[:-1]):
        tau = float(row.tau)
        slope = (1 - (1 - tau) * v / ((1 - tau) ** 2 * v + tau**2)) / tau  # u of x is linear
        outputs.append(slope[:, None] * states[k])
        new = float(row.noise) * draws[k + 1]
        new = new + sum(float(weight) * states[j] for j, weight in (row.a or {k: 1.0}).items())
        states.append(new + sum(float(weight) * outputs[j] for j, weight in row.b.items()))
    variance = np.array([state @ state for state in states[-1]])
    end = float(plan.rows[-1].tau)
    wrong: Taus = np.abs(variance - (1 - end) ** 2 * v - end**2)
    return wrong


def of_a_point(plan: Plan) -> list[Taus]:
    """The states as coefficients of the one point y that the data are, of the starting noise and of the noise after each row."""
    size = 2 + len(plan.rows)
    basis = np.eye(size)
    states = [(1 - float(plan.start.tau)) * basis[0] + float(plan.start.scale) * basis[1]]
    outputs = []
    for n, row in enumerate(plan.rows):
        outputs.append((states[n] - basis[0]) / float(row.tau))
        new = float(row.noise) * basis[2 + n]
        new = new + sum(float(a) * states[j] for j, a in (row.a or {n: 1.0}).items())
        states.append(new + sum(float(b) * outputs[j] for j, b in row.b.items()))
    return states


def coarse_steps(solver: Solver) -> int:
    """The fewer of the two numbers of steps that an order is measured between."""
    return COARSE if one_call_a_step(solver) else COARSE // 2


def exact_models(seed: int) -> dict[str, GaussianMixture]:
    """Where orders are measured: a Gaussian, whose flow is closed, and a mixture of three."""
    named = {"on a Gaussian": 1, "on a mixture": 3}
    return {name: GaussianMixture.random(2, components=k, seed=seed + k) for name, k in named.items()}


def lowest_order(solver: Solver, seed: int, sabotage: bool) -> Measured:
    """The lowest order over two exact models, one Gaussian and one mixture, drawn from the seed.

    Beside it stands what is left of it with the solver's own start, where multistep methods begin at first order.
    Sabotage: each step 10 % too long.
    """
    if compiled(solver, [0.9, 0.5]).stochastic:
        return Measured(weak_order(solver, seed, sabotage))
    found, limited = {}, {}
    for name, mixture in exact_models(seed).items():
        orders = measured_orders(solver, mixture, coarse=coarse_steps(solver), seed=seed, broken=sabotage)
        found[name], limited[f"{name}, own start"] = orders
    worst = min(found.values(), key=lambda order: order.low)
    return Measured(worst, {**found, **limited})


for part in parts("solvers"):
    solver = part.make()
    order = solver.order
    if order < 1:  # of samplers of distilled models (claims/solvers/consistency.py)
        continue
    claim(
        f"{part.name}/order",
        statement=f"Halving the steps divides the error by 2^p with p at least {order} (the lower of two exact models).",
        baseline=f"the declared order {order}, less {SLACK}",
        above=order - SLACK,
    )(partial(lowest_order, solver))
