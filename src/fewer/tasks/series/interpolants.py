"""Stochastic interpolants from the present state to the next, whose energy goes the way that the process's own does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import Tensor

from fewer.arguments import as_count
from fewer.errors import InputError, whole
from fewer.noise import Draw, unit_noise
from fewer.registry import part
from fewer.settings import finite, positive
from fewer.tasks.series.states import BATCH, from_states, output

Drift = Callable[[Tensor, Tensor, float], Tensor]
Projection = Callable[[Tensor], Tensor]
POINTS = 65  # of s, at which energies are compared
SMALL = 1e-3  # weight of the coefficients' own squares


def unchanged(x: Tensor) -> Tensor:
    """X itself: no constraint on the states."""
    return x


@part(
    "energy-interpolant",
    title="Stochastic interpolant from one state to the next, with coefficients fitted to the energy between them",
    source="Mücke & Sanderse 2025, Physics-aware generative models for turbulent fluid flows through energy-consistent stochastic "
    "interpolants, arXiv:2504.05852; the forecaster: Chen et al. 2024, Probabilistic Forecasting with Stochastic Interpolants and "
    "Föllmer Processes, arXiv:2403.13724",
    papers=(72,),
    role="procedure",
)
@dataclass(frozen=True)
class Interpolant:
    """I_s = alpha(s) x_0 + beta(s) x_1 + gamma(s) W_s from the present state x_0 (s = 0) to the next x_1 (s = 1), W Brownian:

        alpha = 1 - s + sum_k a_k sin(k pi s)        beta = s + sum_k b_k sin(k pi s)        gamma = noise (1 - s)

    Its law given x_0 is that of dX = b ds + gamma dW from X_0 = x_0 with the drift b(X, x_0, s) = E[R | I_s = X, x_0],
    R = alpha' x_0 + beta' x_1 + gamma' W_s, to which a network is trained by least squares. X_1 is a draw of the next
    state, and the present of the step after.

    a, b   coefficients of the series; empty ones are the usual interpolant
    noise  the standard deviation that gamma begins with, in the data's unit
    """

    a: tuple[float, ...] = ()
    b: tuple[float, ...] = ()
    noise: float = 1.0

    def __post_init__(self) -> None:
        positive("noise", self.noise)
        for number in (*self.a, *self.b):
            finite("a coefficient of an interpolant", number)

    def alpha(self, s: float) -> tuple[float, float]:
        """Alpha and its derivative."""
        value, slope = _series(self.a, s)
        return 1 - s + value, -1 + slope

    def beta(self, s: float) -> tuple[float, float]:
        """Beta and its derivative."""
        value, slope = _series(self.b, s)
        return s + value, 1 + slope

    def gamma(self, s: float) -> tuple[float, float]:
        """Gamma and its derivative."""
        return self.noise * (1 - s), -self.noise

    def pair(self, x0: Tensor, x1: Tensor, z: Tensor, s: float) -> tuple[Tensor, Tensor]:
        """The state I_s and the drift's target R, (n, *frame), by unit noise z: W_s = sqrt(s) z."""
        (a, da), (b, db), (c, dc) = self.alpha(s), self.beta(s), self.gamma(s)
        w = math.sqrt(s) * z
        return a * x0 + b * x1 + c * w, da * x0 + db * x1 + dc * w

    def loss(self, drift: Drift, x0: Tensor, x1: Tensor, z: Tensor, s: float) -> Tensor:
        """|b(I_s, x_0, s) - R|^2 of each pair of states (n,), which a network is trained on."""
        state, target = self.pair(x0, x1, z, s)
        return (drift(state, x0, s) - target).flatten(1).square().sum(1)

    def energies(self, x0: Tensor, x1: Tensor, project: Projection = unchanged) -> Tensor:
        """E|I_s|^2 / 2 at 65 regular s, from pairs (n, *frame) of states; noise is in the space that `project` leaves."""
        s = np.linspace(0, 1, POINTS)
        each = np.array([[self.alpha(t)[0], self.beta(t)[0], self.gamma(t)[0] * math.sqrt(t)] for t in s])
        return torch.from_numpy(_energies(each, *_moments(x0, x1, project)))

    def energy_consistent(self, x0: Tensor, x1: Tensor, terms: int = 3, project: Projection = unchanged) -> Interpolant:
        """The same noise, with coefficients of so many terms whose E|I_s|^2 / 2 goes straight from that of x_0 to that of x_1.

        Straight paths do not: between two states that differ they lose energy, and noise adds some. By least squares over s, from
        pairs of states (n, *frame); no network is played. The SDE's drift then neither makes nor takes energy in expectation
        beyond what the process does: E d|I_s|^2 / 2 = E[<I_s, R> + gamma^2 d / 2] ds is the same at all s.
        """
        whole("terms", terms)
        moments = _moments(x0, x1, project)
        s = np.linspace(0, 1, POINTS)
        waves = np.sin(np.pi * s[:, None] * np.arange(1, terms + 1))
        third = self.noise * (1 - s) * np.sqrt(s)
        wanted = (1 - s) * moments[0] / 2 + s * moments[2] / 2
        scale = max(moments[0], moments[2]) / 2

        def misfit(numbers: np.ndarray) -> np.ndarray:
            each = np.stack([1 - s + waves @ numbers[:terms], s + waves @ numbers[terms:], third], 1)
            return np.concatenate([(_energies(each, *moments) - wanted) / scale, SMALL * numbers])

        found = least_squares(misfit, np.zeros(2 * terms)).x.tolist()
        return replace(self, a=tuple(found[:terms]), b=tuple(found[terms:]))

    def draw(
        self, drift: Drift, start: Tensor, horizon: int, *, steps: int, n: int = 16, seed: int = 0,
        project: Projection = unchanged, batch: int = BATCH,
    ) -> Tensor:  # fmt: skip
        """Draws (B, n, horizon, *frame) of the states after `start` (B, *frame), each step from the one before.

        drift    b(X, x_0, s) of states (n, *frame); `steps` calls a state, by Euler-Maruyama at regular s
        project  onto the states that physics allows, such as fields without divergence: of noise and of each new state
        batch    draws that are made at a time

        Raises InputError for states that are not finite, at the start or on the way, and for what a function returns that is no
        tensor of the states' shape, and ForeignError for what it raises.
        """
        horizon, steps, seed = as_count(horizon, "horizon"), as_count(steps, "steps"), as_count(seed, "seed", 0)

        def after(x: Tensor, numbers: range) -> Tensor:
            done = list[Tensor]()
            unit = partial(unit_noise, seed, numbers, x.shape[1:], device=x.device)
            for time in range(horizon):
                units = [partial(unit, Draw.MOVE(time * steps + k)) for k in range(steps)]
                x = self._next(drift, x, units, project)
                if not bool(x.isfinite().all()):
                    raise InputError(f"the forecast of time {time + 1} is not finite: take more steps")
                done.append(x)
            return torch.stack(done, 1)

        return from_states(start, n, batch, after)

    def _next(self, drift: Drift, x0: Tensor, units: Sequence[Callable[[], Tensor]], project: Projection) -> Tensor:
        """The state (n, *frame) after x_0, by Euler-Maruyama with a step for each unit noise."""
        x, h = x0, 1 / len(units)
        for k, unit in enumerate(units):
            noise = self.gamma(k * h)[0] * math.sqrt(h) * output("the projection", project, x, unit())
            x = x + h * output("the drift", drift, x, x, x0, k * h) + noise
        return output("the projection", project, x, x)


