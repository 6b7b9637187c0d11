"""What freeing passes and scales brings to the search of a guided plan, on noise that it never saw."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, partial

import torch
from torch import Tensor

from fewer import Model, Plan, load
from fewer.claims.claim import Measured, claim
from fewer.claims.evaluate.distances import plain_frechet
from fewer.claims.exact import conditional
from fewer.claims.guidance import digits
from fewer.claims.reference import Reference
from fewer.claims.search.strategies import Uphill, ranked
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import jackknife
from fewer.noise import Stream
from fewer.samplers import standard_plans
from fewer.search.objective import Objective
from fewer.search.space import Space, fits
from fewer.search.strategies.gauss_newton import GaussNewton
from fewer.search.strategies.guided_rows import GuidedRows
from fewer.search.strategies.standards import by_grid
from fewer.search.strategy import Candidate

PASSES, FINE, HELD_OUT = 8, 64, 256  # of the plans, rows of their reference, and noises of the comparison
CLOSE = 1024  # noises where the two are near each other
MARGIN, PARTS = 0.05, 48  # of not worse; parts of the images that distances are measured on
SHORTER = (32, 8)  # noises and iterations of the searches whose plans' distances are measured
SCALE = {"mixture16": 3.0, "digits": 2.0, "dit-digits": 2.0}


@cache
def model(name: str) -> Model:
    """The trained network, or the image mixture with its components as classes, exact."""
    found = load(name)
    if found.exact is None:
        return found
    return conditional(found.exact.to(dtype=torch.float32), name, f"{name} guided")


def problem(name: str, seed: int, n: int, kind: type[Objective] = Objective) -> Objective:
    """The search's noises with their reference samples under constant guidance."""
    return Reference.of(model(name), seed, n, FINE, guidance=SCALE[name], stream=Stream.CHOICE).problem(kind)


def standards(of: Objective, name: str, passes: int) -> tuple[Plan, ...]:
    """The best standard plan of each grid under constant guidance, best first."""
    return by_grid([plan for plan in ranked(of.first(32), standard_plans(of.model, passes, SCALE[name])) if fits(plan)])


def constant(of: Objective, name: str, passes: int, iterations: int) -> Plan:
    """Levels and weights tuned, guidance as it was."""
    space = Space(of.model, standards(of, name, passes)[:1], frozenset({"guidance"}))
    strategy = GaussNewton(starts=1, candidates=iterations)
    return strategy.choose(list(strategy.search(of, space, [], 0))).plan


def freed(of: Objective, name: str, passes: int, iterations: int) -> Plan:
    """Passes, scales, levels and weights tuned, with so many iterations after the patterns and their first descents."""
    strategy = GuidedRows(grids=1)
    found: list[Candidate] = []
    for candidate in strategy.search(of, Space(of.model, standards(of, name, passes)), [], 0):
        found.append(candidate)
        if sum(c.state["stage"] == "all" for c in found) == iterations:
            break
    return strategy.choose(found).plan


def against(name: str, mine: Plan, its: Plan, seed: int, noises: int = HELD_OUT) -> Interval:
    """Ratio of RMSEs to the reference, from the same held-out noise."""
    return Reference.of(model(name), seed, noises, FINE, guidance=SCALE[name]).ratio(mine, its)


def rows_of_two(plan: Plan) -> float:
    """How many rows make both passes."""
    return float(sum(row.passes == 2 for row in plan.rows))


def compared(name: str, mine: Plan, its: Plan, seed: int, noises: int = HELD_OUT) -> Measured:
    """The ratio, with the rows of the first plan beside it."""
    beside = {"rows": float(len(mine.rows)), "rows of two passes": rows_of_two(mine)}
    return Measured(against(name, mine, its, seed, noises), beside)


def searched(name: str, seed: int, sabotage: bool, passes: int, noises: int, iterations: int) -> tuple[Plan, Plan]:
    """A searched plan, and one of so many passes whose guidance is constant. The broken variant walks uphill."""
    its = constant(problem(name, seed, noises), name, passes, iterations)
    mine = freed(problem(name, seed, noises, kind=Uphill if sabotage else Objective), name, PASSES, iterations)
    return mine, its


@claim(
    "guided-rows/equal-passes",
    statement=f"Of {PASSES} passes at scale {SCALE['mixture16']:g}, a plan whose rows' passes and scales were searched too has "
    "a lower error than one guided in all rows at that scale, levels and weights tuned in both: ratio on held-out noise.",
    baseline="Gauss-Newton with guidance kept, from the best standard plan; exact 16x16 image mixture of ten classes",
    below=1.0,
)
def equal_passes(seed: int, sabotage: bool) -> Measured:
    """The broken variant walks uphill."""
    return compared("mixture16", *searched("mixture16", seed, sabotage, PASSES, 48, 20), seed, CLOSE)


def by_error(name: str, seed: int, sabotage: bool) -> Measured:
    """Their errors to the guided reference, the second plan of twice the passes. The broken variant walks uphill."""
    return compared(name, *searched(name, seed, sabotage, 2 * PASSES, 64, 24), seed)


def by_distance(name: str, seed: int, sabotage: bool) -> Measured:
    """Their Frechet distances to the digits as a given set, of images from the same noise: the jackknife over its parts.

    The broken variant is the best standard plan of half its passes.
    """
    n = PARTS * digits.BLOCK
    labels = digits.classes(seed, n)
    plan, whole = searched(name, seed, False, 2 * PASSES, *SHORTER)
    if sabotage:
        plan = standards(problem(name, seed, SHORTER[0]), name, PASSES // 2)[0]
    made = [digits.images(each, seed, n, name) for each in (plan, whole)]
    mine, its = (digits.features(x).split(digits.BLOCK) for x in made)

    def distance(parts: Sequence[Tensor], some: list[int]) -> float:
        return float(plain_frechet(torch.cat([parts[i] for i in some]), digits.data()))

    beside = {
        "distance": jackknife(lambda some: distance(mine, some), PARTS),
        "baseline's": jackknife(lambda some: distance(its, some), PARTS),
        "accuracy": digits.accuracy(made[0], labels), "its": digits.accuracy(made[1], labels),
    }  # fmt: skip
    return Measured(jackknife(lambda some: distance(mine, some) - (1 + MARGIN) * distance(its, some), PARTS), beside)


for network in ("digits", "dit-digits"):
    title = f"On {network} at scale {SCALE[network]:g} a plan of {PASSES} passes, all of its columns searched, is not worse than "
    title += f"one of {2 * PASSES} guided in all rows at that scale, levels and weights tuned"
    baseline = f"Gauss-Newton with guidance kept at {2 * PASSES} passes, from the best standard plan, same noises"
    claim(
        f"guided-rows/half-the-passes/{network}",
        statement=f"{title}: ratio of errors on held-out noise.",
        baseline=baseline,
        below=1 + MARGIN,
        tier="full",
    )(partial(by_error, network))
    claim(
        f"guided-rows/half-the-passes-distance/{network}",
        statement=f"{title}, by distance to data: its Frechet distance to the digits on classifier features less {1 + MARGIN:g} "
        "times the other's, on held-out noise; beside, class accuracies.",
        baseline=f"{baseline}; {SHORTER[0]} noises, {SHORTER[1]} iterations on them all",
        below=0.0,
        tier="full",
    )(partial(by_distance, network))
