"""Rows by regression against Gauss-Newton from standard plans, on an exact mixture and noise that no search saw."""

from __future__ import annotations

import math
from dataclasses import replace

from fewer.claims.claim import Measured, claim
from fewer.claims.exact import against, images
from fewer.claims.search.strategies import NFE, problem, ranked
from fewer.plan import Plan
from fewer.samplers import standard_plans
from fewer.search.objective import Objective
from fewer.search.space import Space, fits
from fewer.search.strategies.gauss_newton import GaussNewton
from fewer.search.strategies.regression import Regression, RowsByRegression
from fewer.search.strategies.standards import by_grid
from fewer.search.strategy import Candidate, Strategy

COMPARED = 1024  # held-out noises: a few samples have most of the squared error
BASELINE = (
    "the plan of gauss-newton from the best standard plans of three grids, same noises; exact 16x16 image mixture"
)


def searched(strategy: Strategy, of: Objective, seed: int, most: float = math.inf) -> tuple[Plan, int]:
    """The plan that a strategy has chosen after so many evaluations, beside ranking, or at its end; and those it took."""
    plans = ranked(of.apart(), standard_plans(images(), NFE))
    space = Space(of.model, by_grid([plan for plan in plans if fits(plan)]))
    own = of.apart()
    done: list[Candidate] = []
    for candidate in strategy.search(own, space, [], seed):
        if own.evaluations > most and done:
            break
        done.append(candidate)
    return strategy.choose(done).plan, own.evaluations


def compared(strategy: Strategy, seed: int, sabotage: bool, equal: bool = False) -> Measured:
    """The strategy's plan against Gauss-Newton's. The broken variant is led along the ways of other noises."""
    of = problem(seed)
    astray = replace(of, noise=of.noise.roll(1, 0)) if sabotage else of
    plan, evaluations = searched(strategy, astray, seed)
    baseline, more = searched(GaussNewton(), of, seed, evaluations if equal else math.inf)
    return Measured(
        against(plan, baseline, seed, noises=COMPARED),
        {"evaluations": float(evaluations), "evaluations of the baseline": float(more)},
    )


@claim(
    "rows-by-regression/at-equal-evaluations",
    statement=f"At {NFE} calls fitted rows, levels moved, have a lower error than Gauss-Newton's after as many evaluations.",
    baseline=BASELINE,
    below=1.0,
)
def fitted(seed: int, sabotage: bool) -> Measured:
    """Ranking the standard plans comes to both besides."""
    return compared(RowsByRegression(), seed, sabotage, equal=True)


@claim(
    "regression/against-gauss-newton",
    statement=f"At {NFE} calls a search that begins with fitted rows ends at a lower error on held-out noise.",
    baseline=BASELINE,
    below=1.0,
)
def begun(seed: int, sabotage: bool) -> Measured:
    """All of it; both evaluations are beside."""
    return compared(Regression(), seed, sabotage)
