"""Pairs of true samples and measurements, and the scores of posterior samplers on them.

A pair is an exact draw of the joint law of x and y, whether x is of the user's data or of the model itself: y = A x + noise. So the
energy score (`fewer.evaluate.posteriors.energy_scores`) is, on average over pairs, least for the posterior itself, which nobody
needs to know. Where it is known, of mixtures under linear measurements, scores are energy distances to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewer.arguments import as_data
from fewer.engine import sample
from fewer.errors import InputError, NotFinite
from fewer.evaluate.posteriors import energy_distances, energy_scores
from fewer.evaluate.reference import reference_plan
from fewer.models.linear_posterior import LinearPosterior
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.noise import Draw, Stream, unit_noise
from fewer.plan import Plan
from fewer.tasks.inverse import PosteriorSampler
from fewer.tasks.inverse.operators import Linear, Operator
from fewer.tasks.inverse.solve import solve

FINE = 64  # calls of the model's own samples, where no data are given
BATCH = 1024
SCORE, DISTANCE = "energy score", "energy distance to the exact posterior"


@dataclass(frozen=True, eq=False)
class Pairs:
    """True samples x (B, *shape), measurements y (B, *measured) of them, and their exact posteriors where they are known."""

    x: Tensor
    y: Tensor
    posteriors: Sequence[GaussianMixture] = ()

    def part(self, rows: slice) -> Pairs:
        """Some of them."""
        return Pairs(self.x[rows], self.y[rows], self.posteriors[rows])


@dataclass(frozen=True, eq=False)
class Case:
    """An inverse problem with pairs: scores of methods on it.

    each, seed  samples a measurement, and their noise
    batch       samples of a network call
    """

    model: Model
    operator: Operator
    noise: float | Tensor
    pairs: Pairs
    each: int
    seed: int
    batch: int = BATCH

    @property
    def size(self) -> int:
        """Samples that a score takes."""
        return len(self.pairs.x) * self.each

    def samples(self, plan: Plan | int, method: PosteriorSampler) -> Tensor:
        """(B, each, *shape)."""
        found = solve(
            self.model, self.operator, self.pairs.y, plan=plan, method=method, noise=self.noise, n=self.each, seed=self.seed,
            batch=self.batch,
        )  # fmt: skip
        return found.samples

    def scores(self, plan: Plan | int, method: PosteriorSampler) -> Tensor:
        """Energy distances to the exact posteriors where these are known, else energy scores (B,); infinite where samples are not
        finite.
        """
        try:
            return self.of_samples(self.samples(plan, method))
        except NotFinite:
            return torch.full((len(self.pairs.x),), math.inf, dtype=torch.float64)

    def of_samples(self, samples: Tensor) -> Tensor:
        """Likewise, of samples (B, each, *shape)."""
        if self.pairs.posteriors:
            return energy_distances(samples, self.pairs.posteriors, self.seed)
        return energy_scores(samples, self.pairs.x)


def made_pairs(
    model: Model, operator: Operator, noise: float | Tensor, n: int, seed: int, data: Any = None, exact: bool = True
) -> Pairs:
    """N pairs of `data`, or else of the model's own samples.

    data   true samples (N, *shape), a folder or .npz of images
    exact  whether posteriors are given where they are known

    Raises InputError for fewer data than n.
    """
    given = as_data(data, model)
    if given is None:
        x = _own(model, n, seed)
    elif len(given) < n:
        raise InputError(f"data holds {len(given)} samples; {n} are needed, half of them held out (fewer pairs=)")
    else:
        x = given[torch.randperm(len(given), generator=torch.Generator().manual_seed(seed))[:n]].cpu()
    y = _measured(operator, x, noise, seed)
    known = exact and given is None and is_exact(model, operator)
    return Pairs(x, y, _posteriors(model, operator, noise, y) if known else ())


def is_exact(model: Model, operator: Operator) -> bool:
    """Whether posteriors are known in closed form."""
    return model.exact is not None and model.classes is None and isinstance(operator, Linear)


def _posteriors(model: Model, operator: Operator, noise: float | Tensor, y: Tensor) -> list[GaussianMixture]:
    assert model.exact is not None
    assert isinstance(operator, Linear)
    deviation = torch.as_tensor(noise, dtype=torch.float64)
    wide = deviation if deviation.ndim == 0 else deviation.expand(operator.measured)
    posterior = LinearPosterior(model.exact, operator.matrix, wide)
    return [posterior.given(each) for each in y]


def _own(model: Model, n: int, seed: int) -> Tensor:
    """Samples of the model itself, float32 on the CPU: exact ones, or those of many calls."""
    if model.exact is not None and model.classes is None:
        return model.exact.sample(n, seed)[0].float().cpu()
    noises = unit_noise(seed, Stream.CALIBRATION.numbers(n), model.shape, device=model.device)
    return sample(model, reference_plan(model, FINE), noise=noises).cpu()


def _measured(operator: Operator, x: Tensor, noise: float | Tensor, seed: int) -> Tensor:
    """Measurements (n, *measured) of x, with noise."""
    with torch.no_grad():
        clean = operator(x)
    e = unit_noise(seed, Stream.CALIBRATION.numbers(len(x)), operator.measured, Draw.PROBE())
    return clean + torch.as_tensor(noise, dtype=torch.float32) * e
