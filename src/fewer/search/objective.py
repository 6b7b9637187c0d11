"""The objective of a search: the distance of a plan's samples to the reference solution, and its normal equations.

A plan that differs from one played before only from some row on is played from there, with the states and outputs that
were kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.engine import History
from fewer.evaluate.criterion import PAIRED, Criterion
from fewer.evaluate.evaluator import Evaluator
from fewer.plan import Plan
from fewer.plan.difference import same


@dataclass
class Objective(Evaluator):
    """The evaluator on the noises of a search: scores of plans by the search's criterion, and the normal equations of a plan's
    residuals.
    """

    criterion: Criterion = PAIRED

    def score(self, plan: Plan, rmse: float | None = None) -> float:
        """The number on all noises by which candidates are ranked, smaller for better plans: by default the paired RMSE.

        rmse  the plan's, where it is known; inf where its samples are not finite
        """
        return self.criterion.score(self, plan, rmse)

    def normal_equations(
        self, plan: Plan, neighbours: list[tuple[Plan, float]], counted: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """J'J and J'r of the plan's residuals along the neighbours, by forward differences.

        neighbours  (plan moved by a step h along one parameter, h); r is the residual divided by sqrt(n d), so that
                    r'r is the mean squared error
        counted     (n,) which samples count; all by default
        """
        size = len(neighbours)
        gram = torch.zeros(size, size, dtype=torch.float64)
        slope = torch.zeros(size, dtype=torch.float64)
        counted = torch.ones(len(self), dtype=torch.float32) if counted is None else counted
        scale = self.target.numel() ** -0.5
        for part in self.parts():
            base = History()
            samples = self.run(plan, part, base)
            weight = scale * counted[part].double().repeat_interleave(samples[0].numel())
            r = (samples - self.target[part]).flatten().double().cpu() * weight
            columns = torch.empty(size, r.numel(), dtype=torch.float64)
            for i, (moved, h) in enumerate(neighbours):
                first, redo = first_change(plan, moved)
                last = first - 1 if redo else first  # whose call need not be made again
                outputs = {n: u for n, u in base.outputs.items() if n <= last}
                branches = {n: dict(given) for n, given in base.branches.items() if n <= last}
                past = None if base.past is None else {n: kept for n, kept in base.past.items() if n <= last}
                history = History(
                    {n: x for n, x in base.states.items() if n <= first}, outputs, branches, past=past, first=first
                )
                change = self.run(moved, part, history) - samples
                columns[i] = change.flatten().double().cpu() * weight / h
            gram += columns @ columns.T
            slope += columns @ r
        return gram, slope


def first_change(plan: Plan, moved: Plan) -> tuple[int, bool]:
    """The first row that differs, and whether its network call does (not only the step after it)."""
    if not same(plan.start, moved.start):
        return 0, True
    for n, (row, other) in enumerate(zip(plan.rows, moved.rows, strict=True)):
        if not same(row, other):
            calls = ((each.tau, each.t, each.guidance, each.blocks, each.network) for each in (row, other))
            return n, not all(same(*pair) for pair in zip(*calls, strict=True))
    return len(plan.rows) - 1, False
