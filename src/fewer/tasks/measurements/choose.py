"""`fewer.choose_measurements`: which channels of an operator to acquire, by examples that the model makes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewer.arguments import as_count, as_data, as_model
from fewer.engine import MICRO_BATCH, sample
from fewer.errors import InputError, did_you_mean, foreign
from fewer.models.model import Model
from fewer.noise import Draw, Stream, unit_noise
from fewer.registry import ROLES, guarded, name_of, parts, resolve
from fewer.samplers import standard
from fewer.tasks.inverse.given_operators import Function, as_operator
from fewer.tasks.inverse.operators import Linear, Operator
from fewer.tasks.measurements import MeasurementChooser
from fewer.tasks.measurements.acquired import LEAST, Acquired
from fewer.tasks.measurements.network import task_error

CALLS = 20  # of a sample
USUAL = "greedy-measurements"  # on the beds of its claims nearer to the best set than the others
RANDOM = 3  # random choices that the chosen one is compared with
Target = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Channels(Linear):
    """Some channels, the first axis of the measurement, of a linear operator."""

    operator: Linear
    channels: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """The operator's."""
        return self.operator.shape

    @property
    def measured(self) -> tuple[int, ...]:
        """The operator's, with fewer channels."""
        return (len(self.channels), *self.operator.measured[1:])

    def __call__(self, x: Tensor) -> Tensor:
        """Rows of A x."""
        return self.operator(x)[:, list(self.channels)]

    def adjoint(self, y: Tensor) -> Tensor:
        """A' of y with zeros for the other channels."""
        whole = y.new_zeros(len(y), *self.operator.measured)
        whole[:, list(self.channels)] = y
        return self.operator.adjoint(whole)


@dataclass(frozen=True, eq=False)
class Chosen:
    """Channels to measure.

    channels  their numbers on the first axis of a measurement, rising
    method    by which they were chosen
    errors    mean squared error of a network that tells the target from channels, on examples that it was not trained on, in unit
              of the target's variance: of these channels ("chosen"), of "all", and of as many at "random" (the mean of three)
    operator  that measures them alone, for `fewer.solve(model, chosen.operator, y[list(chosen.channels)])`
    """

    channels: tuple[int, ...]
    method: str
    errors: dict[str, float]
    operator: Operator


