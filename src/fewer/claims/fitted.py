"""What times and solvers fitted on a model bring, against UniPC and DPM-Solver++ on their best grids, on fresh noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from torch import Tensor

from fewer import load
from fewer.claims.claim import Check, Measured, claim
from fewer.claims.exact import against, images
from fewer.claims.repeated import geometric_mean
from fewer.claims.searches import problem
from fewer.engine import sample
from fewer.measures import paired
from fewer.measures.interval import Interval
from fewer.measures.reference import fine_plan
from fewer.models.model import Model
from fewer.models.schedules import log_s
from fewer.noise import unit_noise
from fewer.parts import find
from fewer.plan import Plan
from fewer.steps import Levels
from fewer.tuning.align_your_steps import AlignYourSteps, Matrix, forward_differences, interval_costs, whole_bound
from fewer.tuning.dynamic_program import DynamicProgram
from fewer.tuning.equidistributed import Equidistributed, Spread
from fewer.tuning.learned_times import LearnedTimes
from fewer.tuning.per_step import PerStep
from fewer.tuning.problem import Problem
from fewer.tuning.space import Space, fits
from fewer.tuning.standards import standard_plans
from fewer.tuning.study import Candidate, Strategy
from fewer.tuning.trajectory import Trajectory, log_range
from fewer.tuning.truncated import Truncated

FAMILIES = (("unipc", "unipc-3"), ("dpmpp-2m", "dpmpp-3m"))
BUDGETS = (5, 6, 8, 10)
FRESH, ELSEWHERE = 256, 1 << 21  # fresh noises are numbered from 0, those of the search from ELSEWHERE


@dataclass(frozen=True)
class Dearest(AlignYourSteps):
    """Align Your Steps that looks for the largest bound, and for the worst samples."""

    patience: int = 99

    def moved(self, costs: Matrix, at: list[int]) -> list[int]:
        """Each level where the bound is largest."""
        return super().moved(-costs, at)

    def choose(self, done: list[Candidate]) -> Candidate:
        """The worst."""
        return max(done, key=lambda candidate: candidate.error)


@dataclass(frozen=True)
class Reversed(Equidistributed):
    """Levels that are sparse where the local error is large."""

    def density(self, way: Trajectory, spread: Spread, order: int) -> tuple[Levels, Levels]:
        """One over the monitor."""
        grid, density = super().density(way, spread, order)
        return grid, 1 / density


@dataclass(frozen=True)
class Misplaced(Truncated):
    """Starts around the mean of the opposite sign, of which the worst is taken."""

    def data(self, problem: Problem, space: Space, seed: int) -> Tensor:
        """The data, negated."""
        return -super().data(problem, space, seed)

    def choose(self, done: list[Candidate]) -> Candidate:
        """The worst."""
        return max(done, key=lambda candidate: candidate.error)


@dataclass(frozen=True)
class Fitted:
    """A strategy, its broken variant (or its own with another noise's samples to aim at), and what is said of it."""

    name: str
    make: Callable[[], Strategy]
    broken: Callable[[], Strategy] | None
    says: str
    calls: tuple[int, ...] = (5,)


FITTED = (
    Fitted("ays", AlignYourSteps, Dearest, "optimised schedules are better than hand-crafted ones", (10, 5)),
    Fitted(
        "dynamic-program",
        DynamicProgram,
        lambda: DynamicProgram(gamma=50.0),
        "its schedules are better at few calls",
        (5, 10),
    ),
    Fitted("equidistributed", Equidistributed, Reversed, "equidistributed levels have the lowest error bound", (5, 10)),
    Fitted("learned-times", LearnedTimes, None, "learnt times are better than hand-crafted schedules of any sampler"),
    Fitted("per-step", PerStep, None, "searched schedules of solvers are better than UniPC and DPM-Solver++"),
    Fitted("truncated", Truncated, Misplaced, "a start below the noisiest level is better than one there", (5, 10)),
)


def best_of(of: Problem, family: tuple[str, ...], calls: int) -> Plan:
    """The solver of a family and its grid that are best on the search's noises."""
    plans = [plan for name in family for plan in standard_plans(of.model, calls, solver=name) if fits(plan)]
    few = of.first(32)
    return min(plans, key=few.rmse)


def found_by(what: Fitted, of: Problem, calls: int, bases: tuple[Plan, ...], seed: int, sabotage: bool) -> Plan:
    """The plan that a strategy chooses, which begins with the bases. Another noise's samples are those of the next."""
    strategy = what.broken() if sabotage and what.broken else what.make()
    aim = replace(of, target=of.target.roll(1, 0)) if sabotage and not what.broken else of
    ranked = tuple(sorted(bases, key=of.first(32).rmse))
    space = Space(of.model, ranked, solver=ranked[0].name.split()[0])
    return strategy.choose(list(strategy.search(aim, space, [], seed))).plan


def few_calls(what: Fitted) -> Check:
    """The higher of the ratios to the best UniPC and the best DPM-Solver++, at the first of the calls; all beside it."""

    def check(seed: int, sabotage: bool) -> Measured:
        of = problem(seed)
        beside: dict[str, Interval | float] = {}
        figures = []
        for calls in what.calls:
            bases = tuple(best_of(of, family, calls) for family in FAMILIES)
            of.evaluations = 0
            plan = found_by(what, of, calls, bases, seed, sabotage)
            beside[f"evaluations at {calls} calls"] = float(of.evaluations)
            ratios = [against(plan, base, seed) for base in bases]
            beside |= {f"{calls} calls, {plan.name} / {base.name}": r for base, r in zip(bases, ratios, strict=True)}
            figures.append(max(ratios, key=lambda ratio: ratio.value))
        return Measured(figures[0], beside)

    return check


@cache
def digits() -> Model:
    """The bundled network of handwritten digits."""
    return load("digits")


def digits_problem(seed: int, first: int, n: int) -> Problem:
    """Noises from number `first` on, with their fine solution."""
    model = digits()
    noise = unit_noise(seed, range(first, first + n), model.shape)
    labels = model.labels(n)
    return Problem(model, noise, labels, sample(model, fine_plan(model, 128), noise=noise, labels=labels))


def all_budgets(what: Fitted) -> Check:
    """Geometric mean, over budgets and both models, of the ratio to the better of the best UniPC and DPM-Solver++."""

    def check(seed: int, sabotage: bool) -> Measured:
        beside: dict[str, Interval | float] = {}
        fresh = digits_problem(seed, 0, FRESH)
        for of in (problem(seed), digits_problem(seed, ELSEWHERE, 96)):
            for calls in BUDGETS:
                bases = tuple(best_of(of, family, calls) for family in FAMILIES)
                plan = found_by(what, of, calls, bases, seed, sabotage)
                for base in bases:
                    if of.model is digits():
                        ratio = paired.ratio(fresh.squared_errors(plan), fresh.squared_errors(base))
                    else:
                        ratio = against(plan, base, seed)
                    beside[f"{of.model.name}, {calls} calls, {plan.name} / {base.name}"] = ratio
        ratios = [ratio.value for ratio in beside.values() if isinstance(ratio, Interval)]
        return Measured(geometric_mean([max(pair) for pair in zip(ratios[::2], ratios[1::2], strict=True)]), beside)

    return check


for what in FITTED:
    papers = find("tuning", what.name).papers
    claim(
        f"{what.name}/against-standard",
        of=(("tuning", what.name),),
        papers=papers,
        statement=f"At {what.calls[0]} calls {what.says}: its error is below that of the best UniPC and of the best "
        "DPM-Solver++ (the higher ratio of paired RMSE).",
        baseline="UniPC and DPM-Solver++, each with the order and grid that are best on the search's noises; exact 16x16 "
        "image mixture, fresh noise",
        below=1.0,
    )(few_calls(what))
    claim(
        f"{what.name}/all-budgets",
        of=(("tuning", what.name),),
        papers=papers,
        statement=f"At 5, 6, 8 and 10 calls, on an exact and on a trained model, {what.says} (geometric mean over the "
        "eight of the higher ratio of paired RMSE).",
        baseline="UniPC and DPM-Solver++, each with the order and grid that are best on the search's noises; exact 16x16 "
        "image mixture and the digits network, fresh noise",
        below=1.0,
        tier="full",
    )(all_budgets(what))


@claim(
    "ays/bound",
    of=(("tuning", "ays"),),
    papers=(123,),
    statement="At 10 calls the bound of its levels, on data and paths that it was not fitted to, is below that of every "
    "standard grid (ratio to the least of theirs, geometric mean over four seeds).",
    baseline="the standard grid of the least bound; exact 16x16 image mixture",
    below=1.0,
)
def bound(seed: int, sabotage: bool) -> Measured:
    """The broken variant looks for the largest bound."""
    model, ays = images(), Dearest() if sabotage else AlignYourSteps()
    top, low = log_range(model)
    grid = np.linspace(low, top, ays.grid)

    def costs(number: int) -> Matrix:
        first = 64 * number
        data, labels = model.exact.sample(64, seed=seed + first)  # type: ignore[union-attr]
        of = Problem(model, unit_noise(seed, range(first, first + 64), model.shape), labels, data)
        space = Space(model, (fine_plan(model, 10),))
        return interval_costs(grid, forward_differences(of, space, grid, 64, seed + first))

    def on_grid(plan: Plan) -> list[int]:
        logs = [float(log_s(row.tau)) for row in plan.rows]
        return sorted({int(np.abs(grid - at).argmin()) for at in logs} | {0})

    standards = [on_grid(plan) for plan in standard_plans(model, 10, solver="ddim")]
    ratios = []
    for repeat in range(4):
        *_, found = ays.descent(costs(2 * repeat), grid, 10)
        fresh = costs(2 * repeat + 1)
        ratios.append(whole_bound(fresh, found) / min(whole_bound(fresh, at) for at in standards))
    return Measured(geometric_mean(ratios))
