"""TSDiff's refinement: a simple forecast goes down the model's own energy, by Langevin steps that begin there."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from numbers import Real
from typing import Any, Literal

import torch
from torch import Tensor

from fewer.arguments import as_count, as_data, as_model, as_tensor
from fewer.errors import InputError, whole
from fewer.memory import halving
from fewer.models.model import Model
from fewer.noise import Draw, DrawNumber, Stream, unit_noise
from fewer.registry import part
from fewer.settings import positive, share
from fewer.tasks.inverse.given_operators import pulled
from fewer.tasks.inverse.solve import classes_of
from fewer.tasks.series.windows import axis_of, pasts_of

BATCH = 256
LEVELS, WINDOWS = 24, 256  # levels that a representative one is chosen from, and windows that it is chosen on


@part(
    "tsdiff-refine",
    title="Refinement of a simple forecast by Langevin steps on the model's energy",
    source="Kollovieh et al. 2023, Predict, Refine, Synthesize: Self-Guiding Diffusion Models for Probabilistic Time Series "
    "Forecasting, arXiv:2307.11494",
    papers=(238,),
    role="procedure",
)
@dataclass(frozen=True)
class Refinement:
    """y' = y - rate grad E(y) + sqrt(2 rate heat) z, from windows y~ of the past and a base forecast, on the energy

        E(y) = |eps(x) - e|^2 + weight R(y, y~),    x = (1 - tau) y + tau e

    whose first term stands for -log p(y), with fresh noise e in each step and one level tau. R is half the squared difference, or
    the quantile loss max(k d, (k - 1) d), d = y~ - y, with k = j / (n + 1) for the j-th of n draws, which are sorted for that.

    level       tau; None for the representative one: the level at which the model's loss on windows is nearest to its mean
    iterations  one network call and its derivative each
    rate        of steps, in the data's unit squared
    weight      lambda of R
    heat        gamma, of the noise: 0 for the most likely window
    guidance    quantile or square
    """

    level: float | None = None
    iterations: int = 20
    rate: float = 0.1
    weight: float = 0.1
    heat: float = 0.1
    guidance: Literal["quantile", "square"] = "quantile"

    def __post_init__(self) -> None:
        whole("iterations", self.iterations)
        positive("rate", self.rate)
        positive("weight", self.weight)
        share("heat", self.heat, math.inf)
        if self.guidance not in ("quantile", "square"):
            raise InputError(f"guidance of a refinement is {self.guidance!r}; expected quantile or square")
        if self.level is not None and not (isinstance(self.level, Real) and 0 < self.level < 1):
            raise InputError(f"level is {self.level!r}; expected a number in (0, 1)")

    def refine(
        self, model: Model, past: Any, base: Any, *, windows: Any = None, time: int = 0, label: int | None = None,
        seed: int = 0, batch: int = BATCH,
    ) -> Tensor:  # fmt: skip
        """Draws of the rest of each window (B, n, T - p, *frame), from those of another forecaster.

        past     (B, p, *frame), as for `fewer.forecast`, or one without B, of which base has none either
        base     draws (B, n, T - p, *frame), n at least 1
        windows  true ones (N, T, *frame), on which the level is chosen where none is set
        time, label  as for `fewer.forecast`
        batch    draws that are refined at a time; halved where memory is too small

        Raises InputError for shapes that do not fit, values that are not finite, and where neither level nor windows are given.
        """
        model, seed, batch = as_model(model), as_count(seed, "seed", 0), as_count(batch, "batch")
        axis = axis_of(model, time)
        given, many = pasts_of(model, past, axis)
        base = as_tensor(base, "base").detach().to("cpu", torch.float32)
        base = base if many else base[None]
        left = model.shape[axis] - given.shape[axis + 1]
        frame = list(model.shape)
        frame[axis] = left
        if base.ndim != len(model.shape) + 2 or list(base.shape) != [len(given), max(1, base.shape[1]), *frame]:
            raise InputError(
                f"base has shape {tuple(base.shape)}; expected ({len(given)}, n, {', '.join(map(str, frame))}): draws of the times "
                "that are left of each window"
            )
        if not bool(base.isfinite().all()):
            raise InputError("base holds values that are not finite")
        tau = self.level if self.level is not None else representative_level(model, windows, seed, label)
        n = base.shape[1]
        labels = classes_of(model, n, label)
        if self.guidance == "quantile":
            base = base.sort(1).values
        aim = torch.cat([given.repeat_interleave(n, 0), base.flatten(0, 1)], axis + 1).to(model.device)
        kappa = ((torch.arange(n) + 1) / (n + 1)).repeat(len(given)).view(-1, *[1] * len(model.shape)).to(aim)

        def refined(part: range) -> Tensor:
            numbers, rows = Stream.SAMPLES.numbers(len(part), part.start), slice(part.start, part.stop)
            own = None if labels is None else labels[[number % n for number in numbers]]
            slope = partial(_slope, model, tau=tau, labels=own)
            unit = partial(unit_noise, seed, numbers, model.shape, device=model.device)
            return self._descended(slope, unit, aim[rows], kappa[rows]).cpu()

        rest = torch.cat([made for _, made in halving(len(aim), batch, refined)]).narrow(
            axis + 1, given.shape[axis + 1], left
        )
        return rest.unflatten(0, (len(given), n)) if many else rest

    def _descended(
        self,
        slope: Callable[[Tensor, Tensor], Tensor],
        unit: Callable[[DrawNumber], Tensor],
        aim: Tensor,
        kappa: Tensor,
    ) -> Tensor:
        """Windows (n, *shape) after all steps from those at `aim`; slope(y, e) is the gradient of the energy's first term."""
        y = aim
        for k in range(self.iterations):
            e, z = unit(Draw.MOVE(2 * k)), unit(Draw.MOVE(2 * k + 1))
            towards = y - aim if self.guidance == "square" else ((aim < y).to(y) - kappa) * (aim != y)
            y = y - self.rate * (slope(y, e) + self.weight * towards) + math.sqrt(2 * self.rate * self.heat) * z
        if not bool(y.isfinite().all()):
            raise InputError("the refined forecast is not finite: take a smaller rate")
        return y


