"""Early exits of the bundled transformer: against a fixed depth, against fewer calls, and against hindsight.

Errors are paired RMSE, to the plan without exits where exits are compared with exits, and to the reference where they are
compared with fewer calls. Heads are fitted on noises of another seed; their work counts.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from fewer import Plan, sample, standard
from fewer.claims.bundled import SOLVERS, model_of, reference
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.reference import Reference
from fewer.dynamic.early_exit import EarlyExit, Exited
from fewer.dynamic.early_exit_oracle import early_exit_oracle, least, played
from fewer.dynamic.exits import exit_macs
from fewer.evaluate.cost.clock import clock_ratio
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.paired import squared_errors
from fewer.noise import unit_noise

MODEL, ROWS, SHARE, NOISES, FITTED, FEW, BATCH = "dit-digits", 10, 0.7, 96, 96, 40, 16
HEADS = 9000  # seed of the noises that heads are fitted on


def plan(calls: int, solver: str = "ipndm") -> Plan:
    """A plan of so many calls on the grid that is best for the model."""
    return standard(solver, model_of(MODEL), calls, "karras")


@cache
def fitted(weighted: bool = True) -> EarlyExit:
    """Heads and thresholds for 70 % of the plan's multiply-adds."""
    return EarlyExit.fitted(model_of(MODEL), plan(ROWS), SHARE, weighted=weighted, noises=FITTED, seed=HEADS)


@cache
def drawn(seed: int, n: int = NOISES) -> Reference:
    """Noise, labels and, for the reference, the samples of the plan without exits."""
    return Reference.of(model_of(MODEL), seed, n, plan(ROWS))


@cache
def exited(seed: int, n: int = NOISES) -> Exited:
    """The samples with early exits."""
    return fitted().sample(model_of(MODEL), noise=drawn(seed, n).noise, labels=drawn(seed, n).labels)


def left_after(seed: int, depths: Tensor) -> Tensor:
    """Samples whose rows leave after these numbers of blocks (rows, n), by the same heads."""
    whole = drawn(seed, depths.shape[1])
    return played(model_of(MODEL), plan(ROWS), whole.noise, whole.labels, depths, fitted().heads.out)[0]


def mixed(depths: Tensor, seed: int, rows: bool) -> Tensor:
    """Exits in another order: among the samples of each row, or among rows too."""
    generator = torch.Generator().manual_seed(seed)
    flat = depths.view(1, -1) if rows else depths
    order = torch.stack([torch.randperm(flat.shape[1], generator=generator) for _ in flat])
    return flat.gather(1, order).view_as(depths)


@claim(
    "early-exit/against-fixed-depth",
    statement=f"At {SHARE:.0%} of the multiply-adds of {ROWS} calls of dit-digits, exits by uncertainty change the samples less "
    "than an exit after the same block in every row (ratio of RMSE to the plan without exits).",
    baseline="the least depth that costs as much or more, by the same output heads, same noise",
    below=1.0,
)
def against_fixed(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the exits in another order."""
    model, made, whole = model_of(MODEL), exited(seed), drawn(seed)
    costs = ROWS * torch.tensor(fitted().costs)
    depth = 1 + int((costs >= made.macs).nonzero()[0])
    fixed = squared_errors(left_after(seed, torch.full_like(made.depths, depth)), whole.samples)
    mine = squared_errors(left_after(seed, mixed(made.depths, seed, True)) if sabotage else made.x, whole.samples)
    one = fitted(False).sample(model, noise=whole.noise, labels=whole.labels)
    few = unit_noise(seed, range(BATCH), model.shape)
    time = clock_ratio(
        lambda: fitted().sample(model, noise=few), lambda: sample(model, plan(ROWS), noise=few), repeats=8, warmup=1
    )
    others = squared_errors(left_after(seed, mixed(made.depths, seed, False)), whole.samples)
    beside: Beside = {
        "macs, share": made.macs / float(costs[-1]),
        "macs of the baseline, share": float(costs[depth - 1] / costs[-1]),
        "clock, share": time,
        "one threshold for all rows, as in the paper": paired.ratio(squared_errors(one.x, whole.samples), fixed),
        "macs with one threshold, share": one.macs / float(costs[-1]),
        "exits of a row given to other samples": paired.ratio(others, fixed),
    }
    return Measured(paired.ratio(mine, fixed), beside)


@claim(
    "early-exit/against-fewer-calls",
    statement=f"{ROWS} calls of dit-digits with early exits have a lower error than the best plan that spends as many "
    "multiply-adds on fewer whole calls (ratio of paired RMSE to the reference solution).",
    baseline=f"the best plan of {len(SOLVERS)} solvers with that many calls, rounded up, chosen on the same noise",
    below=1.0,
)
def against_fewer_calls(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the exits in another order."""
    made, fine = exited(seed), reference(MODEL, seed, NOISES)
    share = made.macs / fitted().costs[-1]
    calls = math.ceil(share)
    few = [fine.errors(plan(calls, solver)) for solver in SOLVERS]
    x = left_after(seed, mixed(made.depths, seed, True)) if sabotage else made.x
    mine = squared_errors(x, fine.samples)
    return Measured(
        paired.ratio(mine, min(few, key=lambda e: float(e.mean()))),
        {
            "calls of the baseline": calls,
            "macs, calls": share,
            f"against all {ROWS} whole calls": paired.ratio(mine, squared_errors(drawn(seed).samples, fine.samples)),
        },
    )


@claim(
    "early-exit-oracle/bounds",
    statement=f"Exits chosen in hindsight, of as much work in {ROWS} calls of dit-digits, change the samples less than "
    "exits by learned uncertainty do (ratio of RMSE to the plan without exits).",
    baseline="early-exit with the same output heads, same noise; heads' own work is left out on both sides",
    below=1.0,
)
def bounds(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the table's entries of each sample in another order of rows."""
    model, made, whole = model_of(MODEL), exited(seed, FEW), drawn(seed, FEW)
    costs = torch.tensor(exit_macs(model), dtype=torch.float64)
    share = float(costs[made.depths - 1].sum(0).mean()) / (ROWS * float(costs[-1]))
    best = early_exit_oracle(model, plan(ROWS), whole.noise, whole.labels, share, fitted().heads.out)
    said = float(best.table.gather(1, best.depths[:, None] - 1).sum((0, 1)).mean())
    x = best.x
    if sabotage:
        order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(seed))
        x = left_after(seed, least(best.table[order], costs, share * ROWS * float(costs[-1])) + 1)
    mine = squared_errors(x, whole.samples)
    return Measured(
        paired.ratio(mine, squared_errors(made.x, whole.samples)),
        {
            "macs, share": best.macs / (ROWS * float(costs[-1])),
            "measured over the sum of the table": float(mine.mean()) / said,
        },
    )
