"""Times and coefficients together, by damped Gauss-Newton steps on the paired residuals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewer.parts import part
from fewer.plan import Plan
from fewer.tuning.problem import Problem
from fewer.tuning.space import Space, Vector
from fewer.tuning.study import Candidate

_SHRINK, _GROW, _TRIES = 4.0, 6.0, 6
_DAMPING = 1e-2
_NOTHING = 1e-200  # stands for 0 where no number changes anything, as guidance of passes that agree
_WIDTHS = (0.1, 0.01, 0.0)  # of differences along the levels, at least that of the weights


@dataclass(frozen=True)
class _Walk:
    """Where one descent stands: its vector, damping and error, and which of the widths it takes differences at.

    `anchor` is that of the space that the vector is of, `free` whether the space's steps are.
    """

    theta: list[float]
    damping: float = _DAMPING
    error: float = math.inf
    width: int = 0
    anchor: str | None = None
    free: bool = False

    def within(self, space: Space) -> Space:
        """The space that the vector is of."""
        return replace(space, anchor=self.anchor, free=self.free)

    @property
    def ended(self) -> bool:
        """Whether even the narrowest differences brought little."""
        return self.width == len(_WIDTHS)

    def freed(self, space: Space) -> _Walk:
        """The walk's end as the start of one whose steps need not be exact on straight lines."""
        more = [0.0] * (len(replace(space, free=True).names) - len(space.names))
        return replace(self, theta=[*self.theta, *more], damping=_DAMPING, width=0, free=True)

    def narrower(self, theta: Vector, damping: float, error: float) -> _Walk:
        """The walk at `theta`, where a step has brought little."""
        return replace(self, theta=theta.tolist(), damping=damping, error=error, width=self.width + 1)


