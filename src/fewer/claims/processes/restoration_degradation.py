"""A diffusion in a double well, whose law at every time is known: the probability flow carries quantiles to quantiles."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import geometric_mean
from fewer.processes.restoration_degradation import RestorationDegradation

WELLS, QUANTILES, END, GRID, WIDE = 6, 200, 0.5, 600, 3.2
FEW, MANY = 20, 320  # calls
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Well:
    """dx = -V'(x) dt + sqrt(2) dw with V = depth (x^2 - 1)^2 / 4, from two Gaussians, on a grid of the line.

    The generator is symmetric under the stationary law pi ~ exp(-V): with its eigenvectors the density at time t is
    sqrt(pi) U exp(-l t) U' (p_0 / sqrt(pi)).
    """

    seed: int

    @cached_property
    def numbers(self) -> tuple[float, Array, Array, float]:
        """The depth, and the means, weights and deviation of the data."""
        rng = np.random.default_rng(self.seed)
        weight = rng.uniform(0.3, 0.7)
        return rng.uniform(2, 5), rng.uniform((-1.2, 0.0), (-0.4, 0.9)), np.array([weight, 1 - weight]), 0.25

    @property
    def depth(self) -> float:
        """Of the well."""
        return self.numbers[0]

    @cached_property
    def grid(self) -> Array:
        """Points."""
        return np.linspace(-WIDE, WIDE, GRID)

    @cached_property
    def spectrum(self) -> tuple[Array, Array, Array]:
        """Eigenvalues (GRID,), eigenvectors and sqrt(pi)."""
        x, h = self.grid, self.grid[1] - self.grid[0]
        log_pi = -self.depth * (x**2 - 1) ** 2 / 4
        between = np.exp((log_pi[1:] + log_pi[:-1]) / 2) / h**2  # of the flux over each edge
        diagonal = (np.append(between, 0) + np.append(0, between)) / np.exp(log_pi)
        off = -between / np.exp((log_pi[1:] + log_pi[:-1]) / 2)
        values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(off, 1) + np.diag(off, -1))
        return values, vectors, np.exp(log_pi / 2)

    @cached_property
    def data(self) -> Array:
        """The density of the data on the grid."""
        _, means, weights, deviation = self.numbers
        found: Array = (weights * np.exp(-(((self.grid[:, None] - means) / deviation) ** 2) / 2)).sum(1)
        return found / found.sum()

    @cached_property
    def coefficients(self) -> Array:
        """Of the data in the eigenvectors."""
        _, vectors, root = self.spectrum
        found: Array = vectors.T @ (self.data / root)
        return found

    def density(self, t: float) -> Array:
        """On the grid."""
        values, vectors, root = self.spectrum
        found = self.data if t == 0 else root * (vectors @ (np.exp(-values * t) * self.coefficients))
        return found / found.sum()

    def quantiles(self, t: float, u: Array) -> Array:
        """Of the law at a time."""
        below = np.cumsum(self.density(t))
        below = below - np.diff(np.append(0, below)) / 2
        found: Array = np.interp(u, below, self.grid)
        return found

    def score(self, x: Tensor, t: float) -> Tensor:
        """d log p / dx, of a spline through log p where there is mass."""
        p = self.density(t)
        there = p > 1e-12 * p.max()
        slope = CubicSpline(self.grid[there], np.log(p[there])).derivative()
        return torch.from_numpy(slope(np.clip(x.numpy(), self.grid[there][0], self.grid[there][-1])))

    def flow(self, x: Tensor, t: float, there: float) -> Tensor:
        """x' = -depth x (x^2 - 1), in closed form: x^2 follows the logistic law."""
        square = x.square()
        return x / (square + (1 - square) * np.exp(-2 * self.depth * (there - t))).clamp(min=1e-9).sqrt()

    @property
    def process(self) -> RestorationDegradation:
        """The sampler."""
        return RestorationDegradation(self.flow, lambda s, t: float(np.sqrt(2 * (t - s))), self.score)


@dataclass(frozen=True, eq=False)
class PointingAway(RestorationDegradation):
    """The noise of the degradation leads away from where the state was."""

    def step(self, x: Tensor, t: float, there: float, back: float) -> Tensor:
        """The step with the noise's sign turned."""
        right = super().step(x, t, there, back)
        return right + 2 * self.deviation(back, there) * self.deviation(back, t) * self.score(x, t)


def ends(well: Well) -> tuple[Tensor, Tensor]:
    """Even quantiles of the law at the end and of the data: where the exact flow carries the ones to the others."""
    u = (np.arange(QUANTILES) + 0.5) / QUANTILES
    return torch.from_numpy(well.quantiles(END, u)), torch.from_numpy(well.quantiles(0.0, u))


def times(calls: int) -> list[float]:
    """Even ones, from the end to the data."""
    return np.linspace(END, 0.0, calls + 1).tolist()


def distance(x: Tensor, y: Tensor) -> float:
    """Root mean squared, which of quantiles is the Wasserstein-2 distance."""
    return float((x - y).square().mean().sqrt())


def error(well: Well, calls: int, sabotage: bool) -> float:
    """Of the sampler's samples to where the exact flow carries them."""
    start, exact = ends(well)
    own = well.process
    sampler = PointingAway(own.flow, own.deviation, own.score) if sabotage else own
    return distance(sampler.sample(start, times(calls)), exact)


def euler_error(well: Well, calls: int) -> float:
    """Of Euler's method for the probability flow x' = f - score."""
    x, exact = ends(well)
    for t, there in pairwise(times(calls)):
        drift = -well.depth * x * (x.square() - 1)
        x = x + (there - t) * (drift - well.score(x, t))
    return distance(x, exact)


def wells(seed: int) -> list[Well]:
    """Of a run."""
    return [Well(WELLS * seed + k) for k in range(WELLS)]


@claim(
    "restoration-degradation/converges",
    statement=f"Of a diffusion whose drift is not linear, its error falls with calls: that at {MANY} over that at {FEW}, geometric "
    f"mean over {WELLS} double wells; beside, the errors.",
    baseline=f"the same sampler of {FEW} calls; exact scores, error to where the exact flow leads from the same states",
    below=1.0,
)
def converges(seed: int, sabotage: bool) -> Measured:
    """The broken variant adds the noise with its sign turned."""
    few, many = ([error(well, calls, sabotage) for well in wells(seed)] for calls in (FEW, MANY))
    ratios = [b / a for a, b in zip(few, many, strict=True)]
    return Measured(
        geometric_mean(ratios), {f"{FEW} calls": geometric_mean(few), f"{MANY} calls": geometric_mean(many)}
    )


@claim(
    "restoration-degradation/against-euler",
    statement=f"At {FEW} calls it is nearer to where the exact flow leads than Euler's method for that flow: ratio of errors, "
    f"geometric mean over {WELLS} double wells; beside, at {MANY} calls.",
    baseline="Euler's method for the probability flow, same times, exact scores and states",
    below=1.0,
)
def against_euler(seed: int, sabotage: bool) -> Measured:
    """The broken variant adds the noise with its sign turned."""
    few, many = (
        geometric_mean([error(well, calls, sabotage) / euler_error(well, calls) for well in wells(seed)])
        for calls in (FEW, MANY)
    )
    return Measured(few, {f"{MANY} calls": many})
