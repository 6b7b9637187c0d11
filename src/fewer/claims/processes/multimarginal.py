"""Paths over the simplex of three laws whose conditional means are exact."""

from __future__ import annotations

import torch
from torch import Tensor

from fewer import GaussianMixture
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.repeated import geometric_mean, mean
from fewer.evaluate.distances.energy import energy_distance
from fewer.processes.multimarginal import Multimarginal, SimplexPath

LAWS, FITTED, HELD_OUT, TIMES, STEPS = 5, 256, 1500, 40, 40


def three(seed: int) -> list[GaussianMixture]:
    """Two mixtures of three Gaussians in the plane, and a standard Gaussian."""
    one, flat = torch.ones(1, dtype=torch.float64), torch.eye(2, dtype=torch.float64)[None]
    standard = GaussianMixture(
        one, torch.zeros(1, 2, dtype=torch.float64), flat, torch.ones(1, 2, dtype=torch.float64), one, (2,)
    )
    return [*(GaussianMixture.random(2, 3, seed=2 * seed + k) for k in range(2)), standard]


def draws(laws: list[GaussianMixture], n: int, seed: int) -> Tensor:
    """Independent draws (n, K, d) of all laws."""
    return torch.stack([law.sample(n, 10 * seed + k)[0].flatten(1).double() for k, law in enumerate(laws)], 1)


@claim(
    "multimarginal/cheaper-path",
    statement="A path between two laws that may go by way of a third, chosen on other draws, transports at less cost than the "
    f"straight edge: ratio of int E|b|^2 dt on held-out draws, geometric mean over {LAWS} pairs of mixtures; beside, energy "
    "distances of what both transports make to the second law.",
    baseline="the straight edge between the two corners, same conditional means",
    below=1.0,
    tier="full",
)
def cheaper_path(seed: int, sabotage: bool) -> Measured:
    """The broken variant goes all the way to the third corner and back."""
    ratios: list[float] = []
    distances: dict[str, list[float]] = {"by the path": [], "by the edge": []}
    for number in range(LAWS):
        own = LAWS * seed + number
        laws = three(own)
        process, held_out = Multimarginal.of_mixtures(laws), draws(laws, HELD_OUT, 3 * own + 1)
        edge = SimplexPath.edge(0, 1, 3)
        path = process.cheapest(0, 1, draws(laws, FITTED, 3 * own), iterations=120, seed=own)
        if sabotage:
            path = SimplexPath(0, 1, torch.tensor([[0.0], [0.0], [9.0]], dtype=torch.float64))
        times = (torch.arange(TIMES, dtype=torch.float64) + 0.5) / TIMES
        with torch.no_grad():
            ratios.append(float(process.cost(path, held_out, times) / process.cost(edge, held_out, times)))
            for name, each in (("by the path", path), ("by the edge", edge)):
                made = process.transport(each, held_out[:, 0], STEPS)
                distances[name].append(energy_distance(made, draws(laws, HELD_OUT, 3 * own + 2)[:, 1]).value)
    beside: Beside = {name: mean(each) for name, each in distances.items()}
    return Measured(geometric_mean(ratios), beside)
