"""Searches of masks against random masks, as many played: which blocks run in which rows of a plan, on a bundled network.

All have the multiply-adds of 3 whole calls for 5 rows, and the same noises to search on. Three searches of each kind, with seeds of
their own, are compared on noises that none saw: the squared errors of the three plans are averaged noise by noise. Nothing is tuned
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
from fewer.claims.search.joint import SAMPLER, problem
from fewer.evaluate.cost.price import call_macs
from fewer.evaluate.statistics import paired
from fewer.plan import Plan
from fewer.registry import find
from fewer.samplers import standard
from fewer.search.limit import Limit
from fewer.search.masks.blocks import cells, masked
from fewer.search.space import Space
from fewer.search.strategy import Candidate

NAME, CALLS, ROWS, NOISES = "dit-digits", 3, 5, 8  # of the search
MASKS, SEEDS, HELD_OUT = 40, 3, 64
SAYS = {
    "ablation-masks": "what is missed least, as measured, left out and exchanged",
    "langevin-masks": "regularised Langevin dynamics on a quadratic model of the errors",
    "perturbed-masks": "scores moved along the gradient of the expected error of their perturbed largest",
    "poisson-masks": "a distribution of masks that learns from conditional Poisson beams",
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


for name, what in SAYS.items():
    claim(
        f"{name}/against-random",
        statement=f"On {NAME}, of {MASKS} masks that say which of 6 blocks run in which of {ROWS} rows, within the "
        f"multiply-adds of {CALLS} calls, the best that {what} finds has a lower error than the best random one: "
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
    "random-masks/against-even",
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
