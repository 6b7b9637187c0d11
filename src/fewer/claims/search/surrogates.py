"""What the papers of surrogate models claim, on functions that are known: many dimensions, and points far from the data."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy import stats

from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import geometric_mean, mean
from fewer.search.blackbox.bayesian import Bayesian
from fewer.search.blackbox.kernels import networks
from fewer.search.blackbox.nngp import NNGP, NNGPStudentT
from fewer.search.blackbox.optimizer import Vector, queries
from fewer.search.blackbox.process import Posterior, StudentT, likeliest

MANY, PLAYS, FUNCTIONS = 20, 40, 32
REGRESSIONS, POINTS, TESTS, WAVES = 40, 10, 400, 4
LEAST = 0.397887  # of Branin's function


def embedded(seed: int) -> Callable[[Vector], float]:
    """Branin's function of two random directions of the box's many, less its least value."""
    directions = np.linalg.qr(np.random.default_rng(seed).normal(size=(MANY, 2)))[0]

    def value(x: Vector) -> float:
        u, v = np.clip(0.5 + (x - 0.5) @ directions, 0, 1).tolist()
        a, b = 15 * u - 5, 15 * v
        bowl = (b - 5.1 / (4 * math.pi**2) * a**2 + 5 / math.pi * a - 6) ** 2
        return float(bowl + 10 * (1 - 1 / (8 * math.pi)) * math.cos(a) + 10 - LEAST)

    return value


def regret(strategy: Bayesian, seed: int, sign: float = 1.0) -> float:
    """The least value of so many plays from a random start; the search is for that of the function times the sign."""
    f, walk = embedded(seed), queries(strategy.optimizer(np.random.default_rng(seed).random(MANY)), seed)
    query, values = next(walk), list[float]()
    for _ in range(PLAYS):
        values.append(f(query.x))
        query = walk.send(sign * values[-1])
    return min(values)


@claim(
    "nngp/many-dimensions",
    statement=f"In {MANY} dimensions its regret after {PLAYS} plays is below that of Bayesian optimisation with a Matern kernel "
    "(geometric mean of the ratios).",
    baseline=f"bayesian from the same start; Branin's function of 2 random directions of {MANY}, {FUNCTIONS} of them",
    below=1.0,
)
def many(seed: int, sabotage: bool) -> Measured:
    """The broken variant looks for the largest value."""
    seeds = range(FUNCTIONS * seed, FUNCTIONS * (seed + 1))
    sign = -1.0 if sabotage else 1.0
    return Measured(geometric_mean([regret(NNGP(), k, sign) / regret(Bayesian(), k) for k in seeds]))


def surprise(posterior: Posterior, x: Vector, y: Vector) -> float:
    """Mean negative log density of values y (m,) at points x (m, d)."""
    location, scale = posterior(x)
    unit = stats.t(posterior.freedom) if isinstance(posterior, StudentT) else stats.norm
    return float((np.log(scale) - unit.logpdf((y - location) / scale)).mean())


def outside(prior: tuple[float, float], seed: int) -> float:
    """The surprise of the process with this prior of its scale less the Gaussian process's, far from the data: of a sum of waves in
    the plane that is seen in the middle of the box, at points around it.
    """
    rng = np.random.default_rng(seed)
    waves, phases, sizes = 4 * rng.normal(size=(WAVES, 2)), 2 * math.pi * rng.random(WAVES), rng.normal(size=WAVES)
    x, far = 0.25 + 0.5 * rng.random((POINTS, 2)), rng.random((TESTS, 2))
    far = far[(np.abs(far - 0.5) > 0.25).any(1)]
    seen, unseen = (np.sin(each @ waves.T + phases) @ sizes for each in (x, far))
    y, values = ((each - seen.mean()) / seen.std() for each in (seen, unseen))
    t, normal = (likeliest(networks(), x, y, each) for each in (prior, None))
    return surprise(t, far, values) - surprise(normal, far, values)


@claim(
    "nngp-student-t/outside",
    statement="Far from the data a Student-t process is less surprised than the Gaussian process with the same networks for "
    "kernels: mean difference of the negative log densities.",
    baseline=f"the Gaussian process of the likeliest scale; {REGRESSIONS} sums of {WAVES} waves in the plane, {POINTS} points in "
    "the middle of the box, tests around it",
    below=0.0,
)
def robust(seed: int, sabotage: bool) -> Measured:
    """The broken variant is sure of a scale that is a thousand times too small."""
    strategy = NNGPStudentT()
    prior = (1e4, 10.0) if sabotage else (strategy.a, strategy.b)
    return Measured(mean([outside(prior, REGRESSIONS * seed + k) for k in range(REGRESSIONS)]))
