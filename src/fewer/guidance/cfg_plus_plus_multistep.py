"""CFG++ for multistep solvers: two rows a level, one without the label and one with it."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from torch import Tensor

from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.plan import Coefficient, Plan, Row, Shortcut
from fewer.registry import part
from fewer.settings import finite
from fewer.solvers.trace import Level, Output, Trace, size


@part(
    "cfg++-multistep",
    title="CFG++ on multistep rows: data prediction guided, noise and history unconditional",
    source="Chung et al. 2024, CFG++: Manifold-constrained Classifier Free Guidance (their DPM-Solver++ 2M), "
    "arXiv:2406.08070",
    papers=(392,),
)
def manifold_multistep(plan: Plan, strength: float) -> Plan:
    """The plan whose steps see their state as (1 - tau) G + tau eps(empty), G = D(empty) + strength d guided and
    d = D(label) - D(empty).

    A step that is exact on straight lines has one form in data predictions, x' = tau' / tau x + sum_j c_j D_j. CFG++ puts
    G in the place of D_n, also within x, and keeps earlier rows unconditional:

        x' = tau' / tau (x + (1 - tau) strength d) + sum_{j < n} c_j D_j(empty) + c_n G

    For DDIM, c_n = (tau - tau') / tau, this is `cfg++`, and for DPM-Solver++ 2M the paper's sampler. Both predictions of a
    level are needed apart, by its own step and by later ones, so each is a row: the first makes the pass with the empty
    label and leaves the state, the second that with the label and the step. They cost what one row of two passes costs.
    `strength` in [0, 1], the paper's lambda.

    Raises InputError for plans that are not multistep: rows that add noise, name earlier states, have an offset, do not
    fall in level, or whose weights do not sum to the step.
    """
    finite("guidance strength", strength, 0, 1)
    trace = Trace()
    x, empties = trace.start, list[Output]()
    for n, ((tau, then), weights) in enumerate(zip(pairwise(map(float, plan.levels)), _in_data(plan), strict=True)):
        empty, label = (trace.call(x, Level(tau)) for _ in range(2))
        empties.append(empty)
        more = strength * (label.data - empty.data)
        x = then / tau * (x + (1 - tau) * more) + weights[n] * more
        for j, weight in weights.items():
            x = x + weight * empties[j].data
    # the trace gives the coefficients; times, blocks and networks are those of the plan's own rows
    steps = trace.plan(x, plan.name).rows
    rows = [
        replace(row, b=steps[2 * n + which].b, blocks=_shortcuts(row, which), guidance=ClassifierFree(float(which)))
        for n, row in enumerate(plan.rows)
        for which in range(2)
    ]
    return replace(plan, rows=tuple(rows))


def _in_data(plan: Plan) -> list[dict[int, Coefficient]]:
    """The weights c_j of each row in the form x' = tau' / tau x + sum_j c_j D_j, without those that are rounding errors.

    With x_n = x_0 + sum_i B_ni u_i and D_j = x_j - tau_j u_j, the weight on u_i says, from the last i down,
    B_{n+1,i} - tau' / tau B_ni = sum_{j > i} c_j B_ji - c_i tau_i.
    """
    unrolled: list[dict[int, Coefficient]] = [{}]
    rows: list[dict[int, Coefficient]] = []
    levels = [float(tau) for tau in plan.levels]
    for n, (row, (tau, then)) in enumerate(zip(plan.rows, pairwise(levels), strict=True)):
        plain = row.a is None and not any(isinstance(c, Tensor) or c != 0 for c in (row.noise, row.offset))
        total = sum(row.b.values())
        if not plain or then >= tau or size(total - (then - tau)) > 1e-6:
            raise InputError(f"cfg++-multistep needs rows of a multistep solver; row {n} of plan {plan.name!r} is not")
        before = unrolled[-1]
        after = {i: before.get(i, 0.0) + row.b.get(i, 0.0) for i in range(n + 1)}
        weights: dict[int, Coefficient] = {}
        for i in range(n, -1, -1):
            known = sum(weights[j] * unrolled[j].get(i, 0.0) for j in weights)
            weights[i] = (known - after[i] + then / tau * before.get(i, 0.0)) / levels[i]
        unrolled.append(after)
        rows.append({j: weight for j, weight in weights.items() if j == n or size(weight) > 1e-10})
    return rows


def _shortcuts(row: Row, which: int) -> dict[str, Shortcut]:
    """The row's shortcuts, from earlier rows of the same pass: 0 without the label, 1 with it."""
    return {
        name: replace(cell, weights={2 * j + which: weight for j, weight in cell.weights.items()})
        for name, cell in row.blocks.items()
    }
