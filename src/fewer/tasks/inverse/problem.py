"""What a sampler of posteriors is given: the model, a plan's levels, the measurement of each sample, and noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from fewer.batch import per_sample
from fewer.engine import Draws, Step, advance, bind, output
from fewer.errors import InputError
from fewer.images import is_picture
from fewer.levels import s_of_tau
from fewer.models.model import Model
from fewer.noise import Draw, DrawNumber
from fewer.plan import Plan
from fewer.tasks.inverse.given_operators import pulled, says_something
from fewer.tasks.inverse.linear_solve import conjugate_gradients
from fewer.tasks.inverse.operators import Linear, Operator

TOP = 0.999  # states above this level are seen as if they lay at it: at level 1 they tell nothing of the data
REACH = 1.0  # widths of the range of images by which a changed data prediction may leave it
SOLVED, TOLERATED = 20, 1e-3  # steps of conjugate gradients for whether a measurement is one of images, and their error

Unit = Callable[[DrawNumber, Sequence[int]], Tensor]


@dataclass(frozen=True)
class Likelihood:
    """p(y | x) = N(A(x), noise^2 I) of each sample: y (n, *measured), and the standard deviation of its noise, at least 0."""

    operator: Operator
    y: Tensor
    noise: float

    def residual(self, data: Tensor) -> Tensor:
        """Y - A(data), (n, *measured)."""
        return self.y - self.operator(data)

    @cached_property
    def followed(self) -> Operator:
        """The operator, for methods that follow its derivative.

        Raises InputError for operators without derivative, and for those whose derivative is 0 and says nothing.
        """
        operator = self.operator
        if not isinstance(operator, Linear) and not says_something(operator, self.y):
            raise InputError(
                f"the {getattr(operator, 'name', 'operator')} has a derivative that is 0, as of functions that round, count or "
                "compare; fewer.tasks.black_box.solve_black_box takes values alone"
            )
        return operator

    def linearised(self, data: Tensor) -> Near:
        """The likelihood at data predictions (n, *shape), to first order in x."""
        operator = self.followed
        if isinstance(operator, Linear):
            return Near(self.residual(data), operator, operator.adjoint)
        with torch.enable_grad():
            at = data.detach().requires_grad_()
            value = operator(at)

        def push(v: Tensor) -> Tensor:
            ahead: Tensor = torch.func.jvp(operator, (data,), (v,))[1]
            return ahead

        return Near(self.y - value.detach(), push, lambda v: pulled(value, at, v, "operator", keep=True))

    @property
    def linear(self) -> Linear:
        """The operator, which is linear; `solve` has checked that of methods that need it."""
        if not isinstance(self.operator, Linear):
            raise InputError("this method needs a linear operator")
        return self.operator


@dataclass(frozen=True)
class Near:
    """A likelihood near data predictions D: y - A(D), and products with the operator's derivative there and its transpose."""

    residual: Tensor
    push: Callable[[Tensor], Tensor]
    pull: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Seen:
    """The data prediction D at states x (n, *shape) of a level in (0, 1), and what follows from its derivative.

    u     eps - D, with its graph where a derivative is asked for
    name  of the model, for errors
    """

    x: Tensor
    tau: float
    u: Tensor
    name: str

    @property
    def s(self) -> float:
        """Sigma / alpha: the deviation of the noise in X = x / (1 - tau)."""
        return s_of_tau(self.tau)

    @cached_property
    def graph(self) -> Tensor:
        """D with its graph."""
        with torch.enable_grad():
            return self.x - self.tau * self.u

    @cached_property
    def data(self) -> Tensor:
        """D (n, *shape)."""
        return self.graph.detach()

    def covariance(self, v: Tensor) -> Tensor:
        """s^2 J' v (n, *shape), J = dD / dX: of an exact denoiser the covariance of the data given X, times v.

        Tweedie's formula for the second moment (Robbins 1956; Miyasawa 1961). Raises InputError for networks without derivative.
        """
        own = pulled(self.graph, self.x, v, f"network of {self.name}", keep=True)
        return self.tau**2 / (1 - self.tau) * own


class Denoised(Protocol):
    """How a method changes the data prediction: g (n, *shape) with E[D | x, y] ~ D + g."""

    def __call__(self, seen: Seen) -> Tensor:
        """G of one row."""


