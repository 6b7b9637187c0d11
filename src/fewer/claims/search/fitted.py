"""What times and solvers fitted on a model bring, against UniPC and DPM-Solver++ on their best grids, on held-out noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from torch import Tensor

from fewer import Plan, load
from fewer.claims.broken import KeepsTheWorst
from fewer.claims.claim import Measured, claim
from fewer.claims.exact import against, images, mixture_of, reference
from fewer.claims.reference import Reference
from fewer.claims.repeated import geometric_mean
from fewer.claims.search.strategies import problem
from fewer.evaluate.reference import reference_plan
from fewer.evaluate.statistics.interval import Interval
from fewer.grids import Levels
from fewer.levels import log_s
from fewer.noise import Stream, unit_noise
from fewer.samplers import standard_plans
from fewer.search.objective import Objective
from fewer.search.space import Space, fits
from fewer.search.strategies.ays import AlignYourSteps, Matrix, forward_differences, interval_costs, kl_bound
from fewer.search.strategies.equidistribution import Equidistributed, Spread
from fewer.search.strategies.gits import DynamicProgram
from fewer.search.strategies.ld3 import LearnedTimes
from fewer.search.strategies.truncated_start import Truncated
from fewer.search.strategies.usf import PerStep
from fewer.search.strategy import Strategy
from fewer.search.trajectory import Trajectory, log_range

FAMILIES = (("unipc", "unipc-3"), ("dpmpp-2m", "dpmpp-3m"))
BUDGETS = (5, 6, 8, 10)
HELD_OUT = 256  # noises of the comparison on the digits network


@dataclass(frozen=True)
class Dearest(KeepsTheWorst, AlignYourSteps):
    """Align Your Steps that looks for the largest bound, and for the worst samples."""

    patience: int = 99

    def moved(self, costs: Matrix, at: list[int]) -> list[int]:
        """Each level where the bound is largest."""
        return super().moved(-costs, at)


@dataclass(frozen=True)
class Reversed(Equidistributed):
    """Levels that are sparse where the local error is large."""

    def density(self, way: Trajectory, spread: Spread, order: int) -> tuple[Levels, Levels]:
        """One over the monitor."""
        grid, density = super().density(way, spread, order)
        return grid, 1 / density


@dataclass(frozen=True)
class Misplaced(KeepsTheWorst, Truncated):
    """Starts around the mean of the opposite sign, of which the worst is taken."""

    def data(self, problem: Objective, space: Space, seed: int) -> Tensor:
        """The data, negated."""
        return -super().data(problem, space, seed)


@dataclass(frozen=True)
class Fitted:
    """A strategy, its broken variant (or its own with another noise's samples to aim at), and what is said of it.

    At `calls`, of which the first is claimed of, or at all budgets alone. `condition`: of the claim at all budgets.
    """

    name: str
    make: Callable[[], Strategy]
    broken: Callable[[], Strategy] | None
    says: str
    calls: tuple[int, ...] = (5,)
    condition: str = ""


LATE = partial(DynamicProgram, gamma=50.0)  # later steps weigh far too much
SMOOTH = (
    "It is below 1 at every budget on the exact model and near or above 1 at every one on the digits network: the networks differ, "
    "not the noises. A trained network is missing whose predictions are smooth in time, as the monitor takes them to be."
)
FITTED = (
    Fitted("ays", AlignYourSteps, Dearest, "optimised schedules are better than hand-crafted ones", ()),
    Fitted("dynamic-program", DynamicProgram, LATE, "its schedules are better at few calls", (5, 10)),
    Fitted(
        "equidistributed",
        Equidistributed,
        Reversed,
        "equidistributed levels have the lowest error bound",
        (5, 10),
        SMOOTH,
    ),
    Fitted("learned-times", LearnedTimes, None, "learnt times are better than hand-crafted schedules of any sampler"),
    Fitted("per-step", PerStep, None, "searched schedules of solvers are better than UniPC and DPM-Solver++"),
    Fitted("truncated", Truncated, Misplaced, "a start below the noisiest level is better than one there", (5, 10)),
)


def best_of(of: Objective, family: tuple[str, ...], calls: int) -> Plan:
    """The solver of a family and its grid that are best on the search's noises."""
    plans = [plan for name in family for plan in standard_plans(of.model, calls, solver=name) if fits(plan)]
    return min(plans, key=of.first(32).rmse)


def found_by(what: Fitted, of: Objective, calls: int, bases: tuple[Plan, ...], seed: int, sabotage: bool) -> Plan:
    """The plan that a strategy chooses, which begins with the bases. Another noise's samples are those of the next."""
    strategy = what.broken() if sabotage and what.broken else what.make()
    aim = replace(of, target=of.target.roll(1, 0)) if sabotage and not what.broken else of
    ranked = tuple(sorted(bases, key=of.apart().first(32).rmse))
    space = Space(of.model, ranked, solver=ranked[0].recipe.solver)
    return strategy.choose(list(strategy.search(aim, space, [], seed))).plan


def few_calls(what: Fitted, seed: int, sabotage: bool) -> Measured:
    """The higher of the ratios to the best UniPC and the best DPM-Solver++, at the first of the calls; all beside it."""
    of = problem(seed)
    beside: dict[str, Interval | float] = {}
    figures = []
    for calls in what.calls:
        bases = tuple(best_of(of, family, calls) for family in FAMILIES)
        of.counter.reset()
        plan = found_by(what, of, calls, bases, seed, sabotage)
        beside[f"evaluations at {calls} calls"] = float(of.evaluations)
        ratios = [against(plan, base, seed) for base in bases]
        beside |= {f"{calls} calls, {plan.name} / {base.name}": r for base, r in zip(bases, ratios, strict=True)}
        figures.append(max(ratios, key=lambda ratio: ratio.value))
    return Measured(figures[0], beside)


def digits_reference(seed: int, n: int, stream: Stream = Stream.SAMPLES) -> Reference:
    """The first n noises of a stream for the digits network, with their reference samples."""
    return Reference.of(load("digits"), seed, n, 128, stream=stream)


def all_budgets(what: Fitted, seed: int, sabotage: bool) -> Measured:
    """Geometric mean, over budgets and both models, of the ratio to the better of the best UniPC and DPM-Solver++."""
    beside: dict[str, Interval] = {}
    for of, held_out in (
        (problem(seed), reference(seed)),
        (digits_reference(seed, 96, Stream.CHOICE).problem(), digits_reference(seed, HELD_OUT)),
    ):
        for calls in BUDGETS:
            bases = tuple(best_of(of, family, calls) for family in FAMILIES)
            plan = found_by(what, of, calls, bases, seed, sabotage)
            for base in bases:
                beside[f"{of.model.name}, {calls} calls, {plan.name} / {base.name}"] = held_out.ratio(plan, base)
    ratios = [ratio.value for ratio in beside.values()]
    return Measured(geometric_mean([max(pair) for pair in zip(ratios[::2], ratios[1::2], strict=True)]), beside)


AGAINST = "UniPC and DPM-Solver++, each with the order and grid that are best on the search's noises"
for what in FITTED:
    if what.calls:
        claim(
            f"{what.name}/against-standard",
            statement=f"At {what.calls[0]} calls {what.says}: its error is below that of the best UniPC and of the best "
            "DPM-Solver++ (the higher ratio of paired RMSE).",
            baseline=f"{AGAINST}; exact 16x16 image mixture, held-out noise",
            below=1.0,
        )(partial(few_calls, what))
    claim(
        f"{what.name}/all-budgets",
        statement=f"At 5, 6, 8 and 10 calls, on an exact and on a trained model, {what.says} (geometric mean over the "
        "eight of the higher ratio of paired RMSE).",
        baseline=f"{AGAINST}; exact 16x16 image mixture and the digits network, held-out noise",
        below=1.0,
        tier="full",
        condition=what.condition,
    )(partial(all_budgets, what))


@claim(
    "ays/bound",
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
        data, labels = mixture_of(model).sample(64, seed=seed + first)
        of = Objective(model, unit_noise(seed, range(first, first + 64), model.shape), labels, data)
        space = Space(model, (reference_plan(model, 10),))
        return interval_costs(grid, forward_differences(of, space, grid, 64, seed + first))

    def on_grid(plan: Plan) -> list[int]:
        logs = [float(log_s(row.tau)) for row in plan.rows]
        return sorted({int(np.abs(grid - at).argmin()) for at in logs} | {0})

    standards = [on_grid(plan) for plan in standard_plans(model, 10, solver="ddim")]
    ratios = []
    for repeat in range(4):
        *_, found = ays.descent(costs(2 * repeat), grid, 10)
        held_out = costs(2 * repeat + 1)
        ratios.append(kl_bound(held_out, found) / min(kl_bound(held_out, at) for at in standards))
    return Measured(geometric_mean(ratios))
