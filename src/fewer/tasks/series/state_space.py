"""Linear Gaussian processes, whose windows are Gaussian and whose forecasts are known in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.linalg import solve_discrete_lyapunov
from torch import Tensor

from fewer.errors import InputError, whole
from fewer.models.linear_posterior import LinearPosterior
from fewer.models.mixture import GaussianMixture
from fewer.settings import positive, share


@dataclass(frozen=True, eq=False)
class StateSpace:
    """y_t = level + H z_t + e_t of the stationary state z_{t+1} = F z_t + w_t, w ~ N(0, Q), e ~ N(0, noise^2).

    transition  F (k, k), whose eigenvalues lie inside the unit circle
    driving     Q (k, k), symmetric and positive semi-definite
    seen        H (C, k) of C channels
    level       mean of y: one number, or (C,)
    noise       standard deviation of what is measured beside, at least 0

    In float64. Raises InputError for sizes that do not agree, numbers that are not finite, a `driving` that is no covariance, and
    processes that are not stationary.
    """

    transition: Tensor
    driving: Tensor
    seen: Tensor
    level: float | Tensor = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name in ("transition", "driving", "seen"):
            object.__setattr__(self, name, torch.as_tensor(getattr(self, name), dtype=torch.float64))
        f, k = self.transition, len(self.transition)
        if f.ndim != 2 or tuple(f.shape) != (k, k) or self.driving.shape != f.shape or self.seen.shape[1:] != (k,):
            shapes = [tuple(getattr(self, name).shape) for name in ("transition", "driving", "seen")]
            raise InputError(f"transition, driving and seen are {shapes}; expected (k, k), (k, k) and (C, k)")
        share("noise", self.noise, math.inf)
        level = torch.as_tensor(self.level)
        if not bool(
            f.isfinite().all() & self.driving.isfinite().all() & self.seen.isfinite().all() & level.isfinite().all()
        ):
            raise InputError("numbers of a process must be finite")
        if level.ndim and tuple(level.shape) != (self.channels,):
            raise InputError(f"level has shape {tuple(level.shape)}; expected one number, or ({self.channels},)")
        q = self.driving
        if not torch.allclose(q, q.T) or float(torch.linalg.eigvalsh(q).min()) < -1e-9 * float(q.abs().max()):
            raise InputError("driving must be a covariance: symmetric, and positive semi-definite")
        if float(torch.linalg.eigvals(f).abs().max()) >= 1:
            raise InputError("transition has an eigenvalue outside of the unit circle: the process is not stationary")

    @property
    def channels(self) -> int:
        """C."""
        return len(self.seen)

    @cached_property
    def stationary(self) -> Tensor:
        """Covariance P (k, k) of the state, P = F P F' + Q."""
        return torch.from_numpy(solve_discrete_lyapunov(self.transition.numpy(), self.driving.numpy()))

    def moments(self, length: int) -> tuple[Tensor, Tensor]:
        """Mean (length C) and covariance (length C, length C) of a window, times outside and channels inside."""
        whole("length", length)
        c, ahead = self.channels, self.stationary
        covariance = torch.zeros(length, c, length, c, dtype=torch.float64)
        for lag in range(length):
            block = self.seen @ ahead @ self.seen.T  # of y_{t + lag} with y_t
            for t in range(length - lag):
                covariance[t + lag, :, t] = block
                covariance[t, :, t + lag] = block.T
            ahead = self.transition @ ahead
        flat = covariance.view(length * c, length * c) + self.noise**2 * torch.eye(length * c, dtype=torch.float64)
        mean = torch.as_tensor(self.level, dtype=torch.float64).expand(c).repeat(length)
        return mean, flat


def autoregression(
    coefficients: Sequence[float], deviation: float, level: float = 0.0, noise: float = 0.0
) -> StateSpace:
    """y_t - level = sum_k a_k (y_{t-k} - level) + w_t of coefficients a_1, a_2, .., with w of this standard deviation."""
    positive("deviation", deviation)
    if not len(coefficients):
        raise InputError("an autoregression needs a coefficient")
    order = len(coefficients)
    transition = np.eye(order, k=-1)
    transition[0] = coefficients
    driving = np.zeros((order, order))
    driving[0, 0] = deviation**2
    return StateSpace(
        torch.from_numpy(transition), torch.from_numpy(driving), torch.eye(order, dtype=torch.float64)[:1], level, noise
    )


def window_law(
    regimes: StateSpace | Sequence[StateSpace], length: int, weights: Sequence[float] | None = None
) -> GaussianMixture:
    """The law of windows (length, C) that are each of one of these processes, with these probabilities (equal ones by default).

    Raises InputError for regimes with different numbers of channels.
    """
    each = [regimes] if isinstance(regimes, StateSpace) else list(regimes)
    if not each or any(regime.channels != each[0].channels for regime in each):
        raise InputError("regimes of a window's law must be at least one, with as many channels each")
    means, covariances = (
        torch.stack(parts) for parts in zip(*(regime.moments(length) for regime in each), strict=True)
    )
    values, vectors = torch.linalg.eigh(covariances)
    chances = torch.ones(len(each)) if weights is None else torch.as_tensor(weights)
    return GaussianMixture(
        chances.double(),
        means,
        vectors,
        values.clamp_min(0),
        torch.zeros(len(each)).double(),
        (length, each[0].channels),
    )


def forecast_law(windows: GaussianMixture, past: Tensor, noise: float = 0.0) -> GaussianMixture:
    """The exact law of whole windows (T, *frame) given their first times `past` (p, *frame), measured with this noise."""
    first = past.numel()
    matrix = torch.eye(windows.dim, dtype=torch.float64)[:first]
    return LinearPosterior(windows, matrix, noise).given(past)
