"""The oracle of early exits: in hindsight, what leaving in a row does to each sample, and the exits that hurt least."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.dynamic.exits import Head, exit_macs, play_exits
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.registry import part


@dataclass(frozen=True)
class Hindsight:
    """What each exit does, and the exits that were chosen.

    table    (rows, depths, n) mean squared change of sample i at the end when it leaves row r alone after k + 1 blocks;
             0 for the last depth, the whole network
    depths   (rows, n) chosen numbers of blocks
    x        (n, *shape) samples with these exits
    macs     mean multiply-accumulates of a sample, heads not counted
    """

    table: Tensor
    depths: Tensor
    x: Tensor
    macs: float


@part(
    "early-exit-oracle",
    title="Early exits chosen in hindsight, by what each does to the sample's end",
    source="Lagrangian relaxation (Everett 1963, doi:10.1287/opre.11.3.399) over exact error signals of single exits",
    role="procedure",
)
def early_exit_oracle(
    model: Model, plan: Plan, noise: Tensor, labels: Tensor | None, share: float, head: Head | None = None
) -> Hindsight:
    """For each sample and row the exit of least e_i(r, k) + lambda macs(k), at `share` of the plan's multiply-adds.

    e_i(r, k) is exact: the plan is played once for each row and depth, with that exit alone. With lambda the same for
    all, no other choice of single exits has a smaller sum of errors for as little work. Errors of several exits in one
    sample are added up, which `Hindsight.x`, played with all of them, lets one check. No rule that decides during the run
    sees this table: its error is the bound that such rules are compared with.

    noise   unit noise (n, *shape); labels (n,) or None
    share   in (0, 1]: of the multiply-accumulates of the plan without exits, on average
    head    what the output layer is given of tokens that leave; None gives them as they are

    Costs rows x depths runs of the plan. Raises InputError for a share out of range or below the first exit's, and as
    `play_exits` does.
    """
    costs = torch.tensor(exit_macs(model), dtype=torch.float64, device=model.device)
    if not float(costs[0] / costs[-1]) <= share <= 1:
        raise InputError(f"share is {share!r}; expected {float(costs[0] / costs[-1]):.3g} (the first exit's) to 1")
    out = head or (lambda row, depth, tokens: tokens)
    count, rows, n = len(costs), len(plan.rows), len(noise)
    whole, _ = played(model, plan, noise, labels, torch.full((rows, n), count), out)
    table = torch.zeros(rows, count, n, dtype=torch.float64, device=model.device)
    for r in range(rows):
        for k in range(1, count):
            depths = torch.full((rows, n), count)
            depths[r] = k
            x, _ = played(model, plan, noise, labels, depths, out)
            table[r, k - 1] = (x - whole).double().square().flatten(1).mean(1)
    chosen = least(table, costs, share * rows * float(costs[-1]))
    x, ran = played(model, plan, noise, labels, chosen + 1, out)
    return Hindsight(table, ran, x, float(costs[ran - 1].sum(0).mean()))


def played(
    model: Model, plan: Plan, noise: Tensor, labels: Tensor | None, depths: Tensor, head: Head
) -> tuple[Tensor, Tensor]:
    """Samples whose rows leave after `depths` (rows, n) blocks, and these depths."""
    at = depths.to(model.device)
    return play_exits(model, plan, noise, labels, lambda row, depth, who, tokens: at[row, who] == depth, head)


def least(table: Tensor, costs: Tensor, most: float) -> Tensor:
    """argmin_k of table[r, k, i] + lambda costs[k] (rows, n), with the smallest lambda whose mean cost is at most `most`.

    Cost falls as lambda grows, so that lambda is found by bisection of its logarithm.
    """

    def at(log: float) -> Tensor:
        return (table + 10**log * costs[None, :, None]).argmin(1)

    low, high = -40.0, 10.0
    if float(costs[at(low)].sum(0).mean()) <= most:
        return at(low)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if float(costs[at(middle)].sum(0).mean()) <= most else (middle, high)
    return at(high)
