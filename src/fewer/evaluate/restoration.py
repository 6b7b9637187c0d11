"""What a restoration method is worth, in four figures that only mean something together.

One that is consistent and looks like the data must draw from the posterior; a deterministic one can look so only by being
erratic. So consistency, perception, diversity and sensitivity are measured at once, on the same measurements.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.evaluate.distances.energy import energy_distance
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import student
from fewer.registry import part

LEAST = 16  # samples: half of them are measured

Estimator = Callable[[Tensor, int], Tensor]  # measurements (n, ...) and a seed -> restored samples (n, *shape)
Measurement = Callable[[Tensor], Tensor]  # samples (n, *shape) -> measurements (n, ...)


@dataclass(frozen=True)
class Restoration:
    """Four figures with 95 % intervals; x^ is what the method makes of y.

    consistency  E |A(x^) - y|^2, in the measurements' unit squared: 0 where x^ explains y; of k measurements with noise of
                 variance s^2 a sampler of the posterior has k s^2
    perception   energy distance of x^ to the data, in the samples' unit: 0, up to its interval, where their laws are one
    diversity    E |x^ - x^'|^2 / 2 of two seeds and the same y, the variance that is left given y, in the samples' unit squared:
                 0 for a deterministic method, and for a sampler of the posterior the least possible error E |x - E[x | y]|^2
    sensitivity  E |x^(y + e) - x^(y)| / |e| of one seed, e small and of any direction
    """

    consistency: Interval
    perception: Interval
    diversity: Interval
    sensitivity: Interval


@part(
    "restoration",
    title="Consistency, perception, diversity and sensitivity of a restoration method together",
    source="Ohayon et al. 2022, arXiv:2211.08944",
    papers=(31,),
    role="procedure",
)
def restoration(
    estimator: Estimator, measure: Measurement, x: Tensor, noise: float = 0.0, step: float = 1e-3, seed: int = 0
) -> Restoration:
    """The four figures of `estimator` on y = A(x) + noise e.

    estimator  (y, seed) -> x^ (n, *shape), called three times; its draws are a function of the seed and of the sample's place, and
               a deterministic one ignores it
    measure    A
    x          samples (n, *shape) of the data: the first half is measured, the other is what x^ is held against
    noise      standard deviation of the measurements' noise, in their unit
    step       length of e, in root mean square distances of the measurements from their mean

    If the laws of x^ and x are one (perception 0) and A(x^) = y (consistency 0, of noise-free y), then x^ given y has the law of x
    given y, so that the diversity is that of the posterior: 0 only where y says all of x (Ohayon et al., theorem). So a
    deterministic method with both at 0 cannot be; the nearer it comes, the greater its sensitivity.
    Raises InputError below 16 samples, for noise below 0, step not above 0, measurements that are all equal, and estimates that are
    not finite or of another shape.
    """
    if len(x) < LEAST or not x.isfinite().all():
        raise InputError(f"x must hold at least {LEAST} finite samples, got {len(x)}")
    if not 0 <= noise < math.inf or not 0 < step < math.inf:
        raise InputError(f"noise must be at least 0 and step above 0, got {noise} and {step}")
    own, first_seed, second_seed = (int(n) for n in np.random.SeedSequence(seed).generate_state(3))
    generator = torch.Generator().manual_seed(own)  # of no stream that x or the method may have been drawn from
    x = x.detach().double()
    measured, data = x.tensor_split(2)
    clean = measure(measured)
    y = clean + noise * _normal(clean, generator)
    spread = float((y - y.mean(0)).flatten(1).square().sum(1).mean().sqrt())
    if not 0 < spread < math.inf:
        raise InputError("measure must give finite measurements that differ")
    e = _normal(y, generator)
    length = step * spread
    e = e * (length / _lengths(e)).reshape(-1, *[1] * (e.ndim - 1))

    def restored(y: Tensor, seed: int) -> Tensor:
        made = estimator(y, seed).detach().double()
        if made.shape != measured.shape or not made.isfinite().all():
            raise InputError(f"estimator must return finite samples {tuple(measured.shape)}, got {tuple(made.shape)}")
        return made

    first, second, moved = restored(y, first_seed), restored(y, second_seed), restored(y + e, first_seed)
    perception: Interval = energy_distance(first.flatten(1), data.flatten(1))
    return Restoration(
        consistency=student((_lengths(measure(first) - y) ** 2).tolist()),
        perception=perception,
        diversity=student((_lengths(first - second) ** 2 / 2).tolist()),
        sensitivity=student((_lengths(moved - first) / length).tolist()),
    )


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.device)


def _lengths(x: Tensor) -> Tensor:
    """Euclidean length of each row (n,)."""
    return x.flatten(1).square().sum(1).sqrt()
