"""Rows fitted by least squares to the reference solution's way.

Given the levels tau_0 > .. > tau_{N-1} of the calls, row n is the best linear prediction of the reference solution's state at
the next level from all that the plan has so far: its state, and every pass of every row up to this one by itself,

    x*(tau_{n+1})  ~  a_n x_n + sum_i w_ni u_i          least squares over n noises and all elements

with a little ridge towards the first-order step, for passes that hardly differ. x_{n+1} is what the fitted row gives, so that
later rows are fitted to the states that they will meet. A fit takes one evaluation a pass and noise: no derivative and no step
size. Samples whose rest is far above the median's are on their way to another mode; the row is fitted to the others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fewer.engine import begun
from fewer.evaluate.statistics.paired import squared_errors
from fewer.guidance.cfg import ClassifierFree
from fewer.guidance.pass_weights import Conditions, pass_weights
from fewer.models.ending import marked, plain_start
from fewer.models.schedules import Schedule
from fewer.plan import Guidance, Plan, Row
from fewer.search.objective import Objective
from fewer.search.trajectory import Trajectory

RIDGE = 1e-6  # of the regressors' squares
FAR = 64.0  # times the median squared rest: 8 times the median error, as for whole samples

WHOLE: Conditions = ("whole",)  # the output of its guidance rule
LABEL: Conditions = ("label",)  # the pass with the label, by itself
BOTH: Conditions = ("label", "empty")  # both passes of classifier-free guidance, each by itself


@dataclass(frozen=True)
class Fitted:
    """Rows that were fitted at N levels, and what they gave on the n noises of the fit.

    taus     (N,) falling
    rows     the passes of each row
    weights  of each row (1 + passes so far,), float64: of the state, then of each pass in turn
    states   N + 1 of (n, *shape), where the last are the samples
    passes   outputs u (n, *shape) of each row's passes
    errors   (n,) squared errors of the samples to the reference solution's
    """

    taus: tuple[float, ...] = ()
    rows: tuple[Conditions, ...] = ()
    weights: tuple[Tensor, ...] = ()
    states: tuple[Tensor, ...] = ()
    passes: tuple[tuple[Tensor, ...], ...] = ()
    errors: Tensor = field(default_factory=lambda: torch.empty(0))

    @property
    def rmse(self) -> float:
        """Root mean squared error of the samples; infinite where one is not finite."""
        error = float(self.errors.mean().sqrt())
        return error if math.isfinite(error) else math.inf


@dataclass(frozen=True)
class RowFit:
    """The fit of rows to a trajectory from the noises of an objective, whose samples are its target.

    guidance  rule of each row whose whole output is weighed; the first, of all rows where a fit has another number of them, is
              the one that the trajectory was made under
    """

    objective: Objective
    trajectory: Trajectory
    guidance: tuple[Guidance | None, ...] = (None,)
    ridge: float = RIDGE

    def __call__(
        self, taus: Sequence[float], rows: Sequence[Conditions] | None = None, known: Fitted | None = None
    ) -> Fitted:
        """Rows at these levels, by default of whole outputs. Calls that an earlier fit has made at the same first levels are not
        made again.
        """
        taus = tuple(map(float, taus))
        rows = tuple(rows or [WHOLE] * len(taus))
        known = known or Fitted()
        same = _common(list(zip(taus, rows, strict=True)), list(zip(known.taus, known.rows, strict=True)))
        fixed = max(same - 1, 0)  # rows whose next level is the same, too
        every = len(taus)
        rules = {"whole": self._rules(every), "label": [None] * every, "empty": [ClassifierFree(0.0)] * every}
        schedule = self.objective.model.schedule
        called = {name: _blank(schedule, taus, rules[name]).rows for name in {each for row in rows for each in row}}
        of, blank = self.objective, _blank(schedule, taus, [None] * len(taus))
        start = begun(of.model, blank, of.noise, of.labels, torch.empty(0).clone)
        states, passes = [start, *known.states[1 : fixed + 1]], list(known.passes[:same])
        weights = list(known.weights[:fixed])
        for n in range(fixed, len(taus)):
            if n == len(passes):
                passes.append(tuple(self.objective.outputs(called[name][n], states[n]) for name in rows[n]))
            given = [states[n], *(u for made in passes[: n + 1] for u in made)]
            usual = self._first_order(_step(taus, n), len(given), rows[n])
            weights.append(self.weights(given, usual, self.target(taus, n)))
            states.append(weighted(weights[n], given))
        errors = squared_errors(states[-1], self.objective.target)
        return Fitted(taus, rows, tuple(weights), tuple(states), tuple(passes), errors)

    def first(self, noises: int) -> RowFit:
        """The fit on the first noises alone, all where there are fewer."""
        few = self.objective.first(noises)
        return replace(self, objective=few, trajectory=self.trajectory.subset(0, len(few)))

    def weights(self, given: Sequence[Tensor], usual: Tensor, target: Tensor) -> Tensor:
        """The weights (k,) of k tensors (n, *shape) in a row whose target has this shape, drawn towards the usual ones (k,)."""
        return least_squares(given, usual, target, self.ridge)

    def target(self, taus: Sequence[float], n: int) -> Tensor:
        """The reference solution's states (n, *shape) at the level after row n."""
        if n + 1 == len(taus):
            return self.objective.target
        return self.trajectory.at(taus[n + 1]).view_as(self.objective.target)

    def plan(self, fitted: Fitted) -> Plan:
        """The plan of these rows."""
        taus, rows, rules = fitted.taus, [], self._rules(len(fitted.taus))
        for n, (tau, weights) in enumerate(zip(taus, fitted.weights, strict=True)):
            step = _step(taus, n)
            states = {n: float(weights[0])}
            if all(row == WHOLE for row in fitted.rows):
                rows.append(Row(tau, dict(enumerate(weights[1:].tolist())), states, guidance=rules[n]))
            else:
                rule = pass_weights((weights[1:] / step).tolist(), fitted.rows[: n + 1])
                rows.append(Row(tau, {n: step}, states, guidance=rule))
        model = self.objective.model
        blank = _blank(model.schedule, taus, [None] * len(taus))
        return replace(blank, rows=tuple(rows), name="regression", model=model.signature)

    def _rules(self, rows: int) -> Sequence[Guidance | None]:
        """The rules of so many rows."""
        return self.guidance if len(self.guidance) == rows else [self.guidance[0]] * rows

    def _first_order(self, step: float, size: int, row: Conditions) -> Tensor:
        """Weights (size,) of the first-order step along the row's own output, guided where both passes are made."""
        weights = torch.zeros(size, dtype=torch.float64)
        weights[0] = 1.0
        rule = self.guidance[0]
        scale = rule.scale if row == BOTH and isinstance(rule, ClassifierFree) else 1.0
        weights[-len(row) :] = step * torch.tensor([scale, 1 - scale][: len(row)], dtype=torch.float64)
        return weights


