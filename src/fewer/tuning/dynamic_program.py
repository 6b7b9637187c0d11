"""The cheapest way through fine trajectories: levels by dynamic programming."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewer.errors import InputError
from fewer.parts import part
from fewer.tuning.on_levels import SOLVERS, best, free_levels, played, solvers
from fewer.tuning.problem import Problem
from fewer.tuning.space import Space
from fewer.tuning.study import Candidate
from fewer.tuning.trajectory import Trajectory, fine_trajectories

Matrix = NDArray[np.float64]
Metric = Literal["l1", "l2", "deviation"]


@part(
    "dynamic-program",
    title="Levels of the least sum of local errors, by dynamic programming over fine trajectories",
    source="Chen et al. 2024, On the trajectory regularity of ODE-based diffusion sampling (GITS)",
)
@dataclass(frozen=True)
class DynamicProgram:
    """cost[i, j] is the mean error of one Euler step in s from level i of the teacher's trajectories to level j, and

        V_1(i) = cost[i, end],      V_k(i) = min_{j > i} cost[i, j] + gamma V_{k-1}(j)

    the least cost of the k steps that are left; `gamma` above 1 lets later steps weigh more. The path from the start
    gives the levels, which are played with each of a few multistep solvers. States are x / alpha = D + s eps, and the
    metric is the distance in l1 or l2 or, as the authors' code has it by default, by how much farther the step ends
    from the line between the trajectory's two ends than the teacher does. Their teacher is a multistep solver on 60
    steps of the EDM grid and the path ends at its cleanest level; here it is the fine solution's solver, regular in
    log s, and the path ends at level 0. Costs `levels` calls for each of `noises` noises, and one play of each solver.
    """

    levels: int = 61
    noises: int = 64
    gamma: float = 1.15
    metric: Metric = "deviation"

    @property
    def candidates(self) -> int:
        """One a solver."""
        return len(SOLVERS)

    def search(self, problem: Problem, space: Space, done: list[Candidate], seed: int) -> Iterator[Candidate]:
        """Each solver on the levels of the cheapest path."""
        free_levels(space, "dynamic-program")
        if done:
            taus = done[0].state["taus"]
        else:
            way = fine_trajectories(problem, space, max(self.levels, space.calls), self.noises)
            path = cheapest_path(euler_costs(way, self.metric), space.calls, self.gamma)
            taus = {solver: [float(way.taus[i]) for i in path[:-1]] for solver in solvers(space)}
        yield from played(problem, space, taus, "dynamic-program", done)

    def choose(self, done: list[Candidate]) -> Candidate:
        """The best."""
        return best(done)


def euler_costs(way: Trajectory, metric: Metric) -> Matrix:
    """(N + 1, N + 1): mean over the samples of what one Euler step from level i to j > i is wrong by; inf elsewhere.

    In the flow frame the step is x_i + (tau_j - tau_i) u_i, and x / alpha is x / (1 - tau).
    """
    n = len(way.taus)
    costs = np.full((n, n), np.inf)
    taus = torch.from_numpy(way.taus).float()
    deviation = _Deviation.of(way)
    for i in range(n - 1):
        ends = way.states[i] + (taus[i + 1 :] - taus[i])[:, None, None] * way.outputs[i]
        scale = (1 - taus[i + 1 :])[:, None, None]
        if metric == "deviation":
            found = deviation(ends / scale) - deviation(way.states[i + 1 :] / scale)
        else:
            found = torch.linalg.vector_norm((ends - way.states[i + 1 :]) / scale, ord=int(metric[1]), dim=2)
        costs[i, i + 1 :] = found.mean(1).numpy()
    return costs


@dataclass(frozen=True)
class _Deviation:
    """Distance of states x / alpha from the line through a trajectory's ends; directions (n, d) have unit length."""

    end: Tensor
    direction: Tensor

    @classmethod
    def of(cls, way: Trajectory) -> _Deviation:
        # alpha times the difference of the ends, so that it is finite where the start is pure noise
        line = way.states[0] - (1 - float(way.taus[0])) * way.states[-1]
        return cls(way.states[-1], line / torch.linalg.vector_norm(line, dim=1, keepdim=True))

    def __call__(self, states: Tensor) -> Tensor:
        """(k, n, d) -> (k, n)."""
        away = states - self.end
        along = (away * self.direction).sum(2, keepdim=True)
        return torch.linalg.vector_norm(away - along * self.direction, dim=2)


def cheapest_path(costs: Matrix, steps: int, gamma: float = 1.0) -> list[int]:
    """The steps + 1 levels from the first to the last along which cost + gamma (cost + gamma (...)) is least.

    costs[i, j] is infinite for j <= i. Raises InputError for more steps than there are levels to step to.
    """
    n = len(costs)
    if not 1 <= steps < n:
        raise InputError(f"{steps} steps do not fit into {n} levels")
    left = costs[:, -1].copy()
    choices = []
    for _ in range(steps - 1):
        whole = costs + gamma * left
        choices.append(whole.argmin(1))
        left = whole.min(1)
    path = [0]
    for choice in reversed(choices):
        path.append(int(choice[path[-1]]))
    return [*path, n - 1]
