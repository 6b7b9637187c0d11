"""Blackout diffusion: counts die out one by one until the sample is empty, and are born again on the way back.

Every unit of a count lives on with probability p = e^-t, so that with x_0 the data and all values independent given it

    x_t ~ Binomial(x_0, e^-t)

The reverse process has births alone, at the rate E[x_0 - x_t | x_t] e^-t / (1 - e^-t) of a value: a network learns that mean,
the births to come. A unit that is dead at t was alive at s < t with probability (e^-s - e^-t) / (1 - e^-t), independently of
all others, so that given x_0 the bridge from t to s is

    x_s - x_t ~ Binomial(x_0 - x_t, (e^-s - e^-t) / (1 - e^-t))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor

from fewer.errors import InputError, whole
from fewer.noise import Draw, Stream, uniform_noise
from fewer.registry import part

Births = Callable[[Tensor, float], Tensor]


@part(
    "blackout",
    title="Blackout diffusion: counts that die out, sampled back by binomial bridges",
    source="Santos et al. 2023, Blackout Diffusion: Generative Diffusion Models in Discrete-State Spaces, arXiv:2305.11089",
    papers=(120,),
    role="procedure",
)
@dataclass(frozen=True)
class Blackout:
    """The process at times t_0 = 0 < t_1 < .. < t_N, by default N = 1000 up to t_N = 15 at equal steps of log(p / (1 - p)).

    steps  N, the number of network calls of a sample
    end    t_N: a unit is alive with probability e^-end there; the sample is taken to be empty

    Counts are int64 tensors (n, *shape). Raises InputError for numbers out of range.
    """

    steps: int = 1000
    end: float = 15.0

    def __post_init__(self) -> None:
        whole("steps", self.steps)
        if not math.log(2) < self.end < 700:
            raise InputError(f"end is {self.end!r}; expected a time in (log 2, 700)")

    @property
    def times(self) -> tuple[float, ...]:
        """t_0 .. t_N: log(p / (1 - p)) falls by equal steps from its value at 1 - p = e^-end to that at p = e^-end."""
        if self.steps == 1:
            return (0.0, self.end)
        top = self.end + math.log1p(-math.exp(-self.end))  # log((1 - p) / p) at the end
        odds = [-top + 2 * top * k / (self.steps - 1) for k in range(self.steps)]
        return (0.0, *(float(np.logaddexp(0.0, each)) for each in odds))

    def corrupt(self, x0: Tensor, t: float, *, seed: int = 0, first_sample: int = 0) -> Tensor:
        """A draw of x_t (n, *shape) given the data; that of sample i of a seed is the same in any batch."""
        numbers = Stream.PATHS.numbers(len(x0), first_sample)
        return _binomial(_counts(x0), math.exp(-t), uniform_noise(seed, numbers, x0.shape[1:], Draw.START()))

    def loss(self, births: Tensor, x0: Tensor, xt: Tensor, t: float) -> Tensor:
        """The loss (n,) of predicted births y > 0 (n, *shape): p (y - b log y - (b - b log b)) with b = x_0 - x_t, summed.

        Up to constants the reverse process's negative log-likelihood a step of log(p / (1 - p)); least, for any x_t, where
        y = E[x_0 - x_t | x_t]. 0 where y = b.
        """
        b = (x0 - xt).to(births.dtype)
        gap = births - b + torch.special.xlogy(b, b) - torch.special.xlogy(b, births)
        return math.exp(-t) * gap.flatten(1).sum(1)

    def sample(
        self, births: Births, shape: Sequence[int], n: int = 64, *, seed: int = 0, first_sample: int = 0
    ) -> Tensor:
        """Samples (n, *shape) from the empty one: from t to s Binomial(B, (e^-s - e^-t) / (1 - e^-t)) units are born.

        births  births(x_t, t) -> expected births E[x_0 - x_t | x_t] >= 0 (n, *shape), one call a step; a fraction is rounded
                up with its own probability, so that B has the network's mean and the births the reverse rate: the law's error
                is of first order in the steps. Rounded to the nearest, the error would stay.
        seed    sample i of a seed is the same in any batch

        Raises InputError for births that are negative, not finite, or of another shape.
        """
        numbers = Stream.SAMPLES.numbers(n, first_sample)
        x = torch.zeros(n, *shape, dtype=torch.int64)
        down = list(reversed(self.times))
        for k, (t, s) in enumerate(pairwise(down)):
            mean = births(x, t)
            if mean.shape != x.shape or not bool((mean.isfinite() & (mean >= 0)).all()):
                raise InputError(f"births at t = {t:g} are of shape {tuple(mean.shape)}, negative or not finite")
            born = _rounded(mean.double().cpu(), uniform_noise(seed, numbers, shape, Draw.CHANCE(2 * k)))
            x = x + _binomial(born, revival(t, s), uniform_noise(seed, numbers, shape, Draw.CHANCE(2 * k + 1)))
        return x


def revival(t: float, s: float) -> float:
    """(e^-s - e^-t) / (1 - e^-t): the probability that a unit which is dead at t was alive at s < t."""
    return math.exp(-s) * math.expm1(s - t) / math.expm1(-t)


@dataclass(frozen=True, eq=False)
class FiniteLaw:
    """A law of counts on K points: what the mixture is to Gaussian noise, or the empirical law of a data set.

    points   (K, *shape) int64, at least 0
    weights  (K,) positive; divided by their sum
    """

    points: Tensor
    weights: Tensor

    def __post_init__(self) -> None:
        _counts(self.points)
        if self.weights.shape != self.points.shape[:1] or not bool((self.weights > 0).all()):
            raise InputError(
                f"weights have shape {tuple(self.weights.shape)}; expected {len(self.points)} positive ones"
            )
        object.__setattr__(self, "weights", self.weights.double() / self.weights.sum())

    def posterior(self, x: Tensor, t: float) -> Tensor:
        """Probability (n, K) of each point as x_0, given x_t = x (n, *shape); nan where none has as many units as x."""
        dead = (self.points - x[:, None]).flatten(2).double()  # (n, K, d)
        log_choose = torch.lgamma(self.points.flatten(1).double() + 1) - torch.lgamma(dead.clamp_min(0) + 1)
        # the factor p^x / x! is the same for all points
        log_joint = self.weights.log() + (log_choose + dead * math.log(-math.expm1(-t))).sum(2)
        return torch.softmax(log_joint.masked_fill((dead < 0).any(2), -math.inf), 1)

    def births(self, x: Tensor, t: float) -> Tensor:
        """E[x_0 - x_t | x_t = x] (n, *shape) in float64: the network that `Blackout.sample` asks for, exact.

        0 for states that no point allows, which sampling reaches where births of several values are drawn at once.
        """
        mean = self.posterior(x, t) @ self.points.flatten(1).double()
        return (mean.view_as(x) - x).nan_to_num(0.0).clamp_min(0.0)


def _counts(x: Tensor) -> Tensor:
    """x, which must be counts."""
    if x.is_floating_point() or x.dtype == torch.bool or bool((x < 0).any()):
        raise InputError(f"counts are {x.dtype}; expected int64 values of at least 0")
    return x


def _rounded(mean: Tensor, u: Tensor) -> Tensor:
    """A whole number next to `mean`, of that mean."""
    return (mean.floor() + (u < mean - mean.floor())).to(torch.int64)


def _binomial(count: Tensor, p: float, u: Tensor) -> Tensor:
    """The quantiles at u of Binomial(count, p)."""
    return torch.from_numpy(np.asarray(binom.ppf(u.numpy(), count.numpy(), p))).to(torch.int64)
