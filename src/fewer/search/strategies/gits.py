"""The cheapest way through fine trajectories: levels by dynamic programming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fewer.errors import InputError
from fewer.registry import part
from fewer.search.objective import Objective
from fewer.search.on_levels import LevelStrategy, solvers
from fewer.search.space import Space
from fewer.search.trajectory import Trajectory, guidance_of, reference_trajectories

Matrix = NDArray[np.float64]
Metric = Literal["l1", "l2", "deviation"]


@part(
    "dynamic-program",
    title="Levels of the least sum of local errors, by dynamic programming over fine trajectories",
    source="Chen et al. 2024, On the trajectory regularity of ODE-based diffusion sampling (GITS), arXiv:2405.11326",
)
@dataclass(frozen=True)
class DynamicProgram(LevelStrategy):
    """cost[i, j] is the mean error of one Euler step in s from level i of the teacher's trajectories to level j, and

        V_1(i) = cost[i, end],      V_k(i) = min_{j > i} cost[i, j] + gamma V_{k-1}(j)

    the least cost of the k steps that are left; `gamma` above 1 lets later steps weigh more. The path from the start
    gives the levels, which are played with each of a few multistep solvers. States are x / alpha = D + s eps, and the
    metric is the distance in l1 or l2 or, as the authors' code has it by default, by how much farther the step ends
    from the line between the trajectory's two ends than the teacher does. Their teacher is a multistep solver on 60
    steps of the EDM grid and the path ends at its cleanest level; here it is the reference solution's solver, regular in
    log s, and the path ends at level 0. Costs `levels` calls for each of `noises` noises, and one play of each solver.
    """

    name = "dynamic-program"

    levels: int = 61
    noises: int = 64
    gamma: float = 1.15
    metric: Metric = "deviation"

    def levels_for(self, objective: Objective, space: Space, seed: int) -> Mapping[str, Sequence[float]]:
        """The levels of the cheapest path, for every solver."""
        trajectory = reference_trajectories(objective, guidance_of(space), max(self.levels, space.calls), self.noises)
        path = cheapest_path(euler_costs(trajectory, self.metric), space.calls, self.gamma)
        return dict.fromkeys(solvers(space), trajectory.taus[path[:-1]].tolist())


def euler_costs(trajectory: Trajectory, metric: Metric) -> Matrix:
    """(N + 1, N + 1): mean over the samples of what one Euler step from level i to j > i is wrong by; inf elsewhere.

    In the flow frame the step is x_i + (tau_j - tau_i) u_i, and x / alpha is x / (1 - tau).
    """
    n = len(trajectory.taus)
    costs = np.full((n, n), np.inf)
    taus = torch.from_numpy(trajectory.taus).float()
    for i in range(n - 1):
        ends = trajectory.states[i] + (taus[i + 1 :] - taus[i])[:, None, None] * trajectory.outputs[i]
        scale = (1 - taus[i + 1 :])[:, None, None]
        if metric == "deviation":
            errors = deviation(ends / scale, trajectory) - deviation(trajectory.states[i + 1 :] / scale, trajectory)
        else:
            errors = torch.linalg.vector_norm((ends - trajectory.states[i + 1 :]) / scale, ord=int(metric[1]), dim=2)
        costs[i, i + 1 :] = errors.mean(1).numpy()
    return costs


def deviation(states: Tensor, trajectory: Trajectory) -> Tensor:
    """Distances (k, n) of states x / alpha (k, n, d) from the line through the trajectory's two ends."""
    # alpha times the difference of the ends, so that it is finite where the start is pure noise
    line = trajectory.states[0] - (1 - float(trajectory.taus[0])) * trajectory.states[-1]
    direction = line / torch.linalg.vector_norm(line, dim=1, keepdim=True)
    away = states - trajectory.states[-1]
    along = (away * direction).sum(2, keepdim=True)
    return torch.linalg.vector_norm(away - along * direction, dim=2)


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
