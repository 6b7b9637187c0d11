"""Particle Gibbs on a linear and Gaussian series, whose smoothing law the Kalman smoother gives exactly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.repeated import mean
from fewer.dynamic.particle_gibbs import particle_gibbs

LAST, RUNS, PARTICLES, SWEEPS, BURN_IN = 20, 1500, 10, 8, 2
AS_DEAR = round(PARTICLES * math.sqrt(SWEEPS + 1))  # particles of one run with as many densities of moves


@dataclass(frozen=True)
class Linear:
    """x_t = a x_{t-1} + q z, seen as y_t = x_t + r z, on a line; x_0 of the stationary law."""

    y: Tensor
    a: float = 0.9
    q: float = 0.6
    r: float = 0.3

    @property
    def first(self) -> float:
        """Deviation of x_0."""
        return self.q / math.sqrt(1 - self.a**2)

    def initial(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        """Of the stationary law."""
        return self.first * torch.randn(*shape, 1, dtype=torch.float64, generator=generator)

    def move(self, x: Tensor, t: int, generator: torch.Generator) -> Tensor:
        """A step of the series."""
        return self.a * x + self.q * torch.randn(x.shape, dtype=torch.float64, generator=generator)

    def log_move(self, before: Tensor, x: Tensor, t: int) -> Tensor:
        """Of the step."""
        return -((x - self.a * before)[..., 0] ** 2) / (2 * self.q**2)

    def log_weight(self, x: Tensor, t: int) -> Tensor:
        """Of what was seen."""
        return -((x[..., 0] - self.y[t]) ** 2) / (2 * self.r**2)

    def smoothing(self) -> tuple[Tensor, Tensor]:
        """Mean (T + 1,) and covariance (T + 1, T + 1) of the states given all that was seen, by the series' precision."""
        n = len(self.y)
        precision = torch.zeros(n, n, dtype=torch.float64)
        precision[0, 0] = 1 / self.first**2
        for t in range(1, n):
            step = torch.zeros(n, dtype=torch.float64)
            step[t - 1], step[t] = -self.a, 1.0
            precision += torch.outer(step, step) / self.q**2
        covariance = torch.linalg.inv(precision + torch.eye(n, dtype=torch.float64) / self.r**2)
        return covariance @ (self.y / self.r**2), covariance

    @classmethod
    def drawn(cls, seed: int) -> Linear:
        """A series of this kind, and what was seen of it."""
        own, generator = cls(torch.zeros(LAST + 1, dtype=torch.float64)), torch.Generator().manual_seed(seed)
        states = [own.initial((1,), generator)]
        for t in range(1, LAST + 1):
            states.append(own.move(states[-1], t, generator))
        noise = torch.randn(LAST + 1, dtype=torch.float64, generator=generator)
        return cls(torch.cat(states).flatten() + own.r * noise)


def products(t: int, before: Tensor | None, x: Tensor) -> Tensor:
    """x_{t-1} x_t, the sum of which a learner of `a` needs."""
    return torch.zeros_like(x[..., 0]) if before is None else (before * x)[..., 0]


@claim(
    "particle-gibbs/bias",
    statement=f"Of the mean of sum x_t-1 x_t given a series, {SWEEPS} sweeps of {PARTICLES} particles ({BURN_IN} burnt) leave "
    f"less than half of the bias that one run of PaRIS of the same cost has: the share left, mean of {RUNS} runs; beside, of "
    f"one run with {PARTICLES * (SWEEPS + 1)} particles, which draws as many states in all and takes nine times as many densities.",
    baseline=f"PaRIS with {AS_DEAR} particles, which takes as many densities of moves; exact smoothing of a Gaussian series",
    above=-0.5,
    below=0.5,
    tier="full",
)
def bias(seed: int, sabotage: bool) -> Measured:
    """The broken variant keeps no path."""
    model = Linear.drawn(seed)
    centre, covariance = model.smoothing()
    truth = float((centre[:-1] * centre[1:] + covariance.diagonal(1)).sum())

    def errors(particles: int, sweeps: int, number: int) -> Tensor:
        found = particle_gibbs(
            model,
            products,
            LAST,
            particles,
            sweeps,
            burn_in=BURN_IN if sweeps else 0,
            runs=RUNS,
            seed=4 * seed + number,
        )
        return found.estimate - truth

    its, many = errors(AS_DEAR, 0, 0), errors(PARTICLES * (SWEEPS + 1), 0, 1)
    mine = errors(PARTICLES, 0, 2) if sabotage else errors(PARTICLES, SWEEPS, 3)
    beside: Beside = {
        "truth": truth, "bias": mean(mine.tolist()), "its bias": mean(its.tolist()), "with more": mean(many.tolist()),
        "mean square": mean(mine.square().tolist()), "its mean square": mean(its.square().tolist()),
        "with more, mean square": mean(many.square().tolist()),
    }  # fmt: skip
    return Measured(mean((mine / float(its.mean())).tolist()), beside)
