"""Truncated diffusion times: what a start below the noisiest level costs and saves, from noise and from fitted densities."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from fewer import GaussianMixture, Model, Plan, sample, standard
from fewer.calibrate.gaussian_start import Gaussian
from fewer.claims.beds import mean_of
from fewer.claims.claim import Measured, claim
from fewer.claims.exact import images, mixture_of
from fewer.claims.search.fitted import HELD_OUT, digits_reference
from fewer.dynamic.mixture_start import mixture_start
from fewer.evaluate.distances.energy import energy_difference, energy_distance
from fewer.evaluate.reference import reference_plan
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.interval import Interval
from fewer.levels import tau_of_s
from fewer.models.schedules import VarianceExploding
from fewer.noise import Stream, unit_noise

NFE, ERROR, SAMPLES, REPEATS = 5, 0.02, 1024, 4
TOP, LOW = 2000.0, 3.0  # s = sigma / alpha at the ends of the diffusion time
FROM_NOISE, FROM_DENSITY = (400.0, 100.0, 40.0, 20.0), (40.0, 20.0, 10.0, 5.0, 2.5)  # starts between
MORE = 24  # repeats of a comparison of two that are near each other
NEAR = (3.0, 1.5)  # of the mixture's starts

Starts = Callable[[float], Plan]


@cache
def imperfect() -> Model:
    """The exact noise prediction of 16x16 images with an error of its own in each state, as a trained network has."""
    exact = Model.from_mixture(mixture_of(images()), VarianceExploding(0.01, TOP), name="imperfect", hash="imperfect")

    def network(x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        tau = float(exact.schedule.tau(float(t[0])))
        state = x / float(exact.schedule.scale(tau))
        noise = (state - (1 - tau) * exact.network(x, t, labels)) / tau
        return noise + ERROR * torch.sin(37 * x.roll(1, -1) + t[0])

    return replace(exact, network=network, predicts="noise")


@cache
def draws(first: int, n: int) -> Tensor:
    """Data: draws of the mixture, others for another `first`."""
    return mixture_of(images()).sample(n, seed=first)[0]


def from_noise(s: float) -> Plan:
    """The plan that takes sigma times unit noise for the state at s."""
    return standard("unipc", imperfect(), NFE, "logsnr", start=tau_of_s(s))


def from_gaussian(fitted: Gaussian) -> Starts:
    """The same with a start from a fitted Gaussian."""

    def plan(s: float) -> Plan:
        return replace(from_noise(s), start=fitted.start(tau_of_s(s), imperfect().start))

    return plan


def made(plan: Plan, seed: int, repeat: int) -> Tensor:
    """Samples of this repeat's noises."""
    noise = unit_noise(seed + 1, range(repeat * SAMPLES, (repeat + 1) * SAMPLES), images().shape)
    return sample(imperfect(), plan, noise=noise)


def nearer(mine: Plan, its: Plan, seed: int, repeats: Iterable[int] = range(REPEATS)) -> Interval:
    """Energy distance to draws less that of another plan's samples from the same noise, over these repeats."""
    return mean_of(
        energy_difference(made(mine, seed, k), made(its, seed, k), draws(1000 * seed + k, SAMPLES)) for k in repeats
    )


def best(starts: Starts, times: Sequence[float], seed: int) -> float:
    """The start of the least distance, on a repeat that nothing else uses."""
    data = draws(1000 * seed + REPEATS, SAMPLES).flatten(1)
    return min(times, key=lambda s: energy_distance(made(starts(s), seed, REPEATS).flatten(1), data).value)


@claim(
    "truncated/interior-optimum",
    statement=f"Of a score with an error of {ERROR:.0%}, at {NFE} calls from noise, a start in the middle is nearer to "
    f"the data than those at s = {TOP:g} and at s = {LOW:g} (difference of energy distances, the higher one, mean of four "
    "repeats).",
    baseline="the same sampler from both ends; exact 16x16 image mixture with an error added to its noise prediction",
    below=0.0,
)
def interior(seed: int, sabotage: bool) -> Measured:
    """The broken variant starts from noise of half the deviation."""
    middle = best(from_noise, FROM_NOISE, seed)
    plan = from_noise(middle)
    if sabotage:
        plan = replace(plan, start=replace(plan.start, scale=0.5 * float(plan.start.tau)))
    figures = {f"less that at s = {end:g}": nearer(plan, from_noise(end), seed) for end in (TOP, LOW)}
    return Measured(max(figures.values(), key=lambda figure: figure.value), {"best s": middle, **figures})


@claim(
    "truncated/fitted-start",
    statement=f"Of a score with an error of {ERROR:.0%}, at {NFE} calls, the best start from a Gaussian fitted to data "
    f"is nearer to the data than the best start from noise (difference of energy distances, mean of {MORE} repeats).",
    baseline="the same sampler from noise at the level that is best for it; exact 16x16 image mixture with an error "
    "added to its noise prediction",
    below=0.0,
)
def fitted_start(seed: int, sabotage: bool) -> Measured:
    """The broken variant is fitted to data of the opposite sign."""
    data = draws(1000 * seed + 99, 2000)
    starts = from_gaussian(Gaussian.principal(-data if sabotage else data, 64))
    here, there = best(starts, FROM_DENSITY, seed), best(from_noise, FROM_NOISE, seed)
    others = range(REPEATS + 1, REPEATS + 1 + MORE)
    return Measured(nearer(starts(here), from_noise(there), seed, others), {"best s": here, "best s from noise": there})


@claim(
    "mixture-start/against-gaussian",
    statement="At 5 calls from s = 3 and from s = 1.5 a mixture with a Gaussian for each class, fitted to the model's own "
    "samples, starts nearer to the reference solution than one Gaussian does (higher ratio of paired RMSE).",
    baseline="the start from one Gaussian of 32 principal directions, same samples, solver and noise; digits network",
    below=1.0,
)
def mixture(seed: int, sabotage: bool) -> Measured:
    """The broken variant confuses the classes."""
    held_out = digits_reference(seed, HELD_OUT)
    model = held_out.model
    noise = unit_noise(seed, Stream.CALIBRATION.numbers(640), model.shape)
    labels = model.labels(len(noise))
    data = sample(model, reference_plan(model, 12), noise=noise, labels=labels)
    fitted = GaussianMixture.fit(data, labels, rank=16, floor=1e-4)
    classes = model.labels(HELD_OUT)
    assert classes is not None
    ratios = {}
    for s in NEAR:
        plan = standard("unipc", model, 5, "logsnr", start=tau_of_s(s))
        there = mixture_start(model, fitted, tau_of_s(s), held_out.noise, (classes + 1) % 10 if sabotage else classes)
        mine = replace(held_out, noise=there).errors(plan)
        one = Gaussian.principal(data, 32).start(tau_of_s(s), model.start)
        ratios[s] = paired.ratio(mine, held_out.errors(replace(plan, start=one)))
    worst = max(ratios.values(), key=lambda ratio: ratio.value)
    return Measured(worst, {f"from s = {s}": ratio for s, ratio in ratios.items()})
