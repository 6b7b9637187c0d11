"""The engine plays a plan: the only loop that does.

The state, the history of outputs and all additions are float32, whatever dtype the network runs in; coefficients are
computed in float64. The same loop runs under torch.inference_mode, under autograd and under forward-mode
differentiation, with respect to the state or to coefficients that are tensors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from fewer.binding import Step as Step
from fewer.binding import bind as bind
from fewer.errors import InputError, NotFinite
from fewer.guidance.passes import Passes, Past
from fewer.memory import check_room, halving
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Coefficient, Plan, Row, Start
from fewer.shortcuts.find import is_module, network_of
from fewer.shortcuts.playing import Branches, Call, Played, playing

Callback = Callable[[Row, Tensor, Tensor], Any]
Own = Callable[[int, Sequence[int]], Tensor]
MICRO_BATCH = 64


@dataclass
class History:
    """States x_n and outputs u_n of a run. Give one to `play` to keep them all, or to go on from a row.

    `branches` are those of the network's blocks that later rows name, and in every row of the blocks in `watch`;
    `past` takes the passes of guided rows where it is not None, which the engine sees to where a rule remembers them.
    """

    states: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)
    branches: Branches = field(default_factory=dict)
    watch: tuple[str, ...] = ()
    past: dict[int, Past] | None = None


def _add(total: Tensor | None, coefficient: Coefficient, value: Tensor, *, over: bool = False) -> Tensor:
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
    total = _add(None, coefficient, value)
    own = total is not value
    for coefficient, value in terms[1:]:
        total = _add(total, coefficient, value, over=own and reuse)
        own = True
    return total


def output(
    model: Model,
    step: Step,
    x: Tensor,
    labels: Tensor | None,
    call: Call | None = None,
    number: int = 0,
    past: dict[int, Past] | None = None,
    own: Own | None = None,
) -> Tensor:
    """u = p x + q F, from the clipped data prediction where the model clips; `call` stands in for the model's own.

    `number` is the row's, `past` has and takes the passes of guided rows, for rules that remember them, and `own` gives
    noise to rules that draw it, as for `play`.
    """
    row = step.row
    call = model if call is None else call
    x_in = _add(None, step.c_in, x)

    def frame(f: Tensor) -> Tensor:
        return _sum(((step.p, x), (step.q, f)))

    if row.guidance is None:
        u = frame(call(x_in, step.t, labels))
    else:
        if "empty" in row.conditions and (labels is None or model.empty_label is None):
            raise InputError(f"guidance needs a model with labels and an empty label; {model.name} has none")
        tau = step.tau.to(x) if isinstance(step.tau, Tensor) else step.tau
        weaker = None if model.weaker is None else partial(_at_level, model.weaker, step.tau, x, labels)
        known = {} if past is None else past
        module = network_of(model) if is_module(model) else None
        fresh = None if own is None else partial(own, number)
        passes = Passes(
            call, x, tau, x_in, step.t, labels, model.empty_label, frame, number, known, past, weaker, module, fresh,
            model.classifier, model.classes,
        )  # fmt: skip
        u = row.guidance.output(passes)
    if model.clip is None:
        return u
    data = _add(x, -step.tau, u)
    clipped = model.clip(data)
    # dividing by tau where it is large, correcting u where it is small: no cancellation at either end
    if step.tau > 0.5:
        return (x - clipped) / step.tau
    return u + (data - clipped) / step.tau


def _at_level(model: Model, tau: Coefficient, x: Tensor, labels: Tensor | None) -> Tensor:
    """Output u of a model at a level, told its own schedule's time there."""
    t = torch.as_tensor(model.schedule.time(tau))
    (step,) = bind(model, Plan(Start(tau, tau), (Row(t, tau, {}),)))
    return output(model, step, x, labels)