def choose_measurements(
    model: Model, operator: Any, keep: int, *, target: Target | None = None, noise: float | Tensor = 0.05,
    method: str | MeasurementChooser = USUAL, n: int = 1024, data: Any = None, seed: int = 0,
) -> Chosen:  # fmt: skip
    """The `keep` channels of y = A(x) + noise e that tell most of the target, of those on the first axis of a measurement.

    operator  A, as `fewer.solve` takes it: of (m,) values each is a channel, of (C, H, W) each image
    keep      how many channels
    target    a function of x (n, *shape) that gives what is to be told (n, ..); by default x itself
    noise     standard deviation of e's part, at least 0: a number, or a map that broadcasts to a measurement
    method    a part of the role `measurement chooser` (greedy-measurements, lasso-measurements, tadred), or an object of it with
              settings of one's own
    n         examples to choose by, at least 32; half as many more are drawn to judge the choice by
    data      true samples (N, *shape), a folder or .npz of images, to take examples from; by default the model's own, in 20 calls
    seed      of the examples' draws and the networks' weights

    Raises InputError for operators that do not fit, fewer channels than asked for, noise below 0, targets that are not finite or do
    not vary, fewer data than 3/2 n, and methods that give other than `keep` channels.
    """
    model, keep, n, seed = (
        as_model(model),
        as_count(keep, "keep"),
        as_count(n, "n", 2 * LEAST),
        as_count(seed, "seed", 0),
    )
    chooser, measured = _chooser(method), as_operator(operator, model.shape)
    if keep > measured.measured[0]:
        raise InputError(f"keep is {keep}; the operator measures {measured.measured[0]} channels")
    x = _samples(model, n + n // 2, data, seed)
    acquired = Acquired(_measured(measured, x, noise, seed), _targets(target, x))
    mine, judged = (Acquired(acquired.values[k], acquired.targets[k]) for k in (slice(n), slice(n, None)))
    if not all(bool(some.scaled[1].any()) for some in (mine, judged)):
        raise InputError(
            "the target is the same for all examples to choose or to judge by: nothing is to be told, or n is too small"
        )
    with guarded("tasks", chooser):
        channels = tuple(int(k) for k in chooser.choose(mine, keep, seed))
    if (
        len(set(channels)) != keep
        or list(channels) != sorted(channels)
        or not set(channels) <= set(range(acquired.channels))
    ):
        raise InputError(
            f"method {name_of('tasks', chooser)!r} chose {channels!r:.80}; expected {keep} rising numbers of {acquired.channels} "
            "channels"
        )
    everything, chance = tuple(range(acquired.channels)), _chooser("random-measurements")
    at_random = [chance.choose(mine, keep, seed + k) for k in range(RANDOM)]

    def error(those: tuple[int, ...]) -> float:
        return task_error(mine.only(those), judged.only(those), seed)

    errors = {
        "chosen": error(channels), "all": error(everything), "random": sum(map(error, at_random)) / RANDOM,
    }  # fmt: skip
    return Chosen(channels, name_of("tasks", chooser), errors, _only(measured, channels))


def _chooser(method: Any) -> MeasurementChooser:
    names = [each.name for each in parts("tasks") if each.role == "measurement chooser"]
    if isinstance(method, str) and method not in names:
        raise InputError(
            f"method is {method!r:.80}{did_you_mean(method, names)} measurements are chosen by {', '.join(names)}"
        )
    found = resolve("tasks", method)
    if ROLES["measurement chooser"].missing(found):
        raise InputError(f"method {name_of('tasks', found)!r} chooses no measurements; these do: {', '.join(names)}")
    return found  # type: ignore[no-any-return]


def _only(operator: Operator, channels: tuple[int, ...]) -> Operator:
    if isinstance(operator, Linear):
        return Channels(operator, channels)
    return Function(lambda x: operator(x)[:, list(channels)], operator.shape)


def _samples(model: Model, n: int, data: Any, seed: int) -> Tensor:
    """Float32 (n, *shape) on the CPU."""
    given = as_data(data, model)
    if given is not None:
        if len(given) < n:
            raise InputError(
                f"data holds {len(given)} samples; {n} are needed: n to choose by, and half as many to judge by"
            )
        return given[torch.randperm(len(given), generator=torch.Generator().manual_seed(seed))[:n]].float().cpu()
    if model.exact is not None and model.classes is None:
        return model.exact.sample(n, seed)[0].float().cpu()
    plan = standard("dpmpp-2m", model, CALLS, "logsnr")
    return sample(model, plan, n, seed=seed, first_sample=Stream.CALIBRATION.numbers(n)[0]).cpu()


def _measured(operator: Operator, x: Tensor, noise: Any, seed: int) -> Tensor:
    """Values (n, C, v)."""
    try:
        deviation = torch.as_tensor(noise, dtype=torch.float64).cpu().expand(tuple(operator.measured))
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"noise is {noise!r:.80}; expected a number, or a map that broadcasts to {tuple(operator.measured)}"
        ) from error
    if not bool((deviation >= 0).all()) or not bool(deviation.isfinite().all()):
        raise InputError("noise must be finite and at least 0: a standard deviation in the measurement's unit")
    with torch.no_grad():
        y = torch.cat([operator(some).double().cpu() for some in x.split(MICRO_BATCH)])
    e = unit_noise(seed, Stream.CALIBRATION.numbers(len(x)), operator.measured, Draw.PROBE()).double()
    return (y + deviation * e).reshape(len(x), operator.measured[0], math.prod(operator.measured[1:]))


def _targets(target: Target | None, x: Tensor) -> Tensor:
    """(n, k)."""
    if target is None:
        return x.flatten(1)
    with foreign("the target"), torch.no_grad():
        found = target(x)
    if not isinstance(found, Tensor) or not found.ndim or len(found) != len(x):
        raise InputError(
            f"the target gave {type(found).__name__} for {len(x)} samples; expected a tensor ({len(x)}, ..)"
        )
    return found.double().reshape(len(x), -1)
