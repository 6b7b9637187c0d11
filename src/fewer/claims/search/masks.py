"""Searches of masks against random masks, as many played: of known functions, and of a plan's blocks in rows on a bundled network.

Known functions add up what is missed of everything that is off, and of pairs; half of 20 things may be on. On the network all have
the multiply-adds of 3 whole calls for 5 rows, and the same noises to search on. Three searches of each kind, with seeds of their
own, are compared on noises that none saw: the squared errors of the three plans are averaged noise by noise. Nothing is tuned
after the masks.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np
import torch
from torch import Tensor

from fewer.blocks.find import at_granularity
from fewer.claims.bundled import model_of, reference
from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import geometric_mean
from fewer.claims.search.attribution import BLOCKS, Additive
from fewer.claims.search.joint import SAMPLER, problem
from fewer.evaluate.cost.price import call_macs
from fewer.evaluate.statistics import paired
from fewer.plan import Plan
from fewer.registry import find
from fewer.samplers import standard
from fewer.search.limit import Limit
from fewer.search.masks.blocks import ASKED, cells, masked
from fewer.search.masks.choices import Choices
from fewer.search.space import Space
from fewer.search.strategy import Candidate

NAME, CALLS, ROWS, NOISES = "dit-digits", 3, 5, 8  # of the search
MASKS, SEEDS, HELD_OUT = 40, 3, 64
FUNCTIONS, TOLD, OFFSET = 12, 60, 0.02  # known functions, masks played of each, and the share that is always there
CLOSE = {"poisson-masks": 2000, "thompson-masks": 2000}  # functions, of searches that are near to random ones
SAYS = {
    "ablation-masks": "ablation and exchanges",
    "langevin-masks": "regularised Langevin dynamics on a quadratic model of the errors",
    "perturbed-masks": "scores moved along the gradient of the expected error of their perturbed largest",
    "poisson-masks": "a distribution that learns from conditional Poisson beams",
    "sparse-masks": "Thompson sampling of a sparse linear model of the errors",
    "thompson-masks": "Thompson sampling over five searches",
}


def names() -> tuple[str, ...]:
    """The transformer's blocks."""
    return tuple(block.name for block in at_granularity(model_of(NAME), "layer"))


def limit() -> Limit:
    """The multiply-adds of the whole calls."""
    return Limit(model_of(NAME), "macs", CALLS * call_macs(model_of(NAME)))


@cache
def played(strategy: str, seed: int) -> list[Candidate]:
    """The masks that a search plays and that fit, the best first."""
    of = problem(NAME, seed, NOISES)
    space = Space(of.model, (standard(SAMPLER[NAME][0], of.model, CALLS, SAMPLER[NAME][1]),))
    search = find("search", strategy).make(limit=limit(), names=names(), masks=MASKS, candidates=MASKS)
    found = [c for c in search.search(of, space, [], seed) if "rows" in c.state]
    return sorted(found, key=lambda candidate: candidate.error)


def errors(strategy: str, seed: int, worst: bool = False) -> Tensor:
    """Squared errors on held-out noises, averaged over the plans of the searches: their best, or their worst ones."""
    plans = [played(strategy, seed + k)[-1 if worst else 0].plan for k in range(SEEDS)]
    return torch.stack([reference(NAME, seed, HELD_OUT).errors(plan) for plan in plans]).mean(0)


def against_random(strategy: str, seed: int, sabotage: bool) -> Measured:
    """RMSE over that of random masks. Sabotage: the worst of the masks that fit."""
    on_search = [
        float(played(strategy, seed + k)[0].error / played("random-masks", seed + k)[0].error) for k in range(SEEDS)
    ]
    beside = {"on the search's noises": float(np.exp(np.mean(np.log(on_search))))}
    return Measured(paired.ratio(errors(strategy, seed, sabotage), errors("random-masks", seed)), beside)