def divergence_free(x: Tensor) -> Tensor:
    """The part without divergence of velocity fields (n, 2, H, W) on a torus: x less the gradient part, in Fourier space."""
    if x.ndim != 4 or x.shape[1] != 2:
        raise InputError(f"velocity fields have shape {tuple(x.shape)}; expected (n, 2, H, W)")
    first, second = wave_numbers(x.shape[2], x.shape[3])
    waves = torch.fft.fft2(x.double())
    along = (first * waves[:, 0] + second * waves[:, 1]) / (first**2 + second**2).clamp_min(1e-30)
    free = torch.stack([waves[:, 0] - first * along, waves[:, 1] - second * along], 1)
    return torch.fft.ifft2(free).real.to(x)


def wave_numbers(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Wave numbers (H, 1) and (1, W) in float64; those of the Nyquist frequency, whose derivative is not real, are 0."""
    found = []
    for size in (height, width):
        k = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64)
        found.append(torch.where(k.abs() * 2 == size, 0.0, k))
    return found[0][:, None], found[1][None]


def _series(coefficients: tuple[float, ...], s: float) -> tuple[float, float]:
    """Sum_k c_k sin(k pi s), and its derivative."""
    value = sum(c * math.sin(k * math.pi * s) for k, c in enumerate(coefficients, 1))
    slope = sum(c * k * math.pi * math.cos(k * math.pi * s) for k, c in enumerate(coefficients, 1))
    return value, slope


def _moments(x0: Tensor, x1: Tensor, project: Projection) -> tuple[float, float, float, float]:
    """E|x_0|^2, E<x_0, x_1>, E|x_1|^2, and E|P z|^2 of unit noise z in the space that is left."""
    if x0.shape != x1.shape or len(x0) < 2 or not bool(x0.isfinite().all() & x1.isfinite().all()):
        raise InputError(
            f"pairs of states are {tuple(x0.shape)} and {tuple(x1.shape)}; expected as many finite ones, at least 2"
        )
    first, second = x0.double().flatten(1), x1.double().flatten(1)
    unit = torch.randn(64, *x0.shape[1:], generator=torch.Generator().manual_seed(0))
    size = float(project(unit).double().flatten(1).square().sum(1).mean())
    found = [float((u * v).sum(1).mean()) for u, v in ((first, first), (first, second), (second, second))]
    return found[0], found[1], found[2], size


def _energies(each: np.ndarray, first: float, both: float, second: float, size: float) -> np.ndarray:
    """E|I_s|^2 / 2 for rows (alpha, beta, gamma sqrt(s))."""
    a, b, c = each.T
    found: np.ndarray = (a**2 * first + 2 * a * b * both + b**2 * second + c**2 * size) / 2
    return found
