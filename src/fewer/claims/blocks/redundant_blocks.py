"""The claim of the ranking of blocks by shape distance: the blocks that it names cost least to leave out."""

from __future__ import annotations

from dataclasses import replace

import torch
from scipy.stats import spearmanr

from fewer import Plan, Shortcut, standard
from fewer.calibrate.redundant_blocks import redundant_blocks
from fewer.claims.bundled import BEST, model_of, reference
from fewer.claims.claim import Measured, claim
from fewer.evaluate.statistics import paired

MODEL, CALLS, NOISES = "dit-digits", 10, 128


def without(plan: Plan, name: str) -> Plan:
    """The plan with the block left out of all rows."""
    return replace(plan, rows=tuple(replace(row, blocks={name: Shortcut({})}) for row in plan.rows))


@claim(
    "redundant-blocks/removal",
    statement=f"Of the six blocks of {MODEL}, left out one at a time of all {CALLS} rows, the three that the ranking names first "
    "cost less than the others: ratio of paired RMSE, pooled over three each. Beside: the first that it names over the cheapest "
    "of the others, and the rank correlation of distance and cost",
    baseline="the three blocks that it names last, same noise",
    below=1.0,
    tier="full",
)
def removal(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the ranking is read from its end."""
    solver, grid = BEST[MODEL]
    plan = standard(solver, model_of(MODEL), CALLS, grid)
    ranked = redundant_blocks(model_of(MODEL), plan, noises=16, seed=seed)
    names = [each.block for each in (reversed(ranked) if sabotage else ranked)]
    errors = [reference(MODEL, seed, NOISES).errors(without(plan, name)) for name in names]
    costs = [float(each.mean()) for each in errors]
    named, others = (torch.stack(half).mean(0) for half in (errors[:3], errors[3:]))
    cheapest = min(errors[1:], key=lambda each: float(each.mean()))
    return Measured(
        paired.ratio(named, others),
        {
            "first over the cheapest of the others": paired.ratio(errors[0], cheapest),
            "rank correlation": float(spearmanr(range(len(costs)), costs).statistic),
            **{f"distance of {each.block}": each.distance for each in ranked},
        },
    )