def representative_level(model: Model, windows: Any, seed: int = 0, label: int | None = None) -> float:
    """The level, of 24 at regular times, at which the mean of |eps(x) - e|^2 over windows is nearest to its mean over levels.

    windows  (N, T, *frame), of which the first 256 are taken; `label` as for `fewer.forecast`. Raises InputError without them.
    """
    data = as_data(windows, model)
    if data is None:
        raise InputError("give a level, or windows to choose it on")
    data = data[:WINDOWS]
    schedule = model.schedule
    clean, noisy = (float(schedule.time(tau)) for tau in (schedule.tau_min, min(model.start, 0.999)))
    levels = [float(schedule.tau(time)) for time in torch.linspace(clean, noisy, LEVELS, dtype=torch.float64)]
    noise = unit_noise(seed, Stream.CALIBRATION.numbers(len(data)), model.shape, device=model.device)
    labels = classes_of(model, len(data), label)
    with torch.no_grad():
        errors = [_error(model, data, noise, tau=tau, labels=labels) for tau in levels]
    losses = torch.tensor([float(each.double().square().mean()) for each in errors])
    return levels[int((losses - losses.mean()).abs().argmin())]


def _slope(model: Model, y: Tensor, e: Tensor, *, tau: float, labels: Tensor | None) -> Tensor:
    """The gradient of |eps(x) - e|^2 by y (n, *shape)."""
    with torch.enable_grad():
        at = y.detach().requires_grad_()
        loss = _error(model, at, e, tau=tau, labels=labels).flatten(1).square().sum(1)
        return pulled(loss, at, torch.ones_like(loss), f"network of {model.name}")


def _error(model: Model, y: Tensor, e: Tensor, *, tau: float, labels: Tensor | None) -> Tensor:
    """eps(x) - e at x = (1 - tau) y + tau e, by one network call."""
    x = (1 - tau) * y + tau * e
    return x + (1 - tau) * model.velocity(x, tau, labels) - e