def play(
    model: Model,
    plan: Plan | list[Step],
    x: Tensor,
    labels: Tensor | None = None,
    *,
    draw: Callable[[int], Tensor] | None = None,
    own: Own | None = None,
    callback: Callback | None = None,
    history: History | None = None,
    first: int = 0,
) -> Tensor:
    """Run rows from `first` on and return the state after the last (the data, for a plan that ends at level 0).

    x        (n, *shape) float32 state before row `first`, in the flow frame
    draw     draw(k) gives the fresh unit noise after row k; needed by plans with noise
    own      own(k, size) gives the fresh unit noise (n, *size) of row k's guidance; needed by rules that draw
    callback called after each network call with the row, the state before it and its data prediction
    history  keeps every state and output; when `first` > 0 it must hold the outputs before `first`, and where it
             already holds the output of row `first` that call is not repeated; likewise the branches of blocks
             that rows from `first` on name
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
        for n in range(first, len(steps)):
            step = steps[n]
            row = step.row
            states[n] = x
            if not (n == first and n in outputs):
                played = networks[row.network]
                outputs[n] = output(step.model, step, x, labels, played and played.at(n, len(x)), n, past, own)
            if callback is not None:
                callback(row, x, _add(x, -step.tau if isinstance(step.tau, Tensor) else -float(step.tau), outputs[n]))
            x = advance(n, step, states, outputs, draw)
            if not keep:
                for j in step.done_states:
                    del states[j]
                for j in step.done_outputs:
                    del outputs[j]
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
            raise InputError("this plan adds noise: give draw")
        terms.append((step.row.noise, draw(n)))
    if not terms:
        raise InputError(f"row {n} names no state and no output")
    x = _sum(terms)
    return _shift(x, step.row.offset) if step.shifted else x


def begin(plan: Plan, noise: Tensor, fresh: Callable[[], Tensor]) -> Tensor:
    """The starting state of a plan from unit noise; `fresh` draws more where the start adds noise."""
    start = plan.start
    x = _add(None, start.scale, noise)
    if start.directions is not None and start.gains is not None:
        v = start.directions.to(device=noise.device, dtype=noise.dtype).flatten(1)
        along = noise.flatten(1) @ v.T * start.gains.to(device=noise.device, dtype=noise.dtype)
        x = x + (along @ v).view_as(noise)
    if isinstance(start.noise, Tensor) or start.noise != 0:
        x = _add(x, start.noise, fresh())
    return _shift(x, start.offset)


def _shift(x: Tensor, offset: Coefficient) -> Tensor:
    if isinstance(offset, Tensor):
        return x + offset.to(device=x.device, dtype=x.dtype)
    return x + offset if offset != 0 else x


def sample(
    model: Model,
    plan: Plan,
    n: int | None = None,
    *,
    seed: int = 0,
    noise: Tensor | None = None,
    labels: Any = None,
    batch: int | None = None,
    callback: Callback | None = None,
    init: Tensor | None = None,
    strength: float | None = None,
    progress: Callable[[int, int], Any] | None = None,
    first_sample: int = 0,
    others: Sequence[Model] | None = None,
) -> Tensor:
    """Samples (n, *shape) float32 in the model's data range, on the model's device.

    The same plan, seed, device, micro-batch and number of threads give the same bits in any process. Other micro-batches
    change the network's rounding: by at most 5e-4 of the samples' standard deviation on the bundled models in float32.

    n         how many (64, or as many as `noise` has)
    seed      sample i of a seed starts from the same bits in any batch
    noise     unit-variance starting noise (n, *shape) instead of the seed's
    labels    integers (n,) or one for all; None draws them evenly where the model has classes
    batch     samples per micro-batch (default 64); halved and tried again where the device's memory is too small
    callback  f(row, x, data_prediction) after each network call of each micro-batch
    init      data (n, *shape) to start from: mixed with noise at the level `strength` in (0, 1] of the way up
    strength  the level tau to start at with `init`: 1 keeps nothing of it
    progress  progress(done samples, all samples) after each micro-batch
    first_sample  number of the first sample in the seed's noise
    others    further models, which rows of the plan call in the model's place: those of network 1, 2, ..

    Raises InputError for shapes, labels and plans that do not fit the model, and where the model returns NaN.
    """
    if n is None:
        n = len(noise) if noise is not None else len(init) if init is not None else 64
    if n < 1:
        raise InputError(f"n is {n}; expected at least 1")
    check_room(n, math.prod(model.shape), model.device)
    if others is not None:
        model = replace(model, others=tuple(others))
    plan.check(tuple(model.shape))
    for name, given in (("noise", noise), ("init", init)):
        if given is not None and tuple(given.shape) != (n, *model.shape):
            raise InputError(f"{name} has shape {tuple(given.shape)}; {model.name} needs {(n, *model.shape)}")
    if (init is None) != (strength is None):
        raise InputError("init and strength go together")
    if strength is not None:
        if not 0 < strength <= 1:
            raise InputError(f"strength is {strength}; expected a number in (0, 1]")
        plan = plan.from_level(strength)
    size = MICRO_BATCH if batch is None else batch
    if size < 1:
        raise InputError(f"batch is {batch}; expected at least 1")
    all_labels = model.labels(n, labels)
    steps = bind(model, plan)
    done: list[Tensor] = []

    def work(part: range) -> Tensor:
        return _micro_batch(model, plan, steps, part, seed, noise, all_labels, callback, init, first_sample)

    with torch.inference_mode():
        for part, made in halving(n, size, work):
            done.append(made)
            if progress is not None:
                progress(part.stop, n)
    return torch.cat(done)


def _micro_batch(
    model: Model,
    plan: Plan,
    steps: list[Step],
    part: range,
    seed: int,
    noise: Tensor | None,
    labels: Tensor | None,
    callback: Callback | None,
    init: Tensor | None,
    first_sample: int,
) -> Tensor:
    numbers = range(first_sample + part.start, first_sample + part.stop)
    here = slice(part.start, part.stop)

    def fresh(draw: int) -> Tensor:
        return unit_noise(seed, numbers, model.shape, draw, model.device)

    def own(row: int, size: Sequence[int]) -> Tensor:
        return unit_noise(seed, numbers, size, -1 - row, model.device)  # other bits than those of the states' noise

    z = fresh(0) if noise is None else noise[here].to(device=model.device, dtype=torch.float32)
    x = begin(plan, z, lambda: fresh(1))
    if init is not None:
        data = init[here].to(device=model.device, dtype=torch.float32)
        x = _add(x, 1 - float(plan.start.tau), data)
    told = None if labels is None else labels[here]
    out = play(model, steps, x, told, draw=lambda k: fresh(k + 2), own=own, callback=callback)
    # a finite sum has finite terms; only a sum that is not has to be looked at closer, since it may have overflowed
    if not math.isfinite(out.sum()) and not bool(out.isfinite().all()):
        again = History()  # which says in which row it began
        play(model, steps, x, told, draw=lambda k: fresh(k + 2), own=own, history=again)
        bad = [n for n, u in again.outputs.items() if not bool(u.isfinite().all())]
        where = f", first in row {bad[0]} (t = {float(steps[bad[0]].row.t):.6g})" if bad else ""
        raise NotFinite(f"{model.name} returned values that are not finite under plan {plan.name!r}{where}")
    return out


def check_fit(model: Model, plan: Plan) -> str | None:
    """A sentence to tell once when the plan was made for another model; None when it fits."""
    made_for: Mapping[str, str] = plan.model or {}
    for entry, one in zip((made_for, *plan.others), (model, *model.others), strict=False):
        if entry and entry.get("hash") != one.hash:
            return f"plan {plan.name!r} was made for {entry.get('name', 'another model')}, not for {one.name}"
    return None
