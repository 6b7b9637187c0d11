"""Levels that share the local error out equally, after the principle of equidistribution."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fewer.grids import Levels
from fewer.levels import s_of_tau
from fewer.registry import find, part
from fewer.search.objective import Objective
from fewer.search.on_levels import LevelStrategy, solvers
from fewer.search.space import Space
from fewer.search.trajectory import Trajectory, from_the_start, guidance_of, log_range, reference_trajectories


@part(
    "equidistributed",
    title="Levels of equal integrals of the local error's (p+1)-th root along fine trajectories",
    source="de Boor 1973, doi:10.1007/978-3-0348-5979-0_3; the principle of Hu et al. 2024, DMM, in one "
    "dimension, arXiv:2312.05583",
    papers=(316,),
)
@dataclass(frozen=True)
class Equidistributed(LevelStrategy):
    """A step of length h in lambda = -log s has the local error c D^(p) h^(p+1) in D + s eps, where p is the solver's
    order and D^(p) the p-th derivative of the data prediction along the flow. Where data vary by v in a direction, the
    flow of a Gaussian scales an error there by (v / (v + s^2))^(1/2) on its way to the samples. So equal errors of the
    samples are equal integrals of

        M(lambda) = (mean sum_k v_k / (v_k + s^2) <e_k, D^(p)>^2)^(1 / (2 p + 2)),
        int_{lambda_i}^{lambda_{i+1}} M = 1/n int M

    from the start to the cleanest trained level, where the last step goes on to level 0; e_k are the principal
    directions of the search's reference solutions. D^(p) is a divided difference of outputs that lie `width` apart in log s,
    since trained networks are rough in their time; `floor` times its mean is added to M, so that steps where little
    happens stay bounded. Costs `levels` calls for each of `noises` noises, and one play of each solver tried.
    """

    name = "equidistributed"

    levels: int = 64
    noises: int = 64
    width: float = 0.4
    floor: float = 0.1

    def levels_for(self, objective: Objective, space: Space, seed: int) -> Mapping[str, Sequence[float]]:
        """Levels for each solver by its order."""
        trajectory = reference_trajectories(objective, guidance_of(space), self.levels, self.noises)
        spread = Spread.of(objective.target.flatten(1).cpu())
        taus = {}
        for solver in solvers(space):
            grid, density = self.density(trajectory, spread, find("solvers", solver).make().order)
            log_levels = equidistribute(grid, density, log_range(space.model), space.calls)
            taus[solver] = from_the_start(space.model, log_levels[:-1])
        return taus

    def density(self, trajectory: Trajectory, spread: Spread, order: int) -> tuple[Levels, Levels]:
        """Log s, falling, and M there with its floor, for a solver of this order."""
        log_s, density = monitor(trajectory, spread, order, self.width)
        return log_s, density + self.floor * density.mean()


@dataclass(frozen=True)
class Spread:
    """Variances (k,) of samples along their principal directions (k, d); in all others they have the least of them."""

    variances: Tensor
    directions: Tensor

    @classmethod
    def of(cls, samples: Tensor) -> Spread:
        """The spread of samples (n, d)."""
        n = len(samples)
        _, lengths, directions = torch.linalg.svd((samples - samples.mean(0)).double(), full_matrices=False)
        kept = lengths > 1e-6 * lengths[0]
        return cls(lengths[kept].square() / max(n - 1, 1), directions[kept])

    def arriving(self, errors: Tensor, s: float) -> float:
        """Mean square of what the flow makes, from level s on, of errors (n, d) in D + s eps."""
        along = (errors.double() @ self.directions.T).square().mean(0)
        rest = errors.double().square().mean(0).sum() - along.sum()
        gains = self.variances / (self.variances + s**2)
        return float((gains * along).sum() + gains.min() * rest.clamp(min=0)) / errors.shape[1]


def monitor(trajectory: Trajectory, spread: Spread, order: int, width: float) -> tuple[Levels, Levels]:
    """Log s, falling, and M there, without its floor, for a solver of this order."""
    inner = trajectory.taus[:-1] < 1
    log_s = np.log(s_of_tau(trajectory.taus[:-1][inner]))
    differences = trajectory.data[torch.from_numpy(inner)]
    stride = max(1, round(width / float(np.mean(-np.diff(log_s)))))
    stride = min(stride, (len(log_s) - 1) // (order + 1))
    middles = log_s
    for p in range(1, order + 1):
        gaps = torch.from_numpy((log_s[: -p * stride] - log_s[p * stride :]) / p).to(differences.dtype)
        differences = (differences[:-stride] - differences[stride:]) / gaps[:, None, None]
        middles = (middles[:-stride] + middles[stride:]) / 2
    square = np.array([spread.arriving(d, math.exp(at)) for d, at in zip(differences, middles, strict=True)])
    return middles, square ** (1 / (2 * order + 2))


def equidistribute(log_s: Levels, density: Levels, span: tuple[float, float], n: int) -> Levels:
    """The n + 1 falling values of log s, from span[0] to span[1], between which the density has equal integrals.

    The density is linear between its nodes `log_s` (falling) and constant beyond them; its integral is inverted on
    1024 pieces, on each of which it is taken as constant.
    """
    edges = np.linspace(*span, 1025)
    middles = (edges[1:] + edges[:-1]) / 2
    mass = np.interp(middles, log_s[::-1], density[::-1])
    total = np.concatenate([[0.0], np.cumsum(mass)])
    if not math.isfinite(total[-1]) or total[-1] <= 0:
        return np.linspace(*span, n + 1)
    return np.interp(np.linspace(0, total[-1], n + 1), total, edges)
