"""The space that is searched: a vector of free numbers and the plan that it stands for.

Levels are increments of log s, weights are free but for their sum, and added to those of a solver at these levels, the
anchor:

    log s_n = log s_{n-1} - exp(theta_n)
    x_{n+1} = (step of the anchor) + (tau_{n+1} - tau_n) sum_{j < n} w_nj (u_j - u_n)

With the first-order step as the anchor every vector is a plan with falling levels that is exact on straight lines, and
every such plan of this many rows has a vector. Guidance scales, where rows have one, are free too. What is kept fixed
is left out of the vector.

A `free` space gives that exactness up: the state's weight and the weights' sum are two more numbers a row,

    x_{n+1} = (1 + g_n) x_n + (step above) + (tau_{n+1} - tau_n) h_n u_n

as few large steps want it: the best linear predictor of a random quantity shrinks towards its mean.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.levels import s_of_tau, tau_of_log_s
from fewer.models.model import Model
from fewer.plan import Coefficient, Guidance, Plan
from fewer.plan.recipe import Recipe
from fewer.registry import find
from fewer.solvers import compile_plan, places
from fewer.solvers.trace import Level

Vector = NDArray[np.float64]
Anchor = Callable[[Sequence[Level], int], Plan]  # the plan of a solver at levels, for a number of calls

KEEP = ("steps", "solver", "guidance", "blocks")
_NARROW = 0.05  # how far below the model's start a free start begins, in log s
_LEAST, _MOST = -12.0, 3.0  # of theta: increments of log s between 6e-6 and 20


def check_keep(keep: Iterable[str]) -> frozenset[str]:
    """The columns that may not change. Raises InputError for unknown words."""
    if not isinstance(keep, Iterable):
        raise InputError(f"keep is {keep!r:.80}; expected some of {', '.join(KEEP)}")
    words = frozenset(keep.split(",") if isinstance(keep, str) else keep)
    for word in words:
        if word not in KEEP:
            raise InputError(f"keep has {word!r}; expected some of {', '.join(KEEP)}")
    return words


def fits(plan: Plan, free: bool = False) -> bool:
    """Whether a plan lies in the space: deterministic, one level a call, the state's weight 1, or any in a `free` space."""
    levels = [float(level) for level in plan.levels]
    falling = all(a > b for a, b in itertools.pairwise(levels))
    states = all(row.a is None or (free and row.a.keys() == {n}) for n, row in enumerate(plan.rows))
    return falling and not plan.stochastic and states and float(plan.end) == 0


