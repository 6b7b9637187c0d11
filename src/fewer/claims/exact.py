"""The exact models of images, and the commonest claim: one standard plan against another on them, from equal noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch

from fewer import GaussianMixture, Model, Plan, load, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.reference import Reference
from fewer.evaluate.statistics.interval import Interval
from fewer.models.schedules import Schedule, VarianceExploding, betas, discrete

NOISES, CALLS = 256, 256  # of the comparison, and of its reference


def mixture_of(model: Model) -> GaussianMixture:
    """The mixture that an exact model is of."""
    if not isinstance(model.exact, GaussianMixture):
        raise TypeError(f"{model.name} is not an exact mixture")
    return model.exact


@cache
def images() -> Model:
    """The bundled mixture of 16x16 images under the scaled-linear process, exact."""
    return _exact("scaled_linear")


@cache
def images_by_sigma() -> Model:
    """The same under the variance-exploding process, sigma from 80 to 0.002."""
    return replace(_exact(VarianceExploding(0.002, 80.0)), name="mixture16 by sigma")


def _exact(process: str | Schedule) -> Model:
    exact = mixture_of(load("mixture16")).to(dtype=torch.float32)
    schedule = discrete(betas(process), name=process) if isinstance(process, str) else process
    return Model.from_mixture(exact, schedule, name="mixture16", hash="mixture16")


def conditional(mixture: GaussianMixture, name: str = "mixture", hash: str = "") -> Model:
    """The model of a mixture with classes under the scaled-linear process, with and without labels."""
    schedule = discrete(betas("scaled_linear"), name="scaled_linear")
    return Model.from_mixture(mixture, schedule, conditional=True, name=name, hash=hash)


@cache
def reference(seed: int, by_sigma: bool = False, noises: int = NOISES) -> Reference:
    """The first noises of this seed with the reference samples of the images."""
    return Reference.of(images_by_sigma() if by_sigma else images(), seed, noises, CALLS)


def against(plan: Plan, other: Plan, seed: int, by_sigma: bool = False, noises: int = NOISES) -> Interval:
    """RMSE of a plan over that of another, to the reference, from the same noise."""
    return reference(seed, by_sigma, noises).ratio(plan, other)


@dataclass(frozen=True)
class Pair:
    """Two standard plans of as many calls on the exact images.

    first, second  (solver, grid)
    by_sigma       under the variance-exploding process
    noises         of the comparison: more where the two are close
    """

    first: tuple[str, str]
    second: tuple[str, str]
    calls: int
    by_sigma: bool = False
    noises: int = NOISES


def ratio_claim(
    name: str, pair: Pair, *, statement: str, baseline: str, broken: Callable[[Plan, str, Model], Plan] | None = None
) -> None:
    """Register the claim that the first plan's error is below the other's, or, with no `broken` variant, at least 1 % above.

    broken  of (plan, its solver, the model); where the plan is claimed to be worse, the other plan is
    """

    @claim(
        name,
        statement=f"{statement} (ratio of paired RMSE).",
        baseline=f"{baseline}; exact 16x16 image mixture",
        above=-math.inf if broken else 1.01,
        below=1.0 if broken else math.inf,
        tier="full" if pair.noises > 1024 else "quick",
    )
    def check(seed: int, sabotage: bool) -> Measured:
        model = images_by_sigma() if pair.by_sigma else images()
        mine, its = (standard(solver, model, pair.calls, grid) for solver, grid in (pair.first, pair.second))
        if sabotage:
            mine = broken(mine, pair.first[0], model) if broken else its
        return Measured(against(mine, its, seed, pair.by_sigma, pair.noises))
