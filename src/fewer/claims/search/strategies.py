"""What the searches bring on noise that they never saw, on an exact mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fewer import Plan, standard
from fewer.claims.broken import KeepsTheWorst
from fewer.claims.claim import Measured, claim
from fewer.claims.exact import CALLS, against, images
from fewer.claims.reference import Reference
from fewer.noise import Stream
from fewer.samplers import standard_plans
from fewer.search.jacobian import Jacobian, Rollout
from fewer.search.objective import Objective
from fewer.search.space import Space, fits
from fewer.search.strategies.evolution import Evolution
from fewer.search.strategies.gauss_newton import GaussNewton
from fewer.search.strategies.standards import Standards
from fewer.search.strategy import Strategy

NFE, NOISES = 5, 64


@dataclass
class Uphill(Objective):
    """A problem that tells Gauss-Newton the wrong sign of the slope."""

    def jacobian(self, here: Rollout, neighbours: list[tuple[Plan, float]]) -> Jacobian:
        """-J."""
        true = super().jacobian(here, neighbours)
        return replace(true, changes=-true.changes)


@dataclass(frozen=True)
class Unfit(KeepsTheWorst, Evolution):
    """Evolution that keeps the worst."""


def problem(seed: int, kind: type[Objective] = Objective) -> Objective:
    """The search's noises with their reference samples."""
    return Reference.of(images(), seed, NOISES, CALLS, stream=Stream.CHOICE).problem(kind)


def chosen(strategy: Strategy, of: Objective, space: Space, seed: int) -> Plan:
    """The plan that a strategy chooses of all that it makes."""
    return strategy.choose(list(strategy.search(of, space, [], seed))).plan


def ranked(of: Objective, plans: Sequence[Plan]) -> list[Plan]:
    """The plans, best first on the search's noises."""
    found = list(Standards(tuple(plans)).search(of, Space(of.model, (plans[0],)), [], 0))
    return [candidate.plan for candidate in sorted(found, key=lambda candidate: candidate.error)]


def best_start(of: Objective) -> Plan:
    """The best standard plan that Gauss-Newton can start from."""
    return next(plan for plan in ranked(of, standard_plans(of.model, NFE)) if fits(plan))


@claim(
    "gauss-newton/against-standard",
    statement=f"At {NFE} calls the tuned plan's error is at most half of the best standard plan's, on held-out noise.",
    baseline="the standard plan that ranks best on the search's noises; exact 16x16 image mixture",
    below=0.5,
)
def tuned(seed: int, sabotage: bool) -> Measured:
    """The broken variant walks uphill."""
    of = problem(seed, Uphill if sabotage else Objective)
    best = best_start(of)
    plan = chosen(GaussNewton(starts=1, trial=6, candidates=14), of, Space(of.model, (best,)), seed)
    return Measured(against(plan, best, seed), {"evaluations": float(of.evaluations)})


@claim(
    "gauss-newton/free-steps",
    of=(("search", "gauss-newton"), ("search", "gauss-newton-consistent")),
    statement=f"At {NFE} calls steps that need not be exact on straight lines have a lower error, on held-out noise.",
    baseline="the plan of gauss-newton-consistent that they are freed from; exact 16x16 image mixture",
    below=1.0,
)
def freed(seed: int, sabotage: bool) -> Measured:
    """The broken variant is stopped before the consistent plan is good."""
    of = problem(seed)
    space = Space(of.model, (best_start(of),))
    strategy = GaussNewton(starts=1, trial=6, consistent=True)
    consistent = list(strategy.search(of, space, [], seed))
    known = consistent[:3] if sabotage else consistent
    free = GaussNewton(starts=1, trial=6, candidates=6 if sabotage else 100)
    plan = free.choose([*known, *free.search(of, space, known, seed)]).plan
    return Measured(against(plan, consistent[-1].plan, seed), {"evaluations": float(of.evaluations)})


@claim(
    "evolution/against-uniform",
    statement=f"Evolved time steps have a lower error than uniform ones at {NFE} calls of DDIM (ratio of paired RMSE).",
    baseline="DDIM on the uniform grid, same calls and noise; exact 16x16 image mixture",
    below=1.0,
)
def evolved(seed: int, sabotage: bool) -> Measured:
    """The broken variant keeps the worst."""
    of = problem(seed).first(32)
    base = standard("ddim", of.model, NFE, "uniform")
    strategy = (Unfit if sabotage else Evolution)(candidates=200)
    space = Space(of.model, (base,), frozenset({"solver"}), "ddim")
    return Measured(against(chosen(strategy, of, space, seed), base, seed))


@claim(
    "standard/ranking",
    statement="The standard plan that ranks best on 64 noises is within 5 % of the best of all on fresh ones.",
    baseline="the best of all standard plans in hindsight, on the held-out noises; exact 16x16 image mixture",
    below=1.05,
)
def ranking(seed: int, sabotage: bool) -> Measured:
    """The broken variant ranks in the opposite order."""
    plans = ranked(problem(seed), standard_plans(images(), NFE))
    first = plans[-1] if sabotage else plans[0]
    best = min(plans[:5], key=lambda plan: against(plan, plans[0], seed).value)
    return Measured(against(first, replace(best, name="best in hindsight"), seed))
