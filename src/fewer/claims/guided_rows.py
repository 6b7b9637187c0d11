"""What freeing passes and scales brings to the search of a guided plan, on noise that it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from fewer.claims import guidance_digits as digits
from fewer.claims.claim import Check, Measured, claim
from fewer.claims.distances import plain_frechet
from fewer.claims.repeated import jackknife
from fewer.claims.searches import ELSEWHERE, Uphill
from fewer.engine import sample
from fewer.measures import paired
from fewer.measures.interval import Interval
from fewer.measures.reference import fine_plan
from fewer.models.bundled import digits_classifier
from fewer.models.load import load
from fewer.models.model import Model
from fewer.models.schedules import betas, discrete
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.tuning.gauss_newton import GaussNewton
from fewer.tuning.guided_rows import GuidedRows
from fewer.tuning.problem import Problem
from fewer.tuning.space import Space, fits
from fewer.tuning.standards import Standards, by_grid, standard_plans
from fewer.tuning.study import Candidate

PASSES, FINE, FRESH = 8, 64, 256  # of the plans, rows of their fine solution, and noises of the comparison
MARGIN, PARTS = 0.05, 48  # of not worse; parts of the images that distances are measured on
SHORTER = (32, 8)  # noises and iterations of the searches whose plans' distances are measured
SCALE = {"mixture16": 3.0, "digits": 2.0, "dit-digits": 2.0}


@cache
def model(name: str) -> Model:
    """The trained network, or the image mixture with its components as classes, exact."""
    found = load(name)
    if found.exact is None:
        return found
    exact = found.exact.to(dtype=torch.float32)
    return Model.from_mixture(
        exact,
        discrete(betas("scaled_linear"), name="scaled_linear"),
        conditional=True,
        name=name,
        hash=f"{name} guided",
    )


def problem(name: str, seed: int, n: int, first: int = ELSEWHERE, kind: type[Problem] = Problem) -> Problem:
    """Noises of numbers from `first` on with their fine solution under constant guidance."""
    noise, labels = unit_noise(seed, range(first, first + n), model(name).shape), model(name).labels(n)
    plan = fine_plan(model(name), FINE, SCALE[name])
    return kind(model(name), noise, labels, sample(model(name), plan, noise=noise, labels=labels))


def standards(of: Problem, name: str, passes: int) -> tuple[Plan, ...]:
    """The best standard plan of each grid under constant guidance, best first."""
    plans = standard_plans(of.model, passes, SCALE[name])
    short = of.first(32)
    ranked = sorted(Standards(tuple(plans)).search(short, Space(of.model, (plans[0],)), [], 0), key=lambda c: c.error)
    return by_grid([candidate.plan for candidate in ranked if fits(candidate.plan)])


def constant(of: Problem, name: str, passes: int, iterations: int) -> Plan:
    """Levels and weights tuned, guidance as it was."""
    space = Space(of.model, standards(of, name, passes)[:1], frozenset({"guidance"}))
    strategy = GaussNewton(starts=1, candidates=iterations)
    return strategy.choose(list(strategy.search(of, space, [], 0))).plan


def freed(of: Problem, name: str, passes: int, iterations: int) -> Plan:
    """Passes, scales, levels and weights tuned, with so many iterations after the patterns and their first descents."""
    strategy = GuidedRows(grids=1)
    found: list[Candidate] = []
    for candidate in strategy.search(of, Space(of.model, standards(of, name, passes)), [], 0):
        found.append(candidate)
        if sum(c.state["stage"] == "all" for c in found) == iterations:
            break
    return strategy.choose(found).plan


def against(name: str, mine: Plan, its: Plan, seed: int) -> Interval:
    """Ratio of RMSEs to the fine solution, from the same fresh noise."""
    fresh = problem(name, seed, FRESH, 0)
    return paired.ratio(fresh.squared_errors(mine), fresh.squared_errors(its))


def rows_of_two(plan: Plan) -> float:
    """How many rows make both passes."""
    return float(sum(row.passes == 2 for row in plan.rows))


@claim(
    "guided-rows/equal-passes",
    of=(("tuning", "guided-rows"),),
    papers=(105, 326),
    statement=f"Of {PASSES} passes at scale {SCALE['mixture16']:g}, a plan whose rows' passes and scales were searched too has "
    "a lower error than one guided in all rows at that scale, levels and weights tuned in both: ratio on fresh noise.",
    baseline="Gauss-Newton with guidance kept, from the best standard plan; exact 16x16 image mixture of ten classes",
    below=1.0,
)
def equal_passes(seed: int, sabotage: bool) -> Measured:
    """The broken variant walks uphill."""
    name, noises, iterations = "mixture16", 48, 20
    its = constant(problem(name, seed, noises), name, PASSES, iterations)
    mine = freed(problem(name, seed, noises, kind=Uphill if sabotage else Problem), name, PASSES, iterations)
    beside: dict[str, Interval | float] = {"rows": float(len(mine.rows)), "rows of two passes": rows_of_two(mine)}
    return Measured(against(name, mine, its, seed), beside)


@cache
def half_and_whole(name: str, seed: int, sabotage: bool, noises: int = 64, iterations: int = 24) -> tuple[Plan, Plan]:
    """A searched plan, and one of twice its passes whose guidance is constant. The broken variant walks uphill."""
    its = constant(problem(name, seed, noises), name, 2 * PASSES, iterations)
    mine = freed(problem(name, seed, noises, kind=Uphill if sabotage else Problem), name, PASSES, iterations)
    return mine, its


def by_error(name: str) -> Check:
    """Their errors to the fine guided solution."""

    def check(seed: int, sabotage: bool) -> Measured:
        mine, its = half_and_whole(name, seed, sabotage)
        beside: dict[str, Interval | float] = {"rows": float(len(mine.rows)), "rows of two passes": rows_of_two(mine)}
        return Measured(against(name, mine, its, seed), beside)

    return check


def by_distance(name: str) -> Check:
    """Their Frechet distances to the digits as a given set, of images from the same noise: the jackknife over its parts."""

    def check(seed: int, sabotage: bool) -> Measured:
        """The broken variant is the best standard plan of half its passes."""
        n = PARTS * digits.BLOCK
        labels = digits.classes(seed, n)
        searched, whole = half_and_whole(name, seed, False, *SHORTER)
        if sabotage:
            searched = standards(problem(name, seed, SHORTER[0]), name, PASSES // 2)[0]
        made = [digits.images(plan, seed, n, name) for plan in (searched, whole)]
        mine, its = (features(x).split(digits.BLOCK) for x in made)
        data = digits.axes()(digits.data_features()[..., None, None])

        def distance(parts: Sequence[Tensor], some: list[int]) -> float:
            return float(plain_frechet(torch.cat([parts[i] for i in some]), data))

        beside: dict[str, Interval | float] = {
            "distance": jackknife(lambda some: distance(mine, some), PARTS),
            "baseline's": jackknife(lambda some: distance(its, some), PARTS),
            "accuracy": digits.accuracy(made[0], labels), "its": digits.accuracy(made[1], labels),
        }  # fmt: skip
        return Measured(
            jackknife(lambda some: distance(mine, some) - (1 + MARGIN) * distance(its, some), PARTS), beside
        )

    return check


def features(x: Tensor) -> Tensor:
    """The classifier's features of images on their leading axes (n, 16)."""
    return digits.axes()(digits_classifier().features(x)[..., None, None])


for network in ("digits", "dit-digits"):
    told = f"On {network} at scale {SCALE[network]:g} a plan of {PASSES} passes, all of its columns searched, is not worse than "
    told += f"one of {2 * PASSES} guided in all rows at that scale, levels and weights tuned"
    baseline = f"Gauss-Newton with guidance kept at {2 * PASSES} passes, from the best standard plan, same noises"
    claim(
        f"guided-rows/half-the-passes/{network}",
        of=(("tuning", "guided-rows"),),
        papers=(105, 326),
        statement=f"{told}: ratio of errors on fresh noise.",
        baseline=baseline,
        below=1 + MARGIN,
        tier="full",
    )(by_error(network))
    claim(
        f"guided-rows/half-the-passes-distance/{network}",
        of=(("tuning", "guided-rows"),),
        papers=(105, 326),
        statement=f"{told}, by distance to data: its Frechet distance to the digits on classifier features less {1 + MARGIN:g} "
        "times the other's, on fresh noise; beside, class accuracies.",
        baseline=f"{baseline}; {SHORTER[0]} noises, {SHORTER[1]} iterations on them all",
        below=0.0,
        tier="full",
    )(by_distance(network))