def least_squares(given: Sequence[Tensor], usual: Tensor, target: Tensor, ridge: float | Tensor = RIDGE) -> Tensor:
    """Weights (k,), float64, of the sum of k tensors (n, *shape) that is nearest to a target of this shape.

    usual  (k,) weights that the ridge draws towards: ridge diag(G) is added to the regressors' squares G
    ridge  of all weights, or of each (k,)
    """
    inputs = torch.stack([x.flatten(1) for x in given], 2).double().cpu()  # (n, d, k)
    rest = target.flatten(1).double().cpu() - inputs @ usual
    gram, slope = inputs.mT @ inputs, (inputs.mT @ rest[:, :, None])[:, :, 0]  # of each sample (n, k, k) and (n, k)

    def change(counted: Tensor) -> Tensor:
        whole = gram[counted].sum(0)
        drawn = torch.diag(ridge * whole.diagonal() + torch.finfo(torch.float64).tiny)
        return torch.linalg.solve(whole + drawn, slope[counted].sum(0))

    first = change(torch.ones(len(gram), dtype=torch.bool))
    left = (rest - inputs @ first).square().mean(1)
    return usual + change(left <= FAR * left.median())


def _step(taus: Sequence[float], n: int) -> float:
    """The step in tau of row n."""
    return (taus[n + 1] if n + 1 < len(taus) else 0.0) - taus[n]


def _blank(schedule: Schedule, taus: Sequence[float], rules: Sequence[Guidance | None]) -> Plan:
    """A plan of rows at these levels that move nothing."""
    rows = tuple(Row(tau, {}, guidance=rule) for tau, rule in zip(taus, rules, strict=True))
    return Plan(plain_start(schedule, taus[0]), rows, model=marked(schedule))


def weighted(weights: Tensor, given: Sequence[Tensor]) -> Tensor:
    """The sum of the tensors by their weights, float32."""
    total = torch.zeros_like(given[0])
    for weight, x in zip(weights.tolist(), given, strict=True):
        total.add_(x, alpha=weight)
    return total


def _common(one: Sequence[object], other: Sequence[object]) -> int:
    """How many of their first members are the same."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