@dataclass(frozen=True)
class Problem:
    """One micro-batch of samples that are to be drawn from their posteriors.

    model, plan, labels  as the engine plays them; the plan's levels are the method's steps, one network call a row
    given                the likelihood of each sample's measurement
    unit                 unit(draw, shape) is unit noise (n, *shape) of each sample, its own in any batch
    """

    model: Model
    plan: Plan
    given: Likelihood
    labels: Tensor | None
    unit: Unit

    @cached_property
    def steps(self) -> list[Step]:
        """The plan's rows with the numbers of the model, their levels at most `TOP`."""
        rows = [replace(row, tau=min(float(row.tau), TOP)) for row in self.plan.rows]
        return bind(self.model, replace(self.plan, rows=tuple(rows)))

    @property
    def draws(self) -> Draws:
        """The noise of rows and of their guidance."""
        shape = self.model.shape
        return Draws(lambda k: self.unit(Draw.ROW(k), shape), lambda k, size: self.unit(Draw.GUIDANCE(k), size))

    def see(self, n: int, x: Tensor, derivative: bool) -> Seen:
        """The call of row n at states x (n, *shape), whose derivative by x is kept where one is asked for."""
        step = self.steps[n]

        def call(x_in: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
            found = step.model(x_in, t, labels)
            if derivative and not found.requires_grad:  # else u would have that of its part in x alone
                raise InputError(
                    f"the network of {step.model.name} has no derivative by its input, which this method needs"
                )
            return found

        with torch.set_grad_enabled(derivative):
            x = x.detach().requires_grad_(derivative)
            u = output(step, x, self.labels, call, n, draws=self.draws)
        return Seen(x, float(step.tau), u, self.model.name)

    def predict(self, x: Tensor, s: float) -> Tensor:
        """D (n, *shape) at X = D + s eps, a state in data units, of any level: one call without guidance."""
        tau = min(s / (1 + s), TOP)
        state = x * (1 - tau)
        return state - tau * self.model.velocity(state, tau, self.labels)

    def play(
        self,
        x: Tensor,
        derivative: bool,
        change: Denoised | None = None,
        after: Callable[[Seen, int], Tensor] | None = None,
    ) -> Tensor:
        """The plan from the state x (n, *shape), its data predictions changed by `change`; the states after rows by `after`.

        Changed predictions of networks of images are `held`. Without `change` the network's own are played.
        """
        states: dict[int, Tensor] = {}
        outputs: dict[int, Tensor] = {}
        for n, step in enumerate(self.steps):
            seen = self.see(n, x, derivative)
            states[n], outputs[n] = x, seen.u.detach()
            if change is not None:
                outputs[n] = outputs[n] - self.held(seen.data, change(seen)) / seen.tau
            x = advance(n, step, states, outputs, self.draws.row)
            if after is not None:
                x = x + after(seen, n)
            step.forget(states, outputs)
        return x

    def held(self, data: Tensor, change: Tensor) -> Tensor:
        """G (n, *shape), with D + g of images kept in their range, widened by `REACH` widths or as far as D itself goes.

        E[D | x, y] lies in the range of the data. A trained network's s^2 dD / dX at high levels need not be a covariance (of the
        bundled network of digits at s = 100 three in four of its quadratic forms along residuals are negative), and a single
        change in the hundreds is never forgotten by a deterministic plan. Models that are mixtures are exact, those of latents,
        vectors and infinite ranges have no known range: their g is left alone, and so is that of `beyond`.
        """
        model = self.model
        low, high = model.data_range
        reach = REACH * (high - low)
        if model.exact is not None or model.decode is not None or not is_picture(model) or reach == math.inf:
            return change
        least, most = (per_sample(end(data.flatten(1), 1), data) for end in (torch.amin, torch.amax))
        near = change.clamp(least.clamp_max(low - reach) - data, most.clamp_min(high + reach) - data)
        return torch.where(self.beyond, change, near)

    @cached_property
    def beyond(self) -> Tensor:
        """Whether a sample's measurement shows that the data leave the range by more than `REACH` widths, (n, 1, .., 1) bool.

        Fields of one or three channels look like images, of which `data_range` need not be so. What an image could be at most is
        the mean, given y, of N(middle, (width / 4)^2 I): noise alone moves a value of it by a deviation of at most an eighth of a
        width, whatever the operator. Functions that are not linear show nothing.
        """
        y, operator, (low, high) = self.given.y, self.given.operator, self.model.data_range
        if not isinstance(operator, Linear):
            return per_sample(torch.zeros(len(y), dtype=torch.bool, device=y.device), y.new_zeros(1, *self.model.shape))
        middle, variance = y.new_full((len(y), *operator.shape), (low + high) / 2), ((high - low) / 4) ** 2

        def measured(v: Tensor) -> Tensor:
            return variance * operator(operator.adjoint(v)) + self.given.noise**2 * v

        residual = self.given.residual(middle)
        mean = middle + variance * operator.adjoint(conjugate_gradients(measured, residual, SOLVED, TOLERATED))
        away = per_sample((mean - middle).flatten(1).abs().amax(1), mean)
        return away > (REACH + 0.5) * (high - low)

    @property
    def levels(self) -> list[float]:
        """The levels tau of the rows, at most `TOP`, and the last, where the plan ends."""
        return [float(step.tau) for step in self.steps] + [float(self.plan.end)]
