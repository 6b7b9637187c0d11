"""What the searches bring on noise that they never saw, on an exact mixture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from fewer import standard
from fewer.claims.claim import Measured, claim
from fewer.claims.exact import CALLS, against, images
from fewer.engine import sample
from fewer.measures.reference import fine_plan
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.tuning.evolution import Evolution
from fewer.tuning.gauss_newton import GaussNewton
from fewer.tuning.problem import Problem
from fewer.tuning.space import Space, fits
from fewer.tuning.standards import Standards, standard_plans
from fewer.tuning.study import Candidate, Strategy

NFE, NOISES = 5, 64
ELSEWHERE = 1 << 21  # sample numbers of the search's noises: those of the comparison start at 0


@dataclass
class Uphill(Problem):
    """A problem that tells Gauss-Newton the wrong sign of the slope."""

    def normal_equations(
        self, plan: Plan, neighbours: list[tuple[Plan, float]], kept: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """J'J and -J'r."""
        gram, slope = super().normal_equations(plan, neighbours, kept)
        return gram, -slope


@dataclass(frozen=True)
class Unfit(Evolution):
    """Evolution that keeps the worst."""

    def choose(self, done: list[Candidate]) -> Candidate:
        """The least fit."""
        return max(done, key=lambda candidate: candidate.error)


def problem(seed: int, kind: type[Problem] = Problem) -> Problem:
    """The search's noises with their fine solution."""
    model = images()
    noise = unit_noise(seed, range(ELSEWHERE, ELSEWHERE + NOISES), model.shape)
    labels = model.labels(NOISES)
    return kind(model, noise, labels, sample(model, fine_plan(model, CALLS), noise=noise, labels=labels))


def last(candidates: Iterator[Candidate], strategy: Strategy) -> Plan:
    """The plan that a strategy chooses of all that it makes."""
    return strategy.choose(list(candidates)).plan


def ranked(of: Problem) -> list[Plan]:
    """The standard plans, best first on the search's noises."""
    plans = standard_plans(of.model, NFE)
    found = list(Standards(tuple(plans)).search(of, Space(of.model, (plans[0],)), [], 0))
    return [candidate.plan for candidate in sorted(found, key=lambda candidate: candidate.error)]


@claim(
    "gauss-newton/against-standard",
    of=(("tuning", "gauss-newton"),),
    statement=f"At {NFE} calls the tuned plan's error is at most half of the best standard plan's, on fresh noise.",
    baseline="the standard plan that ranks best on the search's noises; exact 16x16 image mixture",
    below=0.5,
)
def tuned(seed: int, sabotage: bool) -> Measured:
    """The broken variant walks uphill."""
    of = problem(seed, Uphill if sabotage else Problem)
    best = [plan for plan in ranked(of) if fits(plan)]
    strategy = GaussNewton(starts=1, trial=6, candidates=14)
    plan = last(strategy.search(of, Space(of.model, (best[0],)), [], seed), strategy)
    return Measured(against(plan, best[0], seed), {"evaluations": float(of.evaluations)})


@claim(
    "gauss-newton/free-steps",
    of=(("tuning", "gauss-newton"), ("tuning", "gauss-newton-consistent")),
    statement=f"At {NFE} calls steps that need not be exact on straight lines have a lower error, on fresh noise.",
    baseline="the plan of gauss-newton-consistent that they are freed from; exact 16x16 image mixture",
    below=1.0,
)
def freed(seed: int, sabotage: bool) -> Measured:
    """The broken variant is stopped before the consistent plan is good."""
    of = problem(seed)
    best = [plan for plan in ranked(of) if fits(plan)]
    space = Space(of.model, (best[0],))
    strategy = GaussNewton(starts=1, trial=6, consistent=True)
    consistent = list(strategy.search(of, space, [], seed))
    known = consistent[:3] if sabotage else consistent
    free = GaussNewton(starts=1, trial=6, candidates=6 if sabotage else 100)
    plan = last(iter([*known, *free.search(of, space, known, seed)]), free)
    return Measured(against(plan, consistent[-1].plan, seed), {"evaluations": float(of.evaluations)})


@claim(
    "evolution/against-uniform",
    of=(("tuning", "evolution"),),
    papers=(191,),
    statement=f"Evolved time steps have a lower error than uniform ones at {NFE} calls of DDIM (ratio of paired RMSE).",
    baseline="DDIM on the uniform grid, same calls and noise; exact 16x16 image mixture",
    below=1.0,
)
def evolved(seed: int, sabotage: bool) -> Measured:
    """The broken variant keeps the worst."""
    of = problem(seed).first(32)
    base = standard("ddim", of.model, NFE, "uniform")
    kind: Any = Unfit if sabotage else Evolution
    strategy = kind(candidates=200)
    space = Space(of.model, (base,), frozenset({"solver"}), "ddim")
    return Measured(against(last(strategy.search(of, space, [], seed), strategy), base, seed))


@claim(
    "standard/ranking",
    of=(("tuning", "standard"),),
    statement="The standard plan that ranks best on 64 noises is within 5 % of the best of all on fresh ones.",
    baseline="the best of all standard plans in hindsight, on the fresh noises; exact 16x16 image mixture",
    below=1.05,
)
def ranking(seed: int, sabotage: bool) -> Measured:
    """The broken variant ranks in the opposite order."""
    plans = ranked(problem(seed))
    first = plans[-1] if sabotage else plans[0]
    best = min(plans[:5], key=lambda plan: against(plan, plans[0], seed).value)
    return Measured(against(first, replace(best, name="best in hindsight"), seed))
