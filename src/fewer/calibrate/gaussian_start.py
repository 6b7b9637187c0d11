"""Starts below the model's noisiest level: a fitted Gaussian is carried there, at no call, by its own closed flow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.levels import s_of_tau
from fewer.plan import Plan, Start
from fewer.registry import find
from fewer.solvers import compile_plan
from fewer.solvers.trace import Level


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(m, C) fitted to data, C = diag(rest) + sum_k (variances_k - rest) v_k v_k', float64.

    mean        m (*shape)
    rest        one variance in every direction outside `directions`, or one a value (*shape) where there are none
    directions  v (K, *shape), orthonormal, with `variances` (K,) along them

    With X = x / alpha at s = sigma / alpha the flow of N(m, C + s^2 I) keeps (X - m) / (v + s^2)^(1/2) in a direction
    of variance v. From X_0 = s_0 z, where plans usually start, it leads at s to

        X = m + g (s_0 z - m),        g = ((v + s^2) / (v + s_0^2))^(1/2)

    so that the same z stands for nearly the same sample; from pure noise (s_0 infinite) it is a draw of N(m, C + s^2 I).
    """

    mean: Tensor
    rest: Tensor
    directions: Tensor
    variances: Tensor

    @classmethod
    def point(cls, samples: Tensor) -> Gaussian:
        """No variance around 0, whatever the samples (n, *shape): its starts are noise alone, x = tau z."""
        x = _checked(samples)
        return cls(torch.zeros_like(x[0]), x.new_zeros(()), x[:0], x.new_zeros(0))

    @classmethod
    def diagonal(cls, samples: Tensor) -> Gaussian:
        """A variance for each value of samples (n, *shape)."""
        x = _checked(samples)
        return cls(x.mean(0), x.var(0), x[:0], x.new_zeros(0))

    @classmethod
    def principal(cls, samples: Tensor, rank: int) -> Gaussian:
        """The `rank` leading principal directions of samples (n, *shape), and the others' mean variance elsewhere.

        That is the maximum-likelihood covariance of this form (Tipping & Bishop 1999, Probabilistic Principal Component
        Analysis), but for n - 1 in place of n. Raises InputError where n samples span no `rank` directions.
        """
        x = _checked(samples)
        n, d = len(x), x[0].numel()
        if not 0 <= rank <= min(d, n - 1):
            raise InputError(
                f"rank is {rank}; {n} samples of {d} values have 0 to {min(d, n - 1)} principal directions"
            )
        mean = x.mean(0)
        _, lengths, directions = torch.linalg.svd((x - mean).flatten(1), full_matrices=False)
        variances = lengths.square() / (n - 1)
        rest = variances[rank:].sum() / max(d - rank, 1)
        return cls(mean, rest, directions[:rank].view(rank, *x.shape[1:]), variances[:rank])

    @property
    def deviation(self) -> float:
        """Root mean variance over all values."""
        d, k = self.mean.numel(), len(self.variances)
        outside = self.rest.mean() * (d - k)
        return float(((outside + self.variances.sum()) / d).sqrt())

    def start(self, tau: float, above: float) -> Start:
        """The start at level tau in [0, 1), on the flow from the plain start x = above z at level `above` in (tau, 1]."""
        s, inverse = s_of_tau(tau), (1 - above) / above
        rest, gains = (_carried(v, s, inverse) for v in (self.rest, self.variances))  # g s_0
        scale = (1 - tau) * rest
        away = (1 - inverse * rest) * self.mean  # (1 - g) m
        along = self.directions.flatten(1)
        if len(along):
            shrunk = inverse * (gains - rest) * (along @ self.mean.flatten())
            away = away - (shrunk @ along).view_as(self.mean)
        return Start(
            tau, float(scale) if scale.ndim == 0 else scale.float(), offset=((1 - tau) * away).float(),
            directions=self.directions.float() if len(along) else None,
            gains=((1 - tau) * (gains - rest)).float() if len(along) else None,
        )  # fmt: skip


def _carried(variance: Tensor, s: float, inverse: float) -> Tensor:
    """g s_0 of a direction, with 1 / s_0 = `inverse`."""
    return ((variance + s**2) / (1 + variance * inverse**2)).sqrt()


def _checked(samples: Tensor) -> Tensor:
    if samples.ndim < 2 or len(samples) < 2 or not bool(samples.isfinite().all()):
        raise InputError(f"samples have shape {tuple(samples.shape)}; expected (n, *shape), n >= 2, all values finite")
    return samples.double().cpu()


@dataclass(frozen=True)
class FromGaussian:
    """The plans of a solver that start from a Gaussian on the flow from the level `above`, by their levels.

    A search may move the start's level like any other: the start follows it.
    """

    gaussian: Gaussian
    above: float
    solver: str = "ddim"

    def __call__(self, levels: Sequence[Level], calls: int) -> Plan:
        """The plan at falling levels, the first of them below `above`."""
        plan = compile_plan(find("solvers", self.solver).make(), levels, calls)
        return replace(plan, start=self.gaussian.start(float(levels[0].tau), self.above))
