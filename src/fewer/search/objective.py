"""The objective of a search: the distance of a plan's samples to the reference solution, and how they change with its numbers.

A plan that differs from one played before only from some row on is played from there, with the states and outputs that
were kept.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from fewer.engine import History
from fewer.evaluate.criterion import PAIRED, Criterion
from fewer.evaluate.evaluator import Evaluator
from fewer.models.ending import marked
from fewer.plan import Plan, Row, Start
from fewer.plan.difference import same
from fewer.search.jacobian import Jacobian, Rollout
from fewer.search.trajectory import Trajectory
from fewer.workers.play import Deterministic


@dataclass
class Objective(Evaluator):
    """The evaluator on the noises of a search: scores of plans by the search's criterion, and how a plan's samples change with
    its numbers.

    trajectory  the reference solution's way from the first of the noises, where it was kept
    """

    criterion: Criterion = PAIRED
    trajectory: Trajectory | None = None

    def subset(self, first: int, last: int) -> Self:
        """The noises of numbers first .. last - 1, with the same counter."""
        way = None if self.trajectory is None else self.trajectory.subset(first, last)
        return replace(super().subset(first, last), trajectory=way)

    def score(self, plan: Plan, rmse: float | None = None) -> float:
        """The number on all noises by which candidates are ranked, smaller for better plans: by default the paired RMSE.

        rmse  the plan's, where it is known; inf where its samples are not finite
        """
        return self.criterion.score(self, plan, rmse)

    def rollout(self, plan: Plan) -> Rollout:
        """The plan played from all noises, with what was made on the way; the samples are not checked to be finite."""
        made = list(self.made(self.play_of(plan, part, keep=True) for part in self.parts()))
        return Rollout(plan, torch.cat([samples for samples, _ in made]), tuple(kept(history) for _, history in made))

    def outputs(self, row: Row, x: Tensor) -> Tensor:
        """The output u (n, *shape) of one row at states (n, *shape), under its rule of guidance."""
        plan = Plan(Start(row.tau, 1.0), (replace(row, b={}),), model=marked(self.model.schedule))
        labels = [None if self.labels is None else self.labels[part] for part in self.parts()]
        plays = (
            Deterministic(plan, x[part], labels, keep=True, begun=True)
            for part, labels in zip(self.parts(), labels, strict=True)
        )
        return torch.cat([kept(history).outputs[0] for _, history in self.made(plays)])

    def jacobian(self, here: Rollout, neighbours: list[tuple[Plan, float]]) -> Jacobian:
        """What the samples change along the neighbours, by forward differences.

        neighbours  (plan moved by a step h along one parameter, h)
        """
        changes = torch.empty(len(neighbours), len(self), self.noise[0].numel())
        plays, places = [], []
        for part, base in zip(self.parts(), here.histories, strict=True):
            for i, (moved, _) in enumerate(neighbours):
                plays.append(self.play_of(moved, part, until_change(base, here.plan, moved)))
                places.append((i, part))
        for (i, part), (samples, _) in zip(places, self.made(plays), strict=True):
            changes[i, part] = (samples - here.samples[part]).flatten(1).cpu()
        widths = torch.tensor([width for _, width in neighbours], dtype=torch.float64)
        return Jacobian(changes, widths, self.parts())


def until_change(base: History, plan: Plan, moved: Plan) -> History:
    """What was made by a plan, as far as a moved one makes it, too: a history that this goes on from."""
    first, redo = first_change(plan, moved)
    last = first - 1 if redo else first  # whose call need not be made again
    outputs = {n: u for n, u in base.outputs.items() if n <= last}
    branches = {n: dict(given) for n, given in base.branches.items() if n <= last}
    past = None if base.past is None else {n: each for n, each in base.past.items() if n <= last}
    states = {n: x for n, x in base.states.items() if n <= first}
    return History(states, outputs, branches, past=past, first=first)


def kept(history: History | None) -> History:
    """The history of a play that was asked to keep it."""
    assert history is not None
    return history


def first_change(plan: Plan, moved: Plan) -> tuple[int, bool]:
    """The first row that differs, and whether its network call does (not only the step after it)."""
    if not same(plan.start, moved.start):
        return 0, True
    for n, (row, other) in enumerate(zip(plan.rows, moved.rows, strict=True)):
        if not same(row, other):
            calls = ((each.tau, each.t, each.guidance, each.blocks, each.network) for each in (row, other))
            return n, not all(same(*pair) for pair in zip(*calls, strict=True))
    return len(plan.rows) - 1, False
