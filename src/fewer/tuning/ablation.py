"""What leaving out one block in one row does to the samples: the additive table that patterns of blocks are chosen by.

    E[k, n, a] = |x - x'|^2 over noises and elements, x the plan's samples, and x' those where block k, in row n alone,
                 gives the branch of row n - a instead of being run

Such tables choose layers to prune (Zhang et al. 2024), depths (Kim et al. 2023) and sparsities (Xu et al. 2023) by the
sum of their entries; the claim joint/additive-table says how well that sum follows the change that a pattern makes.
Choosing by the Gram matrix of the changes instead, which also knows which of them lie along each other, fits the few
noises that it is measured on: its patterns were worse on fresh ones than those of the plain sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewer.engine import History
from fewer.plan import Plan, Shortcut
from fewer.shortcuts.playing import selected
from fewer.tuning.problem import Problem

Pattern = NDArray[np.bool_]  # (blocks, rows): whether the block runs in the row


@dataclass(frozen=True)
class Ablation:
    """The table of a plan: `names` of the blocks, `table` E (blocks, rows, ages), infinite where there is no such row."""

    names: tuple[str, ...]
    table: NDArray[np.float64]

    def additive(self, runs: Pattern) -> float:
        """The sum of a pattern's entries; infinite where it takes a branch that is older than the table knows."""
        old = age(runs)
        if old.max(initial=0) > self.table.shape[2]:
            return np.inf
        k, n = np.nonzero(old)
        return float(self.table[k, n, old[k, n] - 1].sum())


def age(runs: Pattern) -> NDArray[np.int64]:
    """(blocks, rows) how many rows ago each block last ran: 0 where it runs, more than all rows where it never did."""
    rows = np.arange(runs.shape[1])
    last = np.maximum.accumulate(np.where(runs, rows, -(runs.shape[1] + 1)), axis=1)
    found: NDArray[np.int64] = rows - last
    return found


def patterned(plan: Plan, names: Sequence[str], runs: Pattern) -> Plan:
    """The plan in which each block takes the branch of the row that ran it last where it does not run."""
    old = age(runs)
    rows = []
    for n, row in enumerate(plan.rows):
        blocks = {name: Shortcut({n - int(old[k, n]): 1.0}) for k, name in enumerate(names) if old[k, n]}
        rows.append(replace(row, blocks=blocks))
    return replace(plan, rows=tuple(rows), evidence={})


def whole(plan: Plan) -> Plan:
    """The plan with all blocks run."""
    return replace(plan, rows=tuple(replace(row, blocks={}) for row in plan.rows))


def ablate(problem: Problem, plan: Plan, names: Sequence[str], ages: int) -> Ablation:
    """The table for branches of 1 .. `ages` rows, of the plan with all blocks run.

    Entries of the youngest branches are played from their row on, blocks rows^2 / 2 evaluations a noise, each counted as
    a whole one. Older branches change the block's output along much the same direction: their entries are those times the
    ratio of the branch's own squared changes, |y_{n-a} - y_n|^2 / |y_{n-1} - y_n|^2, sample by sample, without further
    calls. Branches of rows that lack a pass of row n cannot be taken.
    """
    plan = whole(plan)
    table = np.full((len(names), len(plan.rows), ages), np.inf)
    for n in range(1, len(plan.rows)):
        table[:, n, [a - 1 for a in _ages(plan, n, ages)]] = 0.0
    for part in problem.parts():
        base = History(watch=tuple(names))
        samples = problem.run(plan, part, base)
        for k, name in enumerate(names):
            for n in range(1, len(plan.rows)):
                known = _ages(plan, n, ages)
                by = [_moved(base, name, n, n - a, len(samples)) for a in known]
                if known:
                    there = _without(problem, plan, part, base, name, n, n - known[0])
                    size = (there - samples).double().square().flatten(1).sum(1).cpu()
                for a, moved in zip(known, by, strict=True):
                    ratio = torch.where(by[0] > 0, moved / by[0], torch.ones_like(moved))
                    table[k, n, a - 1] += float((size * ratio).sum()) / problem.target.numel()
    return Ablation(tuple(names), table)


def _ages(plan: Plan, n: int, most: int) -> list[int]:
    """How many rows ago a branch may be from that row n takes: that row made all of its passes."""
    needed = set(plan.rows[n].conditions)
    return [a for a in range(1, min(most, n) + 1) if needed <= set(plan.rows[n - a].conditions)]


def _without(problem: Problem, plan: Plan, part: slice, base: History, name: str, n: int, source: int) -> Tensor:
    """The samples where the block takes its branch of row `source` in row n."""
    rows = list(plan.rows)
    rows[n] = replace(rows[n], blocks={name: Shortcut({source: 1.0})})
    history = _until(base, n)
    history.branches[source] = {name: base.branches[source][name]}
    return problem.run(replace(plan, rows=tuple(rows)), part, history, n)


def _until(base: History, n: int) -> History:
    """What row n starts from."""
    past = None if base.past is None else {j: kept for j, kept in base.past.items() if j < n}
    states = {j: x for j, x in base.states.items() if j <= n}
    return History(states, {j: u for j, u in base.outputs.items() if j < n}, past=past)


def _moved(base: History, name: str, n: int, source: int, count: int) -> Tensor:
    """(count,) squared distance of the block's branches in two rows, over the passes of the later one."""
    now, then = base.branches[n][name], base.branches[source][name]
    total = torch.zeros(count, dtype=torch.float64)
    for conditions, streams in now.items():
        for one, other in zip(streams, selected(then, conditions), strict=True):
            if one is not None and other is not None:
                moved = (one - other).double().unflatten(0, (len(conditions), count))
                total += moved.square().transpose(0, 1).flatten(1).sum(1).cpu()
    return total
