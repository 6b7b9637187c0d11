"""The space of plans whose rows weigh each pass by itself: levels, the state's weights, and weights on all passes so far.

    log s_n = log s_{n-1} - exp(theta_n)
    x_{n+1} = (1 + g_n) x_n + (tau_{n+1} - tau_n) sum_i w_ni u_i          u_i the passes of rows 0 .. n

Which rows make which passes is fixed. Weights by the step in tau move with the levels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.guidance.linear_ag import LinearAG
from fewer.guidance.pass_weights import Conditions, PassWeights, pass_weights
from fewer.models.ending import plain_start
from fewer.plan import Plan, Row
from fewer.search.space import Space, Vector

Combination = dict[tuple[int, str], float]  # weights of passes (row, condition)


def passes_of(plan: Plan) -> tuple[Conditions, ...]:
    """The passes of each row."""
    return tuple(row.conditions for row in plan.rows)


def weights_on_passes(plan: Plan) -> list[list[float]]:
    """Of each row, the weights of its step on all passes so far, in turn.

    Raises InputError for rows that are guided by what is no combination of passes.
    """
    rows: list[list[float]] = []
    made: list[tuple[int, str]] = []
    shares: list[Combination] = []
    stand_ins: dict[int, Combination] = {}
    for n, row in enumerate(plan.rows):
        made += [(n, condition) for condition in row.conditions]
        shares.append(_shares(row, n, stand_ins))
        whole = _sum((float(b), shares[j]) for j, b in row.b.items())
        rows.append([whole.get(each, 0.0) for each in made])
    return rows


def _shares(row: Row, n: int, stand_ins: dict[int, Combination]) -> Combination:
    """The output of row n as a combination of passes (row, condition).

    stand_ins  likewise what stands for the empty pass of earlier rows without one; that of this row is added
    """
    rule, label = row.guidance, {(n, "label"): 1.0}
    if rule is None:
        return label
    if isinstance(rule, PassWeights):
        both = (("label", rule.label), ("empty", rule.empty))
        return {(n - k, name): w for name, weights in both for k, w in enumerate(weights) if w != 0}
    if isinstance(rule, ClassifierFree):
        scale, empty = float(rule.scale), {(n, "empty"): 1.0}
    elif isinstance(rule, LinearAG):
        terms = [(w, {(n - k, "label"): 1.0}) for k, w in enumerate(rule.label)]
        terms += [(w, stand_ins.get(n - k, {(n - k, "empty"): 1.0})) for k, w in enumerate(rule.empty, 1)]
        scale, empty = float(rule.scale), _sum(terms)
        stand_ins[n] = empty
    else:
        raise InputError(f"row {n} is guided by {rule.rule}; expected classifier-free guidance, or weights on passes")
    return _sum([(scale, label), (1 - scale, empty)])


def _sum(terms: Iterable[tuple[float, Combination]]) -> Combination:
    """The sum of weighted combinations."""
    total: Combination = {}
    for weight, combination in terms:
        for each, share in combination.items():
            total[each] = total.get(each, 0.0) + weight * share
    return total


@dataclass(frozen=True)
class PassSpace(Space):
    """The plans with the passes of the base's rows."""

    @property
    def names(self) -> list[str]:
        """One name a number."""
        rows, so_far = passes_of(self.base), 0
        names = [] if "steps" in self.keep else ["start", *(f"level {n}" for n in range(1, self.calls))]
        for n, row in enumerate(rows):
            so_far += len(row)
            names += [f"state {n}", *(f"weight {n} {i}" for i in range(so_far))]
        return names

    def around(self, plan: Plan) -> Space:
        """The same space: there is no anchor."""
        return self

    def vector(self, plan: Plan) -> Vector:
        """The vector of a plan of the base's passes."""
        levels = [float(level) for level in plan.levels]
        numbers = [] if "steps" in self.keep else self.increments(levels[:-1])
        for row, step, weights in zip(plan.rows, np.diff(levels).tolist(), weights_on_passes(plan), strict=True):
            state = 1.0 if row.a is None else float(next(iter(row.a.values())))
            numbers += [state - 1, *(w / step for w in weights)]
        return np.array(numbers)

    def plan(self, theta: Vector, name: str = "tuned") -> Plan:
        """The plan of a vector. Raises InputError where a number is not finite."""
        if not np.isfinite(theta).all():
            raise InputError("the search left the finite numbers")
        numbers = theta.tolist()
        levels = [level.tau for level in self.base_levels]
        if "steps" not in self.keep:
            levels, numbers = [level.tau for level in self.levels(numbers[: self.calls])], numbers[self.calls :]
        rows: list[Row] = []
        passes = passes_of(self.base)
        for n, (tau, below) in enumerate(zip(levels, [*levels[1:], 0.0], strict=True)):
            size = sum(map(len, passes[: n + 1]))
            (state, *weights), numbers = numbers[: 1 + size], numbers[1 + size :]
            rows.append(Row(tau, {n: below - tau}, {n: 1 + state}, guidance=pass_weights(weights, passes[: n + 1])))
        start = plain_start(self.model.schedule, levels[0])
        return replace(self.base, start=start, rows=tuple(rows), name=name, model=self.model.signature)
