"""Play a plan: the only loop over its rows.

The state, the history of outputs and all additions are float32, whatever dtype the network runs in; coefficients are
computed in float64. The same loop runs under torch.inference_mode, under autograd and under forward-mode
differentiation, with respect to the state or to coefficients that are tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fewer.blocks.playing import Branches, Call, Played, playing
from fewer.engine.bind import Step, bind
from fewer.errors import InputError
from fewer.guidance.passes import Passes, Past
from fewer.models.ending import counted
from fewer.models.model import Model
from fewer.plan import Coefficient, Plan, Row

Callback = Callable[[Row, Tensor, Tensor], Any]


@dataclass(frozen=True)
class Draws:
    """Unit noise that a run adds beside its starting noise.

    row       row(k) is the noise (n, *shape) that is added after row k, of plans with noise
    guidance  guidance(k, size) is noise (n, *size) of row k's guidance, of rules that draw
    """

    row: Callable[[int], Tensor] | None = None
    guidance: Callable[[int, Sequence[int]], Tensor] | None = None


@dataclass
class History:
    """States x_n and outputs u_n of a run, to keep them all or to continue from a row.

    branches  of the network's blocks that later rows name, and in every row of the blocks in `watch`
    past      passes of guided rows; None for no memory, which the engine replaces where a rule remembers them
    first     the row that a run goes on from: the outputs before it must be here, and where its own is, that call is not
              made again; likewise the branches of blocks that later rows name
    """

    states: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)
    branches: Branches = field(default_factory=dict)
    watch: tuple[str, ...] = ()
    past: dict[int, Past] | None = None
    first: int = 0


NONE = Draws()


def add(total: Tensor | None, coefficient: Coefficient, value: Tensor, *, over: bool = False) -> Tensor:
    """Total + coefficient value; with `over` it is written over `total` where the coefficient is a float."""
    if isinstance(coefficient, Tensor):
        term = coefficient.to(device=value.device, dtype=value.dtype) * value
        return term if total is None else total + term
    if total is None:
        return value if coefficient == 1.0 else torch.mul(value, coefficient)
    return total.add_(value, alpha=coefficient) if over else torch.add(total, value, alpha=coefficient)


def _sum(terms: Sequence[tuple[Coefficient, Tensor]]) -> Tensor:
    """The sum of coefficient times value from left to right, of at least one term.

    Where no derivative is kept all terms go into the one tensor that the first product or sum makes; the values
    themselves are never written to.
    """
    reuse = torch.is_inference_mode_enabled()
    coefficient, value = terms[0]
    total = add(None, coefficient, value)
    own = total is not value
    for coefficient, value in terms[1:]:
        total = add(total, coefficient, value, over=own and reuse)
        own = True
    return total


def output(
    step: Step,
    x: Tensor,
    labels: Tensor | None,
    call: Call | None = None,
    number: int = 0,
    past: dict[int, Past] | None = None,
    draws: Draws = NONE,
) -> Tensor:
    """Output u = p x + q F of a row's network, guided, of the clipped data prediction where the model clips.

    call    stands in for the model's own network call
    number  the row's; its guidance rule reads and adds to the passes in `past`, and draws noise
    """
    model, row = step.model, step.row
    call = model if call is None else call
    x_in = add(None, step.c_in, x)

    def frame(f: Tensor) -> Tensor:
        return _sum(((step.p, x), (step.q, f)))

    if row.guidance is None:
        u = frame(call(x_in, step.t, labels))
    else:
        if "empty" in row.conditions and (labels is None or model.empty_label is None):
            raise InputError(f"guidance needs a model with labels and an empty label; {model.name} has none")
        tau = step.tau.to(x) if isinstance(step.tau, Tensor) else step.tau
        fresh = None if draws.guidance is None else partial(draws.guidance, number)
        u = row.guidance.output(
            Passes(call, x, tau, x_in, step.t, labels, model.empty_label, frame, number, past, model, fresh)
        )
    return model.clipped(x, step.tau, u)


def play(
    model: Model,
    plan: Plan | list[Step],
    x: Tensor,
    labels: Tensor | None = None,
    *,
    draws: Draws = NONE,
    callback: Callback | None = None,
    history: History | None = None,
) -> Tensor:
    """Run the rows and return the state after the last (the data, for a plan that ends at level 0).

    x        (n, *shape) float32 state before the first row, in the flow frame
    draws    needed by plans with noise and by guidance rules that draw
    callback called after each network call with the row, the state before it and its data prediction
    history  keeps every state and output; the run goes on from its row `history.first`, before which x is the state
    """
    steps = bind(model, plan) if isinstance(plan, Plan) else plan
    keep = history is not None
    history = history or History()
    states, outputs = history.states, history.outputs
    kept, watch = (history.branches, history.watch) if keep else (None, ())
    past = history.past
    if past is None and any(step.row.guidance is not None and step.row.guidance.remembers for step in steps):
        past = history.past = {}
    with _playing(model, steps, kept, watch) as networks:
        for n in range(history.first, len(steps)):
            step = steps[n]
            row = step.row
            states[n] = x
            if not (n == history.first and n in outputs):
                played = networks[row.network]
                outputs[n] = output(step, x, labels, played and played.at(n, len(x)), n, past, draws)
            if callback is not None:
                callback(row, x, add(x, -step.tau if isinstance(step.tau, Tensor) else -float(step.tau), outputs[n]))
            x = advance(n, step, states, outputs, draws.row)
            if not keep:
                step.forget(states, outputs)
    return x


@contextmanager
def _playing(
    model: Model, steps: list[Step], branches: Branches | None, watch: tuple[str, ...]
) -> Iterator[dict[int, Played | None]]:
    """Each network that rows call, its blocks under the control of its own rows; `watch` is of the model's own."""
    rows = [step.row for step in steps]
    with ExitStack() as stack:
        networks: dict[int, Played | None] = {}
        for k in dict.fromkeys(row.network for row in rows):
            cells = [step.cells if step.row.network == k else {} for step in steps]
            one = playing(model.called(k), rows, cells, branches, watch if k == 0 else ())
            networks[k] = stack.enter_context(one)
        yield networks


