"""Claims of the several expectations from one adaptive sample: less error than separate Monte Carlo, and no bias."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import norm
from torch import Tensor

from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import mean
from fewer.evaluate.statistics.expectations import Law, expectations
from fewer.evaluate.statistics.interval import Interval

RUNS, BUDGET = 80, 4000  # repetitions, and evaluations of all functions at once in each
TAIL, D = 3.0, 4
A, B = 7.0, 0.1  # of Ishigami's function


@dataclass(frozen=True)
class Problem:
    """Functions of a law with their expectations (J,), and the standard errors (J,) of separate Monte Carlo for the same cost."""

    functions: Callable[[Tensor], Tensor]
    law: Law
    truth: NDArray[np.float64]
    separate: NDArray[np.float64]


def tails() -> Problem:
    """Chances that each of three coordinates of a mixture of N(1/2, I) and N(-1/2, I) in 4 dimensions exceeds 3: 0.0032."""
    halves = [Law.normal(torch.full((D,), side), torch.eye(D)) for side in (0.5, -0.5)]

    def draw(n: int, generator: torch.Generator) -> Tensor:
        side = torch.rand(n, generator=generator) < 0.5
        up, down = (half.draw(n, generator) for half in halves)
        return torch.where(side[:, None], up, down)

    law = Law(draw, lambda x: torch.stack([half.log_density(x) for half in halves]).logsumexp(0) - math.log(2))
    chance = float(norm.sf(TAIL - 0.5) + norm.sf(TAIL + 0.5)) / 2
    error = math.sqrt(chance * (1 - chance) / (BUDGET / 3))
    return Problem(lambda x: (x[:, :3] > TAIL).double(), law, np.full(3, chance), np.full(3, error))


def ishigami(x: Tensor) -> Tensor:
    """sin x_1 + 7 sin^2 x_2 + 0.1 x_3^4 sin x_1 of x (n, 3) (Ishigami & Homma 1990)."""
    return x[:, 0].sin() * (1 + B * x[:, 2] ** 4) + A * x[:, 1].sin().square()


def sobol() -> Problem:
    """E Y, E Y^2 and E Y Y_i, which give Sobol's first indices: Y_i shares x_i alone with Y; x uniform in (-pi, pi)^3.

    One evaluation of all five takes 4 of Ishigami's function, and 8 where each has its own samples.
    """

    def functions(z: Tensor) -> Tensor:
        own, other = (math.pi * (2 * torch.special.ndtr(z) - 1)).chunk(2, 1)
        y = ishigami(own)
        swapped = [torch.cat([other[:, :i], own[:, i : i + 1], other[:, i + 1 :]], 1) for i in range(3)]
        return torch.stack([y, y.square(), *(y * ishigami(each) for each in swapped)], 1)

    first, second = (1 + B * math.pi**4 / 5) ** 2 / 2, A**2 / 8
    rest, middle = B**2 * math.pi**8 * (1 / 18 - 1 / 50), (A / 2) ** 2
    truth = np.array([A / 2, first + second + rest + middle, first + middle, second + middle, middle])
    law = Law.standard(6)
    spread = functions(law.draw(200_000, torch.Generator().manual_seed(0))).std(0).numpy()
    return Problem(functions, law, truth, spread / np.sqrt(BUDGET * 4 / 5 / np.array([1, 1, 2, 2, 2])))


@cache
def errors(problem: Callable[[], Problem], seed: int, sabotage: bool) -> NDArray[np.float64]:
    """Errors of the estimates (runs, J) in separate Monte Carlo's. Sabotage: weights of a law that is half as wide again."""
    given = problem()
    law = given.law
    if sabotage:
        law = replace(law, log_density=lambda x: given.law.log_density(x / 1.5))
    runs = [expectations(given.functions, law, BUDGET, seed * 1_000_000 + run) for run in range(RUNS)]
    values = np.array([[each.value for each in run.values] for run in runs])
    return (values - given.truth) / given.separate


def root(squares: NDArray[np.float64]) -> Interval:
    """The root of the mean of independent squares (runs,), with the interval of the mean."""
    found = mean(squares.tolist())
    return Interval(math.sqrt(found.value), math.sqrt(max(found.low, 0)), math.sqrt(found.high), found.n)


@claim(
    "adaptive-expectations/against-separate",
    statement="Three chances of 0.3 % under a mixture in 4 dimensions are estimated with a lower RMSE than each from a third of "
    "the evaluations: ratio, over 80 runs of 4,000 evaluations. Beside: the same of the five expectations of Sobol's "
    "indices of Ishigami's function, where nothing is rare",
    baseline="separate plain Monte Carlo of as many evaluations in all, its error in closed form",
    below=1.0,
)
def against_separate(seed: int, sabotage: bool) -> Measured:
    """Root mean square over runs and functions, each in separate Monte Carlo's standard error."""
    found = root((errors(tails, seed, sabotage) ** 2).mean(1))
    return Measured(found, {} if sabotage else {"Ishigami": root((errors(sobol, seed, False) ** 2).mean(1))})


@claim(
    "adaptive-expectations/unbiased",
    statement="The mean error over 80 runs, in standard errors of a run of separate Monte Carlo, is none: within 0.15, of the "
    "three chances. Beside: of the five expectations of Ishigami's function",
    baseline="0",
    above=-0.15,
    below=0.15,
)
def unbiased(seed: int, sabotage: bool) -> Measured:
    """The mean over functions and runs."""
    found = mean(errors(tails, seed, sabotage).mean(1).tolist())
    return Measured(found, {} if sabotage else {"Ishigami": mean(errors(sobol, seed, False).mean(1).tolist())})
