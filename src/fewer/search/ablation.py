"""Changes of the samples where one block is left out of one row: the additive table that patterns of blocks are chosen by.

    E[k, n, a] = |x - x'|^2 over noises and elements, x the plan's samples, and x' those where block k, in row n alone,
                 is not run, but forecast from its branches of row n - a and, with two terms, of the row before that

Such tables choose layers to prune (Zhang et al. 2024), depths (Kim et al. 2023) and sparsities (Xu et al. 2023) by the
sum of their entries; the claim joint/additive-table says how well that sum follows the change that a pattern makes.
Choosing by the Gram matrix of the changes instead, which also knows which of them lie along each other, fits the few
noises that it is measured on: its patterns were worse on held-out ones than those of the plain sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fewer.calibrate.fitted_forecast import Gram, products, weights
from fewer.engine import History
from fewer.plan import Plan, Shortcut
from fewer.search.objective import Objective

Pattern = NDArray[np.bool_]  # (blocks, rows): whether the block runs in the row


@dataclass(frozen=True)
class Ablation:
    """The table of a plan: `names` of the blocks, `table` E (blocks, rows, ages), infinite where there is no such row.

    `grams` are the blocks' own, from which forecasts of so many `terms` get their weights; one term is plain reuse.
    """

    names: tuple[str, ...]
    table: NDArray[np.float64]
    grams: tuple[Gram, ...] = ()
    terms: int = 1

    def patterned(self, plan: Plan, runs: Pattern) -> Plan:
        """The plan with a pattern (blocks, rows) of what runs, all else forecast from the last rows that ran."""
        if self.terms == 1:
            return patterned(plan, self.names, runs)
        rows = []
        for n, row in enumerate(plan.rows):
            out = [k for k in range(len(self.names)) if not runs[k, n]]
            blocks = {self.names[k]: Shortcut(self._weights(plan, k, n, np.flatnonzero(runs[k, :n]))) for k in out}
            rows.append(replace(row, blocks=blocks))
        return replace(plan, rows=tuple(rows), evidence={})

    def _weights(self, plan: Plan, k: int, n: int, ran: NDArray[np.int64]) -> dict[int, float]:
        known = [int(j) for j in ran if _gives(plan, int(j), n)]
        return weights(self.grams[k], n, known[-self.terms :], plan.rows[n].conditions)[0]

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
    ages: NDArray[np.int64] = rows - last
    return ages


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


def ablate(objective: Objective, plan: Plan, names: Sequence[str], ages: int, terms: int = 1) -> Ablation:
    """The table for branches of 1 .. `ages` rows, of the plan with all blocks run.

    Entries of the youngest branches are played from their row on, blocks rows^2 / 2 evaluations a noise, each counted as
    a whole one. Older branches change the block's output along much the same direction: their entries are those times the
    ratio of what the forecasts miss of the block's own branch, |y_n - sum_j w_j y_j|^2, without further calls. Branches of
    rows that lack a pass of row n cannot be taken.

    terms  of a forecast: 1 takes the branch as it is, more have weights by least squares on the same noises
    """
    plan = whole(plan)
    table = np.full((len(names), len(plan.rows), ages), np.inf)
    runs = [(part, History(watch=tuple(names))) for part in objective.parts()]
    samples = [objective.run(plan, part, base) for part, base in runs]
    each = [[products(base, name, len(plan.rows)) for _, base in runs] for name in names]
    grams = tuple({c: np.sum([of[c] for of in parts], axis=0) for c in parts[0]} for parts in each)
    for k, name in enumerate(names):
        for n in range(1, len(plan.rows)):
            known = {a: _forecast(plan, grams[k], n, n - a, terms) for a in _ages(plan, n, ages)}
            if not known:
                continue
            first, by = next(iter(known.values()))
            size = 0.0
            for (part, base), x in zip(runs, samples, strict=True):
                there = _without(objective, plan, part, base, name, n, first)
                size += float((there - x).double().square().sum()) / objective.target.numel()
            for a, (_, missed) in known.items():
                table[k, n, a - 1] = size * (missed / by if by > 0 else 1.0)
    return Ablation(tuple(names), table, grams, terms)


def _forecast(plan: Plan, gram: Gram, n: int, newest: int, terms: int) -> tuple[dict[int, float], float]:
    """The weights of a forecast from row `newest` and those before it, and what it misses."""
    conditions = plan.rows[n].conditions
    if terms == 1:
        total = np.sum([gram[c] for c in conditions], axis=0)
        return {newest: 1.0}, float(total[n, n] - 2 * total[n, newest] + total[newest, newest])
    return weights(gram, n, [j for j in range(newest + 1) if _gives(plan, j, n)][-terms:], conditions)


def _gives(plan: Plan, j: int, n: int) -> bool:
    """Whether row j makes all passes of row n."""
    return set(plan.rows[n].conditions) <= set(plan.rows[j].conditions)


def _ages(plan: Plan, n: int, most: int) -> list[int]:
    """Ages of the branches that row n may take: those of rows that made all of row n's passes."""
    return [a for a in range(1, min(most, n) + 1) if _gives(plan, n - a, n)]


def _without(
    objective: Objective, plan: Plan, part: slice, base: History, name: str, n: int, terms: dict[int, float]
) -> Tensor:
    """The samples where the block gives these branches in row n."""
    rows = list(plan.rows)
    rows[n] = replace(rows[n], blocks={name: Shortcut(terms)})
    history = until(base, n)
    for j in terms:
        history.branches[j] = {name: base.branches[j][name]}
    return objective.run(replace(plan, rows=tuple(rows)), part, history)


def until(base: History, n: int) -> History:
    """The part of a run's history from which row n is played."""
    past = None if base.past is None else {j: kept for j, kept in base.past.items() if j < n}
    states = {j: x for j, x in base.states.items() if j <= n}
    return History(states, {j: u for j, u in base.outputs.items() if j < n}, past=past, first=n)
