"""A share of fresh noise in the rows of a deterministic plan: each goes down below its next level, and by noise up to it.

Of the variance that noise has at a row's next level tau', a share g in [0, 1] is drawn anew. In the flow frame the row goes
down to the level l < tau' with s_l = sqrt(1 - g) s', and up again by

    x' = c x_l + sqrt(g) tau' z,     c = (1 - tau') / (1 - l) = 1 - tau' + sqrt(1 - g) tau',     l = sqrt(1 - g) tau' / c

which of data D is (1 - tau') D + tau' (sqrt(1 - g) e + sqrt(g) z), e the noise before: its deviation is tau' whatever the share.
The step down is the row's own, longer by (l - tau) / (tau' - tau), which keeps it exact on straight lines.

Outputs of earlier calls hold the noise e of their time. Before a later row weighs them they are carried across the noise that
was added since: their data predictions stay, and their noise predictions become sqrt(1 - g) eps + sqrt(g) z, with z read off the
states,

    sqrt(g) z = (x' - c x_l) / tau'          u_j -> sqrt(1 - g) eps_j + sqrt(g) z - D_j,   eps_j = x_j + (1 - tau_j) u_j

so that a multistep row names earlier states, and no more is drawn than the noise of its own row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from fewer.errors import InputError
from fewer.plan import Coefficient, Plan, Row
from fewer.solvers.trace import Vector, size

ROUNDING = 1e-9  # by which a share may be above 1


def with_noise(plan: Plan, share: float | Sequence[float]) -> Plan:
    """The plan with fresh noise in its rows.

    plan   deterministic, of any number of steps back
    share  of the variance that noise has at each row's next level, in [0, 1]: 0 is the row as it is, to the bit, 1 forgets all
           noise before; one number for all rows, or one a row. The row that ends at level 0 has no noise to share

    Raises InputError for a plan that adds noise already, for another number of shares, for shares outside [0, 1], and for one
    above 0 in a row whose level does not fall.

    One such number a step is the idea of AdaSDE (Wang et al. 2025, arXiv:2510.23285), which raises the level by noise before each
    single step and learns by how much; here it is an addition to any table of weights.
    """
    if not isinstance(plan, Plan):
        raise InputError(f"plan is a {type(plan).__name__}; expected a fewer.Plan")
    if plan.stochastic:
        raise InputError(f"plan {plan.name!r} adds noise already; a share of noise is for deterministic plans")
    shares = _shares(plan, share)
    if not any(shares):
        return plan
    return replace(plan, rows=_rows(plan, shares), recipe=replace(plan.recipe, solver=None), evidence={})


def noisy_rows(plan: Plan) -> int:
    """How many rows a share of noise can go to: all, but for the last where it ends at level 0."""
    return len(plan.rows) - (float(plan.end) == 0)


def shares_of(plan: Plan) -> list[float] | None:
    """Of the variance that noise has at each row's next level, the share that the row draws, 0 where that is the data.

    None where a row draws none of its own level: where numbers are tensors, or more noise is added than its next level has.
    """
    drawn = [(row.noise, there) for row, there in zip(plan.rows, plan.levels[1:], strict=True)]
    numbers = [(noise, there) for noise, there in drawn if not (isinstance(noise, Tensor) or isinstance(there, Tensor))]
    shares = [(noise / there) ** 2 if there else 0.0 for noise, there in numbers]
    return shares if len(shares) == len(drawn) and all(share <= 1 + ROUNDING for share in shares) else None


def _shares(plan: Plan, share: Any) -> list[float]:
    """One share a row, the last 0 where it ends in the data."""
    n, rows = noisy_rows(plan), len(plan.rows)
    try:
        given = np.asarray(share, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"noise share is {share!r:.80}; expected numbers in [0, 1]") from None
    shares = [float(given)] * n if given.ndim == 0 else given.ravel().tolist()
    if len(shares) not in (n, rows):
        raise InputError(f"noise share has {len(shares)} numbers; plan {plan.name!r} takes {n}, or one for all rows")
    levels = [float(level) for level in plan.levels]
    for k, g in enumerate(shares):
        if not 0 <= g <= 1:
            raise InputError(f"noise share of row {k} is {g:g}; expected a number in [0, 1]")
        if given.ndim and g and levels[k + 1] == 0:
            raise InputError(f"noise share of row {k} is {g:g}; it ends at level 0, which has no noise")
        if g and levels[k + 1] >= levels[k]:
            raise InputError(f"noise share of row {k} is {g:g}; its level does not fall, so that it can take none")
    return shares + [0.0] * (rows - len(shares))


def _rows(plan: Plan, shares: Sequence[float]) -> tuple[Row, ...]:
    """The rows with their noise, and what they weigh carried across that of the rows before."""
    levels = [float(level) for level in plan.levels]
    named = {
        j: n for n, row in enumerate(plan.rows) for j in (*(row.a or {}), *row.b)
    }  # the last row that weighs call j
    carried: list[Vector] = []  # what noise that was added since has changed the noise prediction of each call by
    rows: list[Row] = []
    for n, (row, share) in enumerate(zip(plan.rows, shares, strict=True)):
        if not (share or any(change.weights for change in carried)):
            rows.append(row)
            carried.append(Vector({}))
            continue
        here, there, kept = levels[n], levels[n + 1], math.sqrt(1 - share)
        carried.append(Vector({}))
        scale = 1 - there + kept * there
        below = kept * there / scale if share else there
        down = _step(n, row, levels, carried, (below - here) / (there - here) if share else 1.0)
        rows.append(_row(n, row, scale * down if share else down, math.sqrt(share) * there))
        if share:
            fresh = (_state(n + 1) - scale * down) / there
            carried = [
                _across(_noise(j, levels[j]), change, kept, fresh) if named.get(j, n) > n else Vector({})
                for j, change in enumerate(carried)
            ]
    return tuple(rows)


def _step(n: int, row: Row, levels: Sequence[float], carried: Sequence[Vector], length: float) -> Vector:
    """The state after row n, whose step is longer by `length`, of earlier states and outputs with the noise of its own state."""
    after = Vector({("1", 0): row.offset})
    for j, a in (row.a or {n: 1.0}).items():
        after = after + a * (_state(j) + levels[j] * carried[j])
    for j, b in row.b.items():
        after = after + b * (Vector({("u", j): 1.0}) + carried[j])
    return after if length == 1 else _state(n) + length * (after - _state(n))


def _across(noise: Vector, change: Vector, kept: float, fresh: Vector) -> Vector:
    """The change of a noise prediction after a share of it was drawn anew: kept (eps + change) + fresh - eps."""
    return kept * (noise + change) + fresh - noise


def _state(n: int) -> Vector:
    return Vector({("x", n): 1.0})


def _noise(n: int, tau: float) -> Vector:
    """The noise prediction x + (1 - tau) u of call n."""
    return Vector({("x", n): 1.0, ("u", n): 1 - tau})


def _row(n: int, row: Row, after: Vector, noise: Coefficient) -> Row:
    """The row with the weights of the state after it."""
    a, b = (_weighty(after.part(kind), n) for kind in ("x", "u"))
    return replace(row, a=None if a == {n: 1.0} else a, b=b, noise=noise, offset=after.weights[("1", 0)])


def _weighty(weights: dict[int, Coefficient], n: int) -> dict[int, Coefficient]:
    """The weights that are not 0, that of row n in any case, by the rows' numbers."""
    return {j: weight for j, weight in sorted(weights.items()) if j == n or size(weight) > 0}
