"""Samples of the posterior of a measurement, in micro-batches, the same bits in any process."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewer.arguments import as_count, as_model, as_plan, as_tensor
from fewer.engine import MICRO_BATCH, begun
from fewer.errors import InputError, NotFinite
from fewer.memory import check_room, halving
from fewer.models.edge import in_own_precision
from fewer.models.model import Model
from fewer.noise import Draw, DrawNumber, Stream, unit_noise
from fewer.plan import Plan
from fewer.registry import guarded, name_of
from fewer.tasks.inverse import PosteriorSampler
from fewer.tasks.inverse.given_operators import Function, as_operator
from fewer.tasks.inverse.named import USUAL, sampler_of
from fewer.tasks.inverse.operators import Divided, Linear, Operator
from fewer.tasks.inverse.problem import Likelihood, Problem

CALLS = 100  # of the usual plan
QUIETEST, LOUDEST = 1e-18, 1e18  # noise, whose square float32 holds


@dataclass(frozen=True, eq=False)
class Solved:
    """Samples of posteriors.

    samples  (n, *shape) of one measurement, (B, n, *shape) of B of them, in the model's data range
    axis     the axis of the samples of a measurement: 0, or 1 of B measurements
    method   its name
    plan     that was played
    misfit   mean of |y - A(x)|^2 / noise^2 over measured values and samples: of draws of the true posterior it is 1 on average
             over measurements, below 1 where samples fit the noise, above 1 where they leave the measurement; inf without noise
    """

    samples: Tensor
    axis: int
    method: str
    plan: Plan
    misfit: float

    @property
    def nfe(self) -> int:
        """Network evaluations a sample; derivatives through the network are not counted."""
        return self.plan.nfe

    @cached_property
    def mean(self) -> Tensor:
        """Of the samples of each measurement, (*shape) or (B, *shape): the estimate of least squared error."""
        return self.samples.mean(self.axis)

    @cached_property
    def spread(self) -> Tensor:
        """Standard deviation of each value over the samples of a measurement, (*shape) or (B, *shape), in the data's unit.

        Nan where there is one sample.
        """
        return self.samples.std(self.axis)


@in_own_precision
def solve(
    model: Model,
    operator: Any,
    y: Tensor,
    *,
    plan: Plan | int = CALLS,
    method: str | PosteriorSampler | None = None,
    noise: float | Tensor = 0.05,
    n: int = 16,
    seed: int = 0,
    labels: Any = None,
    batch: int | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> Solved:
    """Samples of p(x | y) for y = A(x) + noise e, e of unit variance, by a method of the role `posterior sampler`.

    operator  A: of `fewer.tasks.inverse.operators`, a matrix (m, d), a differentiable function of x (n, *shape) or its name
              `module:function`, an object with `A` and `A_adjoint` as deepinv's physics, or words: inpaint, super-resolution,
              deblur, compressed-sensing, denoise, with settings as in `super-resolution,factor=4` (see `as_operator`)
    y         a measurement, of the operator's shape, or B of them (B, ..), in the unit that A gives
    plan      whose levels and weights are the steps; or a number of calls, of the method's usual plan
    method    its name, or an object of it with settings of one's own; by default the plan's, where it was tuned for one, else mmps
    noise     standard deviation of e's part in y, at least 0: one number, or a map that broadcasts to a measurement, then above 0
    n         samples a measurement
    seed      sample j of measurement b has the noise of `fewer.sample`'s sample b n + j of this seed, whatever the batch
    labels    one class for all, or (n,) of the samples of each measurement, of models with classes; None for any class, by the
              empty label, where the model has one, else for all in turn
    batch     samples per micro-batch (default 64); halved and tried again where memory is too small
    progress  progress(done samples, all samples) after each micro-batch

    Of networks of pictures in pixels (samples of 1 or 3 channels) changed data predictions stay within one width of
    `model.data_range`, unless the measurement shows that data leave it (`Problem.held`). Of fields whose values have no range say
    so: `dataclasses.replace(model, data_range=(-math.inf, math.inf))`.

    Raises InputError for an operator of another shape, one that is not linear or has no derivative where the method needs it, y
    of another shape or not finite, noise below 0, plans that do not fit or leave out blocks, and samples that are not finite.
    """
    model, n, seed = as_model(model), as_count(n, "n"), as_count(seed, "seed", 0)
    given_plan = as_plan(plan) if isinstance(plan, Plan | str | Path) else None
    tuned = None if given_plan is None else given_plan.method
    solver = sampler_of(method if method is not None else tuned or USUAL)
    name = name_of("tasks", solver)
    measured = as_operator(operator, model.shape)
    if solver.linear and not isinstance(measured, Linear):
        raise InputError(
            f"method {name!r} needs a linear operator: a matrix, one with an adjoint, or fewer.tasks.inverse.linear(f, shape)"
        )
    measured, given, deviation, many = measurements(measured, y, noise)
    with guarded("tasks", solver):
        table = solver.usual(model, as_count(plan, "plan")) if given_plan is None else given_plan
    _check_plan(table, model)
    total = n * len(given)
    check_room(total, math.prod(model.shape), model.device)
    classes = classes_of(model, n, labels)
    classes = None if classes is None else classes.repeat(len(given))

    def micro_batch(part: range) -> Tensor:
        numbers = Stream.SAMPLES.numbers(len(part), part.start)

        def unit(draw: DrawNumber, shape: Sequence[int]) -> Tensor:
            return unit_noise(seed, numbers, shape, draw, model.device)

        own = torch.tensor([number // n for number in part])
        likelihood = Likelihood(measured, given[own].to(model.device), deviation)
        mine = None if classes is None else classes[part.start : part.stop]
        problem = Problem(model, table, likelihood, mine, unit)
        start = begun(
            model, table, unit(Draw.START(), model.shape), mine, lambda: unit(Draw.START_NOISE(), model.shape)
        )
        with guarded("tasks", solver):
            return solver.draw(problem, start).detach()  # type: ignore[no-any-return]

    found = []
    with torch.no_grad():
        for part, some in halving(total, MICRO_BATCH if batch is None else as_count(batch, "batch"), micro_batch):
            found.append(some)
            if progress is not None:
                progress(part.stop, total)
        samples = torch.cat(found)
        if not bool(samples.isfinite().all()):
            raise NotFinite(
                f"samples of {name} are not finite under plan {table.name!r}: take a smaller strength, or more calls"
            )
        left = given.repeat_interleave(n, 0).to(samples.device) - measured(samples)
    misfit = float(left.double().square().mean()) / deviation**2 if deviation else math.inf
    shaped = samples.view(-1, n, *model.shape) if many else samples
    return Solved(shaped, int(many), name, table, misfit)


def classes_of(model: Model, n: int, labels: Any) -> Tensor | None:
    """Labels (n,) of samples of one measurement: by default of any class, the empty label, or all in turn where there is none."""
    return model.labels(n, model.empty_label if labels is None and model.classes is not None else labels)


def _check_plan(plan: Plan, model: Model) -> None:
    plan.check(tuple(model.shape))
    for row, level in zip(plan.rows, plan.levels[1:], strict=True):
        if row.blocks:
            raise InputError(
                f"plan {plan.name!r} leaves out blocks of the network; posteriors are drawn with all of them"
            )
        if isinstance(row.tau, Tensor) or isinstance(level, Tensor) or not row.tau > 0:
            raise InputError(f"plan {plan.name!r} has levels that are tensors or 0; posteriors need numbers above 0")
        if row.guidance is not None and row.guidance.remembers:
            raise InputError(f"{row.guidance.rule} remembers earlier rows, which posteriors are not drawn with")


def measurements(operator: Operator, y: Any, noise: Any) -> tuple[Operator, Tensor, float, bool]:
    """The operator and measurements (B, *measured) in units in which the noise has one deviation, it, and whether B was given."""
    y = as_tensor(y, "y").detach().to("cpu", torch.float32)
    shape = tuple(operator.measured)
    many = y.ndim == len(shape) + 1
    if tuple(y.shape[many:]) != shape or not len(y):
        raise InputError(f"y has shape {tuple(y.shape)}; the operator gives {shape}, or (B, ..) of B measurements")
    if not bool(y.isfinite().all()):
        raise InputError(
            f"y holds {int((~y.isfinite()).sum())} values that are not finite; leave them out of the operator"
        )
    y = y if many else y[None]
    try:
        deviations = torch.as_tensor(noise, dtype=torch.float64).cpu()
        deviations = deviations if deviations.ndim == 0 else deviations.expand(shape)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"noise is {noise!r:.80}; expected a number, or a map that broadcasts to {shape}") from error
    least, most = float(deviations.min()), float(deviations.max())
    if not 0 <= least <= most < math.inf:
        raise InputError("noise must be finite and at least 0: a standard deviation in the measurement's unit")
    if most > 0 and not QUIETEST <= most <= LOUDEST:
        raise InputError(f"noise is {most:.4g}; expected 0, or a standard deviation from {QUIETEST:g} to {LOUDEST:g}")
    if least == most:
        return operator, y, most, many
    if least == 0:
        raise InputError("noise is a map with 0 in it and more elsewhere; expected numbers above 0, or 0 for all")
    level = float(deviations.square().mean().sqrt())
    relative = (deviations / level).to(torch.float32)
    if isinstance(operator, Linear):
        return Divided(operator, relative), y / relative, level, many
    own = operator
    return Function(lambda x: own(x) / relative.to(x), own.shape), y / relative, level, many
