"""Promises of solvers."""

from __future__ import annotations

import numpy as np

from fewer.claims.solvers.orders import compiled, in_log_s, measured_order, of_a_point, one_call_a_step, weak_order
from fewer.models.mixture import GaussianMixture
from fewer.plan import Plan
from fewer.plan.difference import differences
from fewer.solvers import SaysOfPoints, Solver, compile_plan
from fewer.solvers.trace import Level
from fewer.testing import demand, kept_by_a_file

LEVELS = (  # falling ones of every kind: from pure noise, regular and not, nearly equal, of few and of many calls
    (1.0,), (0.3,), (1.0, 0.5), (0.9999, 0.9, 0.2), (0.8, 0.79, 0.3, 0.02), (1.0, 0.95, 0.9, 0.6, 0.59, 0.1, 0.01),
    tuple(np.linspace(0.98, 0.05, 12)),
)  # fmt: skip
COARSE = 24  # steps that an order is measured from; three times as many where a step is one call
MIXTURE = GaussianMixture.random(2, components=3, seed=3)
SLACK = 0.5  # an order is a whole number: this much tells it from the one below


def check(solver: Solver, order: bool = True) -> None:
    """All of the below; `order` can be left out, which takes most of the time."""
    check_calls(solver)
    for taus in LEVELS:
        plan = compiled(solver, list(taus)).check()
        demand(not differences(plan, compiled(solver, list(taus))), f"{solver} makes two plans of the same levels")
        if exact_on_points(solver):
            check_point_mass(plan)
    kept_by_a_file(plan)
    if not exact_on_points(solver):
        check_convergence_on_points(solver)
    if order:
        check_order(solver)


def check_calls(solver: Solver) -> None:
    """A budget of calls is met exactly, on as many levels as `steps` says."""
    for calls in range(1, 13):
        n = solver.steps(calls)
        demand(1 <= n <= calls, f"{solver}.steps({calls}) is {n}; expected 1 to {calls} levels")
        plan = compile_plan(solver, [Level(float(tau)) for tau in np.linspace(0.95, 0.05, n)], calls)
        demand(plan.nfe == calls, f"{solver} makes {plan.nfe} calls of a budget of {calls}")


def exact_on_points(solver: Solver) -> bool:
    """Whether the solver is exact where the data are one point, as all are but those that say `exact_on_points = False`."""
    return solver.exact_on_points if isinstance(solver, SaysOfPoints) else True


def check_point_mass(plan: Plan) -> None:
    """Where the data are one point y each state has mean (1 - tau) y and noise of deviation tau, so that the end is y."""
    # levels that nearly coincide give polynomials large weights, whose sums lose as many digits as these have
    rounding = 1e-9 + 1e-11 * max(abs(float(b)) for row in plan.rows for b in row.b.values())
    for n, (state, tau) in enumerate(zip(of_a_point(plan), map(float, plan.levels), strict=True)):
        mean, deviation = state[0], float(np.linalg.norm(state[1:]))
        exact = abs(mean - (1 - tau)) <= rounding and abs(deviation - tau) <= rounding
        demand(
            exact, f"{plan.name}: of a point y the state before row {n}, level {tau:g}, is {mean} y + {deviation} noise"
        )


def check_convergence_on_points(solver: Solver) -> None:
    """Where the data are one point the noise's deviation converges to tau with the declared order."""
    wrong = []
    for n in (64, 128):
        plan = compiled(solver, in_log_s(n))
        states = zip(of_a_point(plan), map(float, plan.levels), strict=True)
        wrong.append(max(abs(np.linalg.norm(state[1:]) - tau) for state, tau in states))
    order = float(np.log2(wrong[0] / wrong[1]))
    demand(order >= solver.order - SLACK, f"{solver} is of order {order:.2f} on a point; it declares {solver.order}")


def check_order(solver: Solver) -> None:
    """The declared order is reached on an exact mixture: of the paths, or of the variance where noise is added."""
    if compiled(solver, [0.9, 0.5]).stochastic:
        order = weak_order(solver, seed=0).low
    else:
        coarse = COARSE * (3 if one_call_a_step(solver) else 1)
        order = measured_order(solver, MIXTURE, coarse=coarse).value
    demand(order >= solver.order - SLACK, f"{solver} is of order {order:.2f}; it declares {solver.order}")