@part(
    "gauss-newton",
    title="Levels and weights together, Levenberg-Marquardt on the distance to the fine solution",
    source="Levenberg 1944; Marquardt 1963; the search space of this package",
)
@dataclass(frozen=True)
class GaussNewton:
    """theta <- theta - (J'J + damping diag(J'J))^-1 J'r, r the difference of plan and fine solution over all noises.

    J is taken by forward differences: the network is only ever called forwards, so any network will do, and rows
    before the first that a number changes are not played again. Trained networks are rough in their time: what a
    change of a single time step brings has little to do with what ten bring. So differences along the levels are wide
    first (a tenth of a level's gap), and narrower where a step brings less than `tolerance`. The damping is divided
    by 4 after a step that lowers the error and multiplied by 6 before another try. A sample that is more than 8 times
    the median error away has gone to another mode, where no small step brings it back from: its part of the error is
    capped there.

    Descends from each of the `starts` best standard plans (of different grids) for `trial` iterations on the `few`
    first noises (a quarter where that is more), then from where the error on all noises is lowest, until the narrowest
    differences bring less than `tolerance` too. From there on steps need not be exact on straight lines any more: the
    state's weight and the sum of the outputs' become free, until that ends in the same way, or after `candidates`
    iterations in all. With `consistent` they stay exact. Where the space says plans to begin with, these and the best
    standard one are descended from.
    """

    starts: int = 3
    trial: int = 4
    few: int = 32
    tolerance: float = 1e-2
    candidates: int = 100
    consistent: bool = False

    from_plans = True  # it may begin with plans that were found before

    @property
    def name(self) -> str:
        """The part's name, under which a study keeps the candidates."""
        return "gauss-newton-consistent" if self.consistent else "gauss-newton"

    def search(self, problem: Problem, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """One candidate an iteration, the best so far of its descent."""
        walks = [_Walk(**walk) for walk in done[-1].state["walks"]] if done else self._begin(space)
        few = problem.first(max(self.few, len(problem) // 4))
        for n in range(len(done), self.candidates):
            trying, turn = divmod(n, self.trial)
            whole = trying >= len(walks) - 1
            if whole and turn == 0 and trying == len(walks) - 1:
                walks[-1] = self._best(problem, space, walks[:-1])
            at = -1 if whole else trying
            if walks[at].ended and whole:
                if walks[at].free or self.consistent or "solver" in space.keep:
                    return
                walks[at] = walks[at].freed(space)
            if not walks[at].ended:
                walks[at] = self._iterate(problem if whole else few, space, walks[at])
            problem.evaluations += few.evaluations
            few.evaluations = 0
            state = {"walks": [walk.__dict__ for walk in walks]}
            yield Candidate(_plan(space, walks[at]), walks[at].error, self.name, state)

    def choose(self, done: list[Candidate]) -> Candidate:
        """The last of the descent on all noises: no step is taken that raises the capped error. Before it, the best."""
        last = done[-1].state["walks"][-1]
        return done[-1] if math.isfinite(last["error"]) else min(done, key=lambda candidate: candidate.error)

    def _begin(self, space: Space) -> list[_Walk]:
        """A walk for each start, and one more for the descent on all noises."""
        bases = space.bases[: 1 if space.starts else self.starts]
        walks = [_walk_from(space, plan) for plan in (*space.starts, *bases)]
        return [*walks, walks[0]]

    def _best(self, problem: Problem, space: Space, walks: list[_Walk]) -> _Walk:
        errors = [problem.squared_errors(_plan(space, walk)) for walk in walks]
        best = nearest(errors)
        return replace(walks[best], damping=_DAMPING, error=float(errors[best].mean().sqrt()), width=0)

    def _iterate(self, problem: Problem, space: Space, walk: _Walk) -> _Walk:
        theta: Vector = np.array(walk.theta)
        space = walk.within(space)
        errors = problem.squared_errors(space.plan(theta))
        cap = _cap(errors)
        before = _loss(errors, cap)
        neighbours = _neighbours(space, theta, _WIDTHS[walk.width], problem.model.dtype)
        gram, slope = problem.normal_equations(space.plan(theta), neighbours, errors <= cap)
        scale = gram.diagonal().clamp(min=max(1e-12 * float(gram.diagonal().max()), _NOTHING))
        damping = walk.damping
        for _ in range(_TRIES):
            change: Any = torch.linalg.solve(gram + damping * torch.diag(scale), -slope).numpy()
            change = change / max(1.0, float(np.abs(change).max()) / 2)
            tried = problem.squared_errors(space.plan(theta + change))
            loss = _loss(tried, cap)
            if math.isfinite(loss) and loss < before:
                damping, error = max(damping / _SHRINK, 1e-8), float(tried.mean().sqrt())
                if loss > before * (1 - self.tolerance) ** 2:
                    return walk.narrower(theta + change, damping, error)
                return replace(walk, theta=(theta + change).tolist(), damping=damping, error=error)
            damping *= _GROW
        return walk.narrower(theta, _DAMPING, float(errors.mean().sqrt()))


@part(
    "gauss-newton-consistent",
    title="Levels and weights together, every step exact on straight lines",
    source="Levenberg 1944; Marquardt 1963; the search space of this package",
)
def consistent() -> GaussNewton:
    """Gauss-Newton whose plans are exact on straight lines, whatever network they are played with.

    For plans that are to serve networks very unlike the one that they are tuned on. On fine-tunes of it the plans whose every
    number is free were no worse (docs/transfer.md).
    """
    return GaussNewton(consistent=True)


def _walk_from(space: Space, plan: Plan) -> _Walk:
    """A walk at a plan, in the space that it lies in."""
    own = space.around(plan)
    own = replace(own, free=own.anchor is None and any(row.a is not None for row in plan.rows))
    return _Walk(own.vector(plan).tolist(), anchor=own.anchor, free=own.free)


def _plan(space: Space, walk: _Walk) -> Plan:
    return walk.within(space).plan(np.array(walk.theta))


def _neighbours(space: Space, theta: Vector, width: float, dtype: torch.dtype) -> list[tuple[Plan, float]]:
    """The plan moved along each number, and by how much: levels by `width`, all by what the rounding asks at least."""
    least = 3 * torch.finfo(dtype).eps ** 0.5  # balances the network's rounding against the curvature
    found = []
    for i, name in enumerate(space.names):
        step = max(width, least) if name.startswith(("start", "level")) else least
        moved = theta.copy()
        moved[i] += step
        found.append((space.plan(moved), step))
    return found


def nearest(errors: Sequence[Tensor]) -> int:
    """Which plan's squared errors (n,) have the least mean, each sample's part at most 8 times the least median error."""
    cap = min(_cap(e) for e in errors)
    return min(range(len(errors)), key=lambda i: _loss(errors[i], cap))


def _cap(errors: Tensor) -> float:
    """The squared error above which a sample counts as having gone to another mode: 8 times the median error."""
    return 64 * float(errors.nanmedian())


def _loss(errors: Tensor, cap: float) -> float:
    """Mean squared error with every sample's part at most `cap`."""
    return float(errors.clamp(max=cap).mean())