def advance(
    n: int,
    step: Step,
    states: Mapping[int, Tensor],
    outputs: Mapping[int, Tensor],
    draw: Callable[[int], Tensor] | None = None,
) -> Tensor:
    """The state after row n, from the states and outputs up to it; `draw(n)` gives the fresh noise of rows that add it."""
    terms = [(a, states[j]) for j, a in step.a]
    terms += [(b, outputs[j]) for j, b in step.b]
    if step.noisy:
        if draw is None:
            raise InputError("this plan adds noise: give draws")
        terms.append((step.row.noise, draw(n)))
    if not terms:
        raise InputError(f"row {n} names no state and no output")
    x = _sum(terms)
    return _shift(x, step.row.offset) if step.shifted else x


def begin(plan: Plan, noise: Tensor, fresh: Callable[[], Tensor]) -> Tensor:
    """The starting state of a plan from unit noise; `fresh` draws more where the start adds noise."""
    start = plan.start
    x = add(None, start.scale, noise)
    if start.directions is not None and start.gains is not None:
        v = start.directions.to(device=noise.device, dtype=noise.dtype).flatten(1)
        along = noise.flatten(1) @ v.T * start.gains.to(device=noise.device, dtype=noise.dtype)
        x = x + (along @ v).view_as(noise)
    if isinstance(start.noise, Tensor) or start.noise != 0:
        x = add(x, start.noise, fresh())
    return _shift(x, start.offset)


def begun(model: Model, plan: Plan, noise: Tensor, labels: Tensor | None, fresh: Callable[[], Tensor]) -> Tensor:
    """The state that a plan of a model starts with: `begin`, with the data of models that begin with noised ones."""
    x = begin(plan, noise, fresh)
    if model.beginning is None:
        return x
    return model.beginning.mixed(x, float(counted(model.schedule, plan).start.tau), labels)


def _shift(x: Tensor, offset: Coefficient) -> Tensor:
    if isinstance(offset, Tensor):
        return x + offset.to(device=x.device, dtype=x.dtype)
    return x + offset if offset != 0 else x
