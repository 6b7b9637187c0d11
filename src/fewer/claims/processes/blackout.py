"""Blackout diffusion on small laws of counts, whose samples' law is computed without sampling."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import binom, poisson

from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.repeated import geometric_mean
from fewer.processes.blackout import Blackout, FiniteLaw, revival

LAWS, TOP = 8, 24
COARSE, FINE = 64, 256
Array = NDArray[np.float64]
Bridge = Literal["binomial", "nearest", "poisson"]


def random_law(rng: np.random.Generator, top: int = TOP) -> FiniteLaw:
    """A mixture of two Poisson laws of one count, cut off above `top`."""
    low, high = rng.uniform(0.5, 4.0), rng.uniform(8.0, 14.0)
    share = rng.uniform(0.3, 0.7)
    counts = np.arange(top + 1)
    weights = share * poisson.pmf(counts, low) + (1 - share) * poisson.pmf(counts, high)
    return FiniteLaw(torch.arange(top + 1)[:, None], torch.tensor(weights))


def few_values(rng: np.random.Generator, top: int = TOP, values: int = 4) -> FiniteLaw:
    """A law of one count on a few values up to `top`, as a pixel of black and white has it."""
    points = np.sort(rng.choice(top, values, replace=False) + 1)
    return FiniteLaw(torch.tensor(points)[:, None], torch.tensor(rng.dirichlet(np.full(values, 4.0))))


def sampled_law(process: Blackout, law: FiniteLaw, bridge: Bridge = "binomial") -> Array:
    """The exact law (top + 1,) of samples of one count: the matrices of all steps, one after another.

    bridge  binomial (the part's own), nearest (births rounded to the nearest count), poisson (births at the rate times the
            step, cut off at the largest count: tau-leaping)
    """
    top = int(law.points.max())
    p = np.zeros(top + 1)
    p[0] = 1.0
    for t, s in pairwise(reversed(process.times)):
        states = np.flatnonzero(p)
        mean = law.births(torch.from_numpy(states)[:, None], t).flatten().numpy()
        p = p[states] @ _step(states, mean, revival(t, s), top, bridge)
    return p


def _step(x: NDArray[np.int64], mean: Array, q: float, top: int, bridge: Bridge) -> Array:
    """Laws (states, top + 1) of x_s given x_t = x, with these births to come."""
    born, room = np.arange(top + 1)[None] - x[:, None], (top - x)[:, None]
    if bridge == "poisson":
        births = poisson.pmf(born, (mean * q)[:, None])
        return np.where(born == room, poisson.sf(room - 1, (mean * q)[:, None]), births)
    whole = np.round(mean) if bridge == "nearest" else np.floor(mean)
    up = np.zeros_like(mean) if bridge == "nearest" else mean - whole
    least, most = (binom.pmf(born, n[:, None], q) for n in (whole, whole + 1))
    return (1 - up)[:, None] * least + up[:, None] * most


def total_variation(process: Blackout, law: FiniteLaw, bridge: Bridge = "binomial") -> float:
    """Half the sum of differences of the samples' law from the true one."""
    true = np.bincount(law.points.flatten().numpy(), law.weights.numpy())
    return float(np.abs(sampled_law(process, law, bridge) - true).sum() / 2)


def ratios(
    of: Callable[[FiniteLaw], float], to: Callable[[FiniteLaw], float], seed: int,
    draw: Callable[[np.random.Generator], FiniteLaw] = random_law,
) -> Measured:  # fmt: skip
    """The geometric mean over random laws of one total variation over another."""
    rng = np.random.default_rng(seed)
    laws = [draw(rng) for _ in range(LAWS)]
    mine, its = [of(law) for law in laws], [to(law) for law in laws]
    beside: Beside = {"total variation": geometric_mean(mine), "its": geometric_mean(its)}
    return Measured(geometric_mean([a / b for a, b in zip(mine, its, strict=True)]), beside)


@claim(
    "blackout/converges",
    statement=f"The samples' law tends to the true one at first order: total variation at {FINE} steps over that at {COARSE}, "
    "by exact reverse rates; geometric mean over random mixtures of Poisson laws, both laws computed exactly.",
    baseline="its own law at a quarter of the steps",
    below=0.3,
)
def converges(seed: int, sabotage: bool) -> Measured:
    """Sabotage: births are rounded to the nearest count."""
    bridge: Bridge = "nearest" if sabotage else "binomial"
    return ratios(
        lambda law: total_variation(Blackout(FINE), law, bridge),
        lambda law: total_variation(Blackout(COARSE), law, bridge), seed,
    )  # fmt: skip


@claim(
    "blackout/against-leaps",
    statement=f"At {COARSE} steps the binomial bridge is nearer to the true law than Poisson births at the same rates (ratio of "
    "total variations; geometric mean over random laws of one count on four values, all laws computed exactly); beside, on "
    "mixtures of Poisson laws, of which Poisson births are nearly the posterior's.",
    baseline="tau-leaping with the same births and times",
    below=1.0,
)
def against_leaps(seed: int, sabotage: bool) -> Measured:
    """Sabotage: births are rounded to the nearest count."""
    bridge: Bridge = "nearest" if sabotage else "binomial"

    def against(draw: Callable[[np.random.Generator], FiniteLaw]) -> Measured:
        process = Blackout(COARSE)
        return ratios(
            lambda law: total_variation(process, law, bridge),
            lambda law: total_variation(process, law, "poisson"),
            seed,
            draw,
        )

    return against(few_values).with_beside({"on mixtures of Poisson laws": against(random_law).figure})
