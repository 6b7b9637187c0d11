"""Claims of what runs along a model's flow beside plans: the adaptive reference, and inversion to noise."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from fewer import GaussianMixture, Model, Plan, adaptive, invert, load, sample, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.closed_flows import OneDimensional, product, transported
from fewer.claims.exact import images
from fewer.claims.repeated import geometric_mean, share
from fewer.engine import times
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.paired import squared_errors
from fewer.models.schedules import Flow
from fewer.noise import unit_noise

MODELS, STATES, TOLERANCE = 6, 8, 1e-11
CALLS, ITERATIONS = 50, 8
MIXTURE_IMAGES, DIGITS = 128, 32
ROUND_TRIPS = {"mixture16": 2048, "digits": DIGITS}  # images: of the exact ones few fail, and these decide


@claim(
    "adaptive/closed-flows",
    statement="In float64 it agrees with closed flows, of Gaussians and of products of one-dimensional mixtures, from "
    "pure noise to level 0.02: geometric mean over models of the largest absolute difference (per model beside).",
    baseline="closed form; monotone transport of quantiles by root finding; rtol and atol 1e-11",
    below=1e-8,
)
def closed_flows(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the network computes in float32."""
    dtype = torch.float32 if sabotage else torch.float64
    rng = np.random.default_rng(seed)
    found: dict[str, list[float]] = {"a Gaussian": [], "a product of mixtures": []}
    for number in range(MODELS):
        x = torch.tensor(rng.standard_normal((STATES, 2)))
        gaussian = GaussianMixture.random(2, seed=MODELS * seed + number)
        one, other = OneDimensional.random(2, rng), OneDimensional.random(3, rng)
        for name, mixture, truth in (
            ("a Gaussian", gaussian, gaussian.flow(x, 1.0, 0.02)),
            ("a product of mixtures", product(one, other), transported(one, other, x, 1.0, 0.02)),
        ):
            model = Model.from_mixture(mixture, Flow(), dtype=dtype)
            tol = 1e-6 if sabotage else TOLERANCE
            end = adaptive(model, x, end=0.02, rtol=tol, atol=tol).x
            found[name].append(float((end - truth).abs().max()))
    worst = {f"largest on {name}": max(errors) for name, errors in found.items()}
    return Measured(geometric_mean([max(pair) for pair in zip(*found.values(), strict=True)]), dict(worst))


def came_back(model: Model, plan: Plan, n: int, seed: int, iterations: int, sabotage: bool = False) -> Tensor:
    """Squared errors (n,) of images after inversion and sampling, in units of the images' mean square.

    Sabotage: the network is given times that are a tenth too early while inverting.
    """
    noise, labels = unit_noise(seed, range(n), model.shape), model.labels(n)
    made = sample(model, plan, noise=noise, labels=labels)
    up = early(model, plan) if sabotage else plan
    again = sample(model, plan, noise=invert(model, up, made, labels, iterations=iterations), labels=labels)
    return squared_errors(again, made) / float(made.double().square().mean())


def early(model: Model, plan: Plan) -> Plan:
    """The plan with times a tenth below the model's own."""
    pairs = zip(plan.rows, times(model, plan), strict=True)
    return replace(plan, rows=tuple(replace(row, t=0.9 * float(t)) for row, t in pairs))


def uniform_errors(calls: int, seed: int, iterations: int, sabotage: bool) -> Tensor:
    """Those of the exact images on the uniform grid."""
    plan = standard("ddim", images(), calls, "uniform")
    return came_back(images(), plan, MIXTURE_IMAGES, seed, iterations, sabotage)


def round_trip(name: str, n: int, seed: int, sabotage: bool) -> Measured:
    """Relative error of images that a model made, once inverted and made again."""
    model = images() if name == "mixture16" else load(name)
    plan = standard("ddim", model, CALLS, "karras")
    errors = came_back(model, plan, n, seed, ITERATIONS, sabotage)
    return Measured(
        paired.rmse(errors),
        {
            "median image": float(errors.sqrt().median()),
            "share within 1e-3": share(int((errors <= 1e-6).sum()), n),
            "explicit": paired.rmse(came_back(model, plan, n, seed, 0)),
        },
    )


for model_name, count in ROUND_TRIPS.items():
    claim(
        f"fixed-point-inversion/round-trip-{model_name}",
        statement=f"Inversion with {ITERATIONS} iterations a level, then sampling, returns the image of {model_name} to 1e-3 "
        f"(root mean square, relative to the image) with ddim at {CALLS} calls on the karras grid.",
        baseline="the promise; beside, the median, and explicit inversion",
        below=1e-3,
        tier="full" if count > MIXTURE_IMAGES else "quick",
    )(partial(round_trip, model_name, count))


@claim(
    "fixed-point-inversion/against-explicit",
    statement=f"With one iteration a level, and so at equal cost, the image comes back closer than by explicit inversion "
    f"(ratio of errors; ddim at {CALLS} calls on the uniform grid).",
    baseline="explicit inversion, same images, calls and grid; exact 16x16 image mixture",
    below=1.0,
)
def against_explicit(seed: int, sabotage: bool) -> Measured:
    """Sabotage: early times while inverting."""
    one, explicit = (uniform_errors(CALLS, seed, k, sabotage and k == 1) for k in (1, 0))
    return Measured(paired.ratio(one, explicit), {"explicit": paired.rmse(explicit), "one iteration": paired.rmse(one)})


@claim(
    "explicit-inversion/refined",
    statement="With ddim the image that comes back after explicit inversion converges to the image: four times the calls "
    "(25 and 100, uniform grid) divide the error at least by 2.",
    baseline="its own error at 25 calls; exact 16x16 image mixture",
    below=0.5,
)
def refined(seed: int, sabotage: bool) -> Measured:
    """Sabotage: early times while inverting."""
    coarse, fine = (uniform_errors(calls, seed, 0, sabotage) for calls in (25, 100))
    return Measured(paired.ratio(fine, coarse), {"at 25": paired.rmse(coarse), "at 100": paired.rmse(fine)})


@claim(
    "explicit-inversion/round-trip",
    statement=f"Explicit inversion, then sampling, returns the image to 1e-3 (root mean square, relative to the image) with "
    f"ddim at {CALLS} calls on the uniform grid.",
    baseline="the promise; exact 16x16 image mixture",
    below=1e-3,
)
def explicit_round_trip(seed: int, sabotage: bool) -> Measured:
    """Sabotage: early times while inverting."""
    return Measured(paired.rmse(uniform_errors(CALLS, seed, 0, sabotage)))
