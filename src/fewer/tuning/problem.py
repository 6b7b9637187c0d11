"""What a search asks: how far a plan's samples are from the fine solution, from the same noise, on some noises.

Every network evaluation is counted. A plan that differs from one played before only from some row on is played from
there, with the states and outputs that were kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from fewer.engine import MICRO_BATCH, History, begin, bind, play
from fewer.models.model import Model
from fewer.plan import Plan, Row, Shortcut, Start


@dataclass
class Problem:
    """Starting noises, labels and the fine solution's samples (n, *shape); `evaluations` counts per sample.

    `data` (N, *shape) are the user's own samples, where there are any.
    """

    model: Model
    noise: Tensor
    labels: Tensor | None
    target: Tensor
    batch: int = MICRO_BATCH
    evaluations: int = field(default=0)
    data: Tensor | None = None

    def __len__(self) -> int:
        return len(self.noise)

    def first(self, n: int) -> Problem:
        """The same problem on its first n noises, counting for itself."""
        labels = None if self.labels is None else self.labels[:n]
        return Problem(self.model, self.noise[:n], labels, self.target[:n], self.batch, data=self.data)

    def parts(self) -> list[slice]:
        """Micro-batches."""
        return [slice(at, at + self.batch) for at in range(0, len(self), self.batch)]

    def run(self, plan: Plan, part: slice, history: History | None = None, first: int = 0) -> Tensor:
        """The plan's samples of a micro-batch, from row `first` on where a history is given."""
        z = self.noise[part]
        labels = None if self.labels is None else self.labels[part]
        known = history is not None and first in history.outputs
        calls = sum(row.passes for row in plan.rows[first:]) - (plan.rows[first].passes if known else 0)
        self.evaluations += calls * len(z)
        x = begin(plan, z, lambda: torch.zeros_like(z)) if first == 0 or history is None else history.states[first]
        with torch.inference_mode():
            return play(self.model, bind(self.model, plan), x, labels, history=history, first=first)

    def squared_errors(self, plan: Plan) -> Tensor:
        """Mean squared difference to the fine solution of each sample (n,), float64."""
        errors = []
        for part in self.parts():
            difference = (self.run(plan, part) - self.target[part]).double()
            errors.append(difference.square().flatten(1).mean(1))
        return torch.cat(errors).cpu()

    def rmse(self, plan: Plan) -> float:
        """Root mean squared error over all samples and elements; inf where the plan's samples are not finite."""
        value = float(self.squared_errors(plan).mean().sqrt())
        return value if value == value else float("inf")

    def normal_equations(
        self, plan: Plan, neighbours: list[tuple[Plan, float]], kept: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """J'J and J'r of the plan's residuals along the neighbours, by forward differences.

        neighbours  (plan moved by a step h along one parameter, h); r is the residual divided by sqrt(n d), so that
                    r'r is the mean squared error
        kept        (n,) which samples count; all by default
        """
        size = len(neighbours)
        gram = torch.zeros(size, size, dtype=torch.float64)
        slope = torch.zeros(size, dtype=torch.float64)
        kept = torch.ones(len(self)) if kept is None else kept
        scale = self.target.numel() ** -0.5
        for part in self.parts():
            base = History()
            samples = self.run(plan, part, base)
            weight = scale * kept[part].double().repeat_interleave(samples[0].numel())
            r = (samples - self.target[part]).flatten().double().cpu() * weight
            columns = torch.empty(size, r.numel(), dtype=torch.float64)
            for i, (moved, h) in enumerate(neighbours):
                first, redo = first_change(plan, moved)
                last = first - 1 if redo else first  # whose call need not be made again
                outputs = {n: u for n, u in base.outputs.items() if n <= last}
                branches = {n: dict(given) for n, given in base.branches.items() if n <= last}
                past = None if base.past is None else {n: kept for n, kept in base.past.items() if n <= last}
                history = History({n: x for n, x in base.states.items() if n <= first}, outputs, branches, past=past)
                change = self.run(moved, part, history, first) - samples
                columns[i] = change.flatten().double().cpu() * weight / h
            gram += columns @ columns.T
            slope += columns @ r
        return gram, slope


def first_change(plan: Plan, moved: Plan) -> tuple[int, bool]:
    """The first row that differs, and whether its network call does (not only the step after it)."""
    if not _same(plan.start, moved.start):
        return 0, True
    for n, (row, other) in enumerate(zip(plan.rows, moved.rows, strict=True)):
        if not _same(row, other):
            calls = ((each.t, each.tau, each.guidance, each.blocks, each.network) for each in (row, other))
            return n, not all(_same(*pair) for pair in zip(*calls, strict=True))
    return len(plan.rows) - 1, False


def _same(one: Any, other: Any) -> bool:
    """Equality of starts, rows and what is in them, with tensors compared by all of their numbers."""
    if one is other:
        return True
    if isinstance(one, Tensor) or isinstance(other, Tensor):
        return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, Start | Row | Shortcut):
        return all(_same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return bool(one == other)