def least(strategy: str, seed: int, functions: int, worst: bool = False) -> list[float]:
    """The least error, or the largest one, of the masks that a search plays and that fit, of each known function."""
    found = []
    for k in range(functions):
        function = Additive.random(np.random.default_rng([seed, k]))
        choices = Choices(np.ones(BLOCKS), BLOCKS / 2)
        asking = find("search", strategy).make().asking(choices, np.random.default_rng([seed, k]))
        mask, known, fit = next(asking), set[bytes](), []
        for _ in range(ASKED * TOLD):
            error = float(function((~mask).astype(np.int64)[None])[0]) + OFFSET * float(function.weights.sum())
            known.add(mask.tobytes())
            fit += [error] if choices.fits(mask) else []
            if len(known) == TOLD:
                break
            mask = asking.send(error)
        found.append(max(fit) if worst else min(fit))
    return found


def of_functions(strategy: str, functions: int, seed: int, sabotage: bool) -> Measured:
    """The ratio of least errors to those of random masks. Sabotage: the worst of the masks that fit."""
    pairs = zip(least(strategy, seed, functions, sabotage), least("random-masks", seed, functions), strict=True)
    return Measured(geometric_mean([mine / its for mine, its in pairs]))


for name, what in SAYS.items():
    functions = CLOSE.get(name, FUNCTIONS)
    claim(
        f"{name}/known-functions",
        statement=f"Of known functions of which of {BLOCKS} things are off, half of them at most on, the best of {TOLD} masks by "
        f"{what} has a lower value than the best random one: ratio, geometric mean over {functions} functions.",
        baseline="as many random masks to which nothing can be added",
        below=1.0,
        tier="full" if name in CLOSE else "quick",
    )(partial(of_functions, name, functions))
    claim(
        f"{name}/against-random",
        tier="full",
        statement=f"On {NAME}, of {MASKS} masks that say which of 6 blocks run in which of {ROWS} rows, within the "
        f"multiply-adds of {CALLS} calls, the best by {what} has a lower error than the best random one: "
        "ratio of paired RMSE.",
        baseline="as many random masks to which nothing can be added, same rows, budget and noises; three searches each",
        below=1.0,
    )(partial(against_random, name))


def even(seed: int) -> Plan:
    """The rows' plan with every block left out of as many evenly spaced rows as bring it within the budget."""
    plan = played("random-masks", seed)[0].plan
    choices = cells(plan, names(), limit())
    assert choices is not None
    rows = len(plan.rows) - 1
    for on in range(rows, -1, -1):
        kept = [round(k * rows / on) for k in range(on)]
        mask = np.zeros((len(names()), rows), dtype=np.bool_)
        mask[:, kept] = True
        if choices.fits(mask.flatten()):
            return masked(plan, names(), mask.flatten())
    raise AssertionError


@claim(
    "random-masks/known-functions",
    statement=f"Of known functions of which of {BLOCKS} things are off, half of them at most on, the best of {TOLD} random masks "
    f"has at most half of the median one's value: ratio, geometric mean over {FUNCTIONS} functions.",
    baseline="the median of as many random masks",
    below=0.5,
)
def against_median(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the worst of the masks."""
    ratios = []
    for k, best in enumerate(least("random-masks", seed, FUNCTIONS, sabotage)):
        function, rng = Additive.random(np.random.default_rng([seed, k])), np.random.default_rng([seed, k, 1])
        masks = np.stack([~Choices(np.ones(BLOCKS), BLOCKS / 2).drawn(rng) for _ in range(TOLD)]).astype(np.int64)
        ratios.append(best / float(np.median(function(masks) + OFFSET * function.weights.sum())))
    return Measured(geometric_mean(ratios))


@claim(
    "random-masks/against-even",
    tier="full",
    statement=f"On {NAME}, the best of {MASKS} random masks of blocks in rows has a lower error than whole rows left out evenly, "
    "within the same multiply-adds: ratio of paired RMSE. Beside: against the middle one of the random masks",
    baseline="evenly spaced rows in which no block runs, each branch reused from the row before; same rows and noise",
    below=1.0,
)
def against_even(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the worst of the masks."""
    mine = errors("random-masks", seed, sabotage)
    middle = torch.stack(
        [
            reference(NAME, seed, HELD_OUT).errors(played("random-masks", seed + k)[MASKS // 2].plan)
            for k in range(SEEDS)
        ]
    ).mean(0)
    its = reference(NAME, seed, HELD_OUT).errors(even(seed))
    return Measured(paired.ratio(mine, its), {"against the middle one": paired.ratio(mine, middle)})
