"""Times and coefficients together, by damped Gauss-Newton steps on the paired residuals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fewer.plan import Plan
from fewer.plan.file import digest
from fewer.registry import part
from fewer.search.deadline import OutOfTime
from fewer.search.jacobian import Jacobian, Rollout
from fewer.search.objective import Objective
from fewer.search.space import Space, Vector
from fewer.search.strategy import NUMBERS, Candidate, Strategy

_SHRINK, _GROW, _TRIES, _AGAIN = 4.0, 6.0, 6, 2  # the last, tries of a step by an updated J
_DAMPING = 1e-2
_NOTHING = 1e-200  # stands for 0 where no number changes anything, as guidance of passes that agree
SCORED = "scored"  # key of the state of candidates whose errors are not those of the descent
_WIDTHS = (0.1, 0.01, 0.0)  # of differences along the levels to either side, at least that of the weights


@dataclass(frozen=True)
class _Descent:
    """The state of one descent: its vector, damping and error, and the index of the width of its differences.

    `anchor` and `free` are those of the space that the vector is of, `parent` the digest of the plan where the descent began.
    """

    theta: list[float]
    damping: float = _DAMPING
    error: float = math.inf
    width: int = 0
    anchor: str | None = None
    free: bool = False
    parent: str = ""

    @classmethod
    def begin(cls, space: Space, plan: Plan) -> _Descent:
        """A descent from a plan, in the space that the plan lies in."""
        own = space.around(plan)
        own = replace(own, free=own.anchor is None and any(row.a is not None for row in plan.rows))
        return cls(own.vector(plan).tolist(), anchor=own.anchor, free=own.free, parent=digest(plan))

    def within(self, space: Space) -> Space:
        """The space that the vector is of."""
        return replace(space, anchor=self.anchor, free=self.free)

    def plan(self, space: Space) -> Plan:
        """The plan where the descent stands."""
        return self.within(space).plan(np.array(self.theta))

    @property
    def ended(self) -> bool:
        """Whether even the narrowest differences brought little."""
        return self.width == len(_WIDTHS)

    def freed(self, space: Space) -> _Descent:
        """The start of a descent from here whose steps need not be exact on straight lines."""
        more = [0.0] * (len(replace(space, free=True).names) - len(space.names))
        return replace(self, theta=[*self.theta, *more], damping=_DAMPING, width=0, free=True)

    def moved(self, theta: Vector, damping: float, errors: Tensor, little: bool) -> _Descent:
        """The descent at `theta`, with narrower differences where the step there has brought little."""
        error = float(errors.mean().sqrt())
        return replace(self, theta=theta.tolist(), damping=damping, error=error, width=self.width + little)


@part(
    "gauss-newton",
    title="Levels and weights together, Levenberg-Marquardt on the distance to the reference solution",
    source="Levenberg 1944, doi:10.1090/qam/10666; Marquardt 1963, doi:10.1137/0111030; the search space of this "
    "package",
)
@dataclass(frozen=True)
class GaussNewton(Strategy):
    """theta <- theta - (J'J + damping diag(J'J))^-1 J'r, r the difference of plan and reference solution over all noises.

    J is taken by differences: the network is only ever called forwards, so any network will do, and rows
    before the first that a number changes are not played again. Trained networks are rough in their time: what a
    change of a single time step brings has little to do with what ten bring. So differences along the levels are wide
    first (a tenth of a level's gap), and narrower where a step brings less than `tolerance`. Of so wide a difference to one side
    much would be curvature; along the levels they are taken to both sides, whose error is of second order in the width. The damping
    is divided by 4 after a step that lowers the error and multiplied by 6 before another try. A sample that is more than 8 times
    the median error away has gone to another mode, where no small step brings it back from: its part of the error is
    capped there. After a step J is good for `secant` more, updated after each by what that has changed (Broyden 1965), as long as
    they bring more than `tolerance`: such a step takes one play where J takes one for each number.

    Descends from each of the `starts` best standard plans (of different grids) for `trial` iterations on the `few`
    first noises (a quarter where that is more), then from where the error on all noises is lowest, until the narrowest
    differences bring less than `tolerance` too. From there on steps need not be exact on straight lines any more: the
    state's weight and the sum of the outputs' become free, until that ends in the same way, or after `candidates`
    iterations in all. With `consistent` they stay exact. By another objective than pairs the descent is the same, and the candidate
    of the best score is chosen. Where the space says plans to begin with, these and the best
    standard one are descended from.
    """

    starts: int = 3
    trial: int = 4
    few: int = 32
    tolerance: float = 1e-2
    candidates: int = 100
    consistent: bool = False
    secant: int = 0

    columns = NUMBERS
    from_plans = True
    by_objective = True

    @property
    def name(self) -> str:
        """The part's name, under which a study keeps the candidates."""
        return "gauss-newton-consistent" if self.consistent else "gauss-newton"

    def tried_on(self, n: int) -> int:
        """How many of n noises the starts are tried on."""
        return min(n, max(self.few, n // 4))

    def search(self, objective: Objective, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """One candidate a Jacobian, the best so far of its descent: of each start in turn, then of the best on all noises."""
        descents = [_Descent(**each) for each in done[-1].state["walks"]] if done else self._begin(space)
        last = len(descents) - 1
        known: dict[int, Rollout] = {}  # where the descents stand, as far as they were played
        few = objective.first(self.tried_on(len(objective)))
        for n in range(len(done), self.candidates):
            at = min(n // self.trial, last)
            if n == last * self.trial:
                descents[last], known[last] = self._best(objective, space, descents[:last])
            if at == last and descents[at].ended:
                if descents[at].free or self.consistent or "solver" in space.keep:
                    return
                descents[at] = descents[at].freed(space)
                known.pop(at, None)
            if not descents[at].ended:
                noises = objective if at == last else few
                descents[at], known[at] = self._iterate(noises, space, descents[at], known.get(at))
            plan = descents[at].plan(space)
            recipe = replace(plan.recipe, strategy=plan.recipe.strategy or self.name, parents=(descents[at].parent,))
            state: dict[str, Any] = {"walks": [vars(descent) for descent in descents]}
            if not objective.criterion.paired:
                state[SCORED] = True
            plan = replace(plan, recipe=recipe)
            yield Candidate(plan, objective.score(plan, descents[at].error), self.name, state)

    def choose(self, done: list[Candidate]) -> Candidate:
        """The last of the descent on all noises: no step is taken that raises the capped error. Before it, and of candidates
        that were scored by another criterion, the best.
        """
        if SCORED in done[-1].state:
            return super().choose(done)
        return done[-1] if on_all_noises(done) else min(done, key=lambda candidate: candidate.error)

    def levels_alone(self, solver: Any) -> bool:
        """Any solver's: the space says which plans there are."""
        return True

    def _begin(self, space: Space) -> list[_Descent]:
        """A descent from each start, and one more for that on all noises."""
        bases = space.bases[: 1 if space.starts else self.starts]
        descents = [_Descent.begin(space, plan) for plan in (*space.starts, *bases)]
        return [*descents, descents[0]]

    def _best(self, objective: Objective, space: Space, descents: list[_Descent]) -> tuple[_Descent, Rollout]:
        """The descent that stands best on all noises, with its samples; or the best of the plans to begin with."""
        descents = [*descents, *(_Descent.begin(space, plan) for plan in space.starts)]
        played = [objective.rollout(descent.plan(space)) for descent in descents]
        errors = [objective.errors(each.samples) for each in played]
        best = nearest(errors)
        return replace(descents[best], damping=_DAMPING, error=float(errors[best].mean().sqrt()), width=0), played[best]

    def _iterate(
        self, objective: Objective, space: Space, descent: _Descent, here: Rollout | None
    ) -> tuple[_Descent, Rollout]:
        """The descent after the steps of one Jacobian, and its samples there; `here` are those where it stands, if known."""
        own, theta, damping = descent.within(space), np.array(descent.theta), descent.damping
        here = objective.rollout(own.plan(theta)) if here is None else here
        jacobian = jacobian_of(objective, own, theta, here, _WIDTHS[descent.width])
        errors, little, steps = objective.errors(here.samples), True, 0
        while steps <= self.secant:
            cap = cap_of(errors)
            before = capped(errors, cap)
            gram, slope = jacobian.equations(here.samples - objective.target, errors <= cap)
            for tried in range(_AGAIN if steps else _TRIES):
                change = gauss_newton_step(gram, slope, damping * _GROW**tried)
                try:
                    there = objective.rollout(own.plan(theta + change))
                except OutOfTime:
                    if not steps:
                        raise
                    return descent.moved(theta, damping, errors, little), here
                found = objective.errors(there.samples)
                after = capped(found, cap)
                if math.isfinite(after) and after < before:
                    break
            else:
                break
            moved = there.samples - here.samples
            theta, here, errors, steps = theta + change, there, found, steps + 1
            damping = max(damping * _GROW**tried / _SHRINK, 1e-8)
            if after > before * (1 - self.tolerance) ** 2:
                break
            little = False
            if steps <= self.secant:
                scale = gram.diagonal().sqrt().clamp(min=_NOTHING)
                jacobian = jacobian.updated(torch.from_numpy(change), moved, scale)
        return descent.moved(theta, damping if steps else _DAMPING, errors, little), here


def on_all_noises(done: Sequence[Candidate]) -> bool:
    """Whether the descent on all noises has begun."""
    return bool(done) and math.isfinite(done[-1].state["walks"][-1]["error"])


def gauss_newton_step(gram: Tensor, slope: Tensor, damping: float) -> Vector:
    """The change -(J'J + damping diag(J'J))^-1 J'r of the vector, shortened where a number would move by more than 2.

    gram   (K, K), J'J
    slope  (K,), J'r
    """
    scale = gram.diagonal().clamp(min=max(1e-12 * float(gram.diagonal().max()), _NOTHING))
    change: Vector = torch.linalg.solve(gram + damping * torch.diag(scale), -slope).numpy()
    return change / max(1.0, float(np.abs(change).max()) / 2)


@part(
    "gauss-newton-consistent",
    title="Levels and weights together, every step exact on straight lines",
    source="Levenberg 1944, doi:10.1090/qam/10666; Marquardt 1963, doi:10.1137/0111030; the search space of this "
    "package",
)
def consistent() -> GaussNewton:
    """Gauss-Newton whose plans are exact on straight lines, whatever network they are played with.

    For plans that are to serve networks very unlike the one that they are tuned on. On fine-tunes of it the plans whose every
    number is free were no worse (docs/transfer.md).
    """
    return GaussNewton(consistent=True)


def jacobian_of(objective: Objective, space: Space, theta: Vector, here: Rollout, width: float) -> Jacobian:
    """How the samples `here`, of the plan of `theta` (K,), change with each of its numbers: by forward differences along weights
    and scales, as small as the rounding allows, and along levels by central ones, `width` to either side, or as small.
    """
    least = 3 * torch.finfo(objective.model.dtype).eps ** 0.5  # balances the network's rounding against the curvature
    levels = [i for i, name in enumerate(space.names) if name.startswith(("start", "level"))]
    steps = [max(width, least) if i in levels else least for i in range(len(theta))]
    moves = [*enumerate(steps), *((i, -steps[i]) for i in levels)]
    unit = np.eye(len(theta))
    return objective.jacobian(here, [(space.plan(theta + step * unit[i]), step) for i, step in moves]).centred(levels)


def nearest(errors: Sequence[Tensor]) -> int:
    """Index of the squared errors (n,) of least mean, each sample's error capped at 8 times the least median error."""
    cap = min(cap_of(e) for e in errors)
    return min(range(len(errors)), key=lambda i: capped(errors[i], cap))


def cap_of(errors: Tensor) -> float:
    """The squared error above which a sample counts as having gone to another mode: 8 times the median error."""
    return 64 * float(errors.nanmedian())


def capped(errors: Tensor, cap: float) -> float:
    """Mean squared error with every sample's part at most `cap`."""
    return float(errors.clamp(max=cap).mean())
