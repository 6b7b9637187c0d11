"""Bind a plan to a model: its rows with the numbers of the network that each of them calls."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fewer.blocks.actions import BlockActions, bound
from fewer.engine.times import times
from fewer.models.ending import counted
from fewer.models.model import Model
from fewer.plan import Coefficient, Plan, Row


@dataclass(frozen=True, slots=True)
class Step:
    """A row bound to the model that it calls.

    c_in, p, q   input scale and output map u = p x + q F of `model` at the row's level `tau`; `t` its network time, on its device
    a, b         terms (call, coefficient) of the step after the call; whether it is `noisy`, and `shifted` by an offset
    done_states, done_outputs   those that no later row needs
    cells        actions of the network's blocks in the row
    """

    row: Row
    model: Model
    c_in: Coefficient
    p: Coefficient
    q: Coefficient
    tau: Coefficient
    t: Tensor
    a: tuple[tuple[int, Coefficient], ...]
    b: tuple[tuple[int, Coefficient], ...]
    noisy: bool
    shifted: bool
    done_states: tuple[int, ...]
    done_outputs: tuple[int, ...]
    cells: BlockActions

    def forget(self, states: dict[int, Tensor], outputs: dict[int, Tensor]) -> None:
        """Drop the states and outputs, by their calls, that no later row needs."""
        for j in self.done_states:
            del states[j]
        for j in self.done_outputs:
            del outputs[j]


def bind(model: Model, plan: Plan) -> list[Step]:
    """The plan's rows with the numbers that their networks' prediction types and schedules give them.

    Raises InputError as `fewer.engine.times.times` and `fewer.blocks.actions.bound` do, and for a plan that ends elsewhere than
    the model.
    """
    plan = counted(model.schedule, plan)
    last_state: dict[int, int] = {}
    last_output: dict[int, int] = {}
    for n, row in enumerate(plan.rows):
        last_state.update(dict.fromkeys({n, *(row.a or {})}, n))
        last_output.update(dict.fromkeys({n, *row.b}, n))
    called = {k: model.called(k) for k in plan.networks}
    affine = {k: _affine(called[k], [row for row in plan.rows if row.network == k]) for k in called}
    cells = {k: bound(called[k], _alone(plan.rows, k)) for k in called}
    steps = []
    for n, (row, t) in enumerate(zip(plan.rows, _on_device(times(model, plan), model.device), strict=True)):
        c_in, p, q = next(affine[row.network])
        a = ((n, 1.0),) if row.a is None else tuple(row.a.items())
        noisy, shifted = (isinstance(c, Tensor) or c != 0 for c in (row.noise, row.offset))
        done_states = tuple(j for j, last in last_state.items() if last == n)
        done_outputs = tuple(j for j, last in last_output.items() if last == n)
        b = tuple(row.b.items())
        steps.append(
            Step(
                row, called[row.network], c_in, p, q, row.tau, t, a, b, noisy, shifted, done_states, done_outputs,
                cells[row.network][n],
            )
        )  # fmt: skip
    return steps


def _alone(rows: Sequence[Row], network: int) -> list[Row]:
    """All rows, with the blocks of those alone that call the network."""
    return [row if row.network == network else replace(row, blocks={}) for row in rows]


def _affine(model: Model, rows: Sequence[Row]) -> Iterator[tuple[Coefficient, Coefficient, Coefficient]]:
    """(c_in, p, q) of every row: floats, computed for all levels at once, or tensors where the level is one."""
    taus = torch.tensor([row.tau for row in rows if not isinstance(row.tau, Tensor)], dtype=torch.float64)
    c_in, p, q = (number.expand_as(taus).tolist() for number in model.affine(taus)) if len(taus) else ([], [], [])
    at = 0
    for row in rows:
        if isinstance(row.tau, Tensor):
            yield model.affine(row.tau)
        else:
            yield c_in[at], p[at], q[at]
            at += 1


def _on_device(times: Sequence[Coefficient], device: torch.device) -> list[Tensor]:
    """Times as tensors; floats go to the device all at once, so that no call waits for a copy."""
    floats = [0.0 if isinstance(t, Tensor) else float(t) for t in times]
    on_device = torch.tensor(floats, dtype=torch.float64).to(device).unbind()
    return [t if isinstance(t, Tensor) else copy for t, copy in zip(times, on_device, strict=True)]