@dataclass(frozen=True)
class Space:
    """The plans around `bases` (that all fit, the first giving what is kept), with the columns of `keep` fixed.

    `solver` names the solver that gives the weights where they are kept: they follow the levels then. `anchors` are
    solvers made for this model, by the names that recipes have of them; `anchor` names the one that weights are added
    to, where it is not the first-order step. `free`: whether steps need not be exact on straight lines. `starts` are plans
    to begin with beside the bases. `noisy` are standard plans with noise, best first, where the objective is one that they are
    ranked by.
    """

    model: Model
    bases: tuple[Plan, ...]
    keep: frozenset[str] = frozenset()
    solver: str | None = None
    anchors: Mapping[str, Anchor] = field(default_factory=dict)
    anchor: str | None = None
    free: bool = False
    starts: tuple[Plan, ...] = ()
    noisy: tuple[Plan, ...] = ()

    def around(self, plan: Plan) -> Space:
        """The same space with the anchor that the plan was made by."""
        name = plan.recipe.anchor
        return replace(self, anchor=name if name in self.anchors else None)

    def at(self, plan: Plan) -> Space:
        """The space around one plan, with its weights added to those of the first-order step."""
        return Space(self.model, (plan,), self.keep, self.solver, self.anchors)

    @property
    def base(self) -> Plan:
        """The first of the bases."""
        return self.bases[0]

    @property
    def calls(self) -> int:
        """Rows of a plan."""
        return len(self.base.rows)

    @property
    def guided(self) -> list[int]:
        """Rows whose guidance scale is free: those whose output it changes."""
        if "guidance" in self.keep:
            return []
        return [n for n, row in enumerate(self.base.rows) if row.guidance is not None and _scales(row.guidance)]

    @property
    def names(self) -> list[str]:
        """One name a number."""
        names = [] if "steps" in self.keep else ["start", *(f"level {n}" for n in range(1, self.calls))]
        if "solver" not in self.keep:
            names += [f"weight {n} {j}" for n in range(1, self.calls) for j in range(n)]
        names += [f"scale {n}" for n in self.guided]
        return names + [f"{what} {n}" for what in ("state", "sum") for n in range(self.calls if self.free else 0)]

    def adopt(self, plan: Plan, recipe: Recipe) -> Plan:
        """A plan of so many rows with the guidance of the base's, made for this model, and where it is from."""
        rows = [replace(row, guidance=own.guidance) for row, own in zip(plan.rows, self.base.rows, strict=True)]
        return replace(plan, rows=tuple(rows), model=self.model.signature, recipe=recipe)

    @property
    def recipe(self) -> Recipe:
        """Origin of the plans of this space, but for the strategy that finds them."""
        solver = self.solver if "solver" in self.keep else None
        return Recipe(solver, anchor=self.anchor, passes=self.base.recipe.passes)

    @property
    def _top(self) -> float:
        """log s above which no start lies; finite also where the model starts from pure noise."""
        start = self.model.start
        return math.log(s_of_tau(start)) if start < 1 else math.log(1 / self.model.schedule.tau_min)

    @property
    def base_levels(self) -> list[Level]:
        """The levels of the base's rows, with the network times of these where they have some."""
        schedule = self.model.schedule
        return [Level(float(row.tau), schedule, None if row.t is None else float(row.t)) for row in self.base.rows]

    def vector(self, plan: Plan) -> Vector:
        """The vector of a plan that fits and has the same number of rows and the same rows guided."""
        levels = [float(level) for level in plan.levels]
        numbers = [] if "steps" in self.keep else self.increments(levels[:-1])
        rows = []  # (row, the anchor's row, step in tau)
        if self.free or "solver" not in self.keep:
            anchored = self._anchored(places(self.model, levels[:-1]))
            rows = list(zip(plan.rows, anchored.rows, np.diff(levels).tolist(), strict=True))
        if "solver" not in self.keep:
            numbers += [
                _mean(row.b.get(j, 0.0) - own.b.get(j, 0.0)) / step
                for n, (row, own, step) in enumerate(rows)
                for j in range(n)
            ]
        numbers += [float(plan.rows[n].guidance.parameters()["scale"]) for n in self.guided]  # type: ignore[union-attr]
        if self.free:
            numbers += [0.0 if row.a is None else _mean(row.a[n]) - 1 for n, row in enumerate(plan.rows)]
            numbers += [
                (sum(map(_mean, row.b.values())) - sum(map(_mean, own.b.values()))) / step for row, own, step in rows
            ]
        return np.array(numbers)

    def increments(self, taus: list[float]) -> list[float]:
        """theta_n = log (log s_{n-1} - log s_n) of falling levels, the first from the top."""
        logs = [math.log(s_of_tau(tau)) for tau in taus]
        gaps = [self._top - logs[0], *(a - b for a, b in itertools.pairwise(logs))]
        if taus[0] == 1 and self.calls > 1:
            gaps[:2] = [_NARROW, self._top - _NARROW - logs[1]]
        return [math.log(max(gap, _NARROW)) for gap in gaps]

    def plan(self, theta: Vector, name: str = "tuned") -> Plan:
        """The plan of a vector. Raises InputError where a number is not finite."""
        if not np.isfinite(theta).all():
            raise InputError("the search left the finite numbers")
        numbers = iter(theta.tolist())
        levels = self.base_levels if "steps" in self.keep else self.levels(itertools.islice(numbers, self.calls))
        steps = np.diff([*(level.tau for level in levels), 0.0]).tolist()
        anchored = self._anchored(levels)
        rows = []
        for n, (row, own) in enumerate(zip(anchored.rows, self.base.rows, strict=True)):
            b = dict(row.b)
            for j in range(n if "solver" not in self.keep else 0):
                weight = steps[n] * next(numbers)
                b[j], b[n] = b.get(j, 0.0) + weight, b[n] - weight
            t = row.t if own.network == 0 else None
            rows.append(replace(row, t=t, b=b, guidance=own.guidance, blocks=own.blocks, network=own.network))
        for n in self.guided:
            rows[n] = replace(rows[n], guidance=_at_scale(self.base.rows[n].guidance, next(numbers)))
        if self.free:  # (1 + g_n) weighs the state, and step h_n is added to the weight of the last output
            g, h = np.array(list(numbers)).reshape(2, self.calls).tolist()
            rows = [
                replace(row, a={n: 1 + g[n]}, b={**row.b, n: row.b[n] + steps[n] * h[n]}) for n, row in enumerate(rows)
            ]
        made_for, others = self.model.signature, self.base.others
        return Plan(anchored.start, tuple(rows), 0.0, name, made_for, others=others, recipe=self.recipe)

    def levels(self, increments: Iterable[float]) -> list[Level]:
        """Levels of log s_n = log s_{n-1} - exp(theta_n); the first is the model's start itself where that is given."""
        log_s, taus = self._top, []
        given = self.model.beginning is not None and self.model.beginning.handed_on
        for n, theta in enumerate(increments):
            log_s -= 0.0 if given and n == 0 else math.exp(min(max(theta, _LEAST), _MOST))
            taus.append(tau_of_log_s(log_s))
        return places(self.model, taus)

    def _anchored(self, levels: list[Level]) -> Plan:
        """The plan at these levels that weights are added to, or the kept solver's."""
        if self.anchor is not None:
            return self.anchors[self.anchor](levels, self.calls)
        solver = self.solver if "solver" in self.keep else None
        return compile_plan(find("solvers", solver or "ddim").make(), levels, self.calls)


def _scales(rule: Guidance) -> bool:
    """Whether a rule has a scale that may move: of classifier-free guidance not that of a single pass."""
    return "scale" in rule.parameters() and not (isinstance(rule, ClassifierFree) and rule.passes == 1)


def _at_scale(rule: Any, scale: float) -> Guidance:
    """The rule at another scale, with as many passes: at exactly 0 or 1 classifier-free guidance would drop one, and a
    later row may look at it.
    """
    moved: Guidance = replace(rule, scale=scale)
    return moved if moved.passes == rule.passes else replace(rule, scale=math.nextafter(scale, math.inf))


def _mean(weight: Coefficient) -> float:
    return float(weight.mean()) if isinstance(weight, Tensor) else weight
