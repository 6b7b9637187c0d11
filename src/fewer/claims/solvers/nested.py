"""What a sampler holds before its last step (nested diffusion, the early jump to data), and the noise of interpolants."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from operator import mul

import torch
from torch import Tensor

from fewer import GaussianMixture, Model, Plan, sample, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.evaluate.distances import plain_frechet, ratio_of_means
from fewer.claims.exact import images, images_by_sigma, mixture_of
from fewer.claims.repeated import mean
from fewer.evaluate.distances.sliced import sliced_w2
from fewer.evaluate.scoring import Scoring
from fewer.evaluate.statistics.interval import Interval
from fewer.grids import Range, levels
from fewer.models.schedules import VarianceExploding
from fewer.solvers import compile_plan, places
from fewer.solvers.sde.interpolant import Interpolant
from fewer.solvers.sde.nested import Nested

INNER, BUDGET, EARLY = 5, 40, 10
SLOW, GROUPS, EACH = 60, 4, 192


def nested(model: Model, inner: int, calls: int) -> Plan:
    """Nested diffusion with exactly `calls` calls on the logsnr grid."""
    solver = Nested(inner)
    taus = levels("logsnr", Range(model.schedule, model.start), solver.steps(calls))
    return compile_plan(solver, places(model, taus), calls)


def peeks(model: Model, plan: Plan, n: int, seed: int) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """The state before each call, its data prediction, and the samples."""
    states: list[Tensor] = []
    data: list[Tensor] = []

    def keep(row: object, x: Tensor, prediction: Tensor) -> None:
        states.append(x.clone())
        data.append(prediction.clone())

    x = sample(model, plan, n, seed=seed, batch=n, callback=keep)
    return states, data, x


class Drawn:
    """Images drawn from the mixture, which stand for the data, on their principal components."""

    def __init__(self, seed: int) -> None:
        """2,048 images, of classes in turn as samples have them."""
        data = mixture_of(images()).sample(2048, seed=seed + 100)[0].float()
        self.features = Scoring(data).features_of(len(data))
        self.seen = self.features(data)

    def distance(self, x: Tensor) -> float:
        """The squared Frechet distance of samples to the images."""
        return float(plain_frechet(self.features(x), self.seen))


@claim(
    "nested/intermediate",
    statement=f"Stopped after {EARLY} of {BUDGET} calls, the result of the last inner run ({INNER} calls each) is nearer to "
    "the data than the data prediction of ancestral sampling is then (ratio of Frechet distances).",
    baseline="ancestral sampling on the same grid and budget, stopped after as many calls; exact 16x16 image mixture",
    below=1.0,
)
def intermediate(seed: int, sabotage: bool) -> Measured:
    """Sabotage: what is shown is the data prediction that the inner run began with."""
    model, data = images(), Drawn(seed)
    plan, plain = nested(model, INNER, BUDGET), standard("ancestral", model, BUDGET, "logsnr")
    found: dict[int, tuple[list[float], list[float]]] = {stop: ([], []) for stop in (INNER, EARLY, 2 * EARLY)}
    for group in range(GROUPS):
        inner, outer = (peeks(model, each, EACH, GROUPS * seed + group)[1] for each in (plan, plain))
        for stop, (of_nested, of_plain) in found.items():
            of_nested.append(data.distance(inner[stop - INNER if sabotage else stop - 1]))
            of_plain.append(data.distance(outer[stop - 1]))
    ratios = {stop: ratio_of_means(*pair) for stop, pair in found.items()}
    return Measured(ratios[EARLY], {f"after {stop} calls": ratio for stop, ratio in ratios.items()})


@claim(
    "nested/final",
    statement=f"At {SLOW} calls the end result is comparable to ancestral sampling's: its Frechet distance to the data is "
    "larger by at most 1 % of the data's variance.",
    baseline="ancestral sampling on the same grid with as many calls; exact 16x16 image mixture",
    below=0.01,
)
def final(seed: int, sabotage: bool) -> Measured:
    """Sabotage: a third of the calls."""
    model, data = images(), Drawn(seed)
    plans = [nested(model, INNER, SLOW // 3 if sabotage else SLOW), standard("ancestral", model, SLOW, "logsnr")]
    variance = float(data.seen.var(0).sum())
    excess = []
    for group in range(GROUPS):
        made = [sample(model, plan, EACH, seed=GROUPS * seed + group, batch=EACH) for plan in plans]
        excess.append((data.distance(made[0]) - data.distance(made[1])) / variance)
    return Measured(mean(excess))


@claim(
    "jump/denoising-first",
    statement="On the way of Euler's method (20 calls, karras) the data prediction is nearer to the data than the state is: "
    "Frechet distances, their means over the trajectory as a ratio.",
    baseline="the state x_s itself, at the same levels; exact 16x16 image mixture by sigma",
    below=1.0,
)
def denoising_first(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the two are taken for each other."""
    model, data = images_by_sigma(), Drawn(seed)
    plan = standard("euler", model, 20, "karras")
    of_data: list[float] = []
    of_state: list[float] = []
    for group in range(GROUPS):
        states, predictions, _ = peeks(model, plan, EACH, GROUPS * seed + group)
        unscaled = [x / (1 - float(row.tau)) for x, row in zip(states, plan.rows, strict=True)]
        of_data.append(sum(data.distance(x) for x in predictions[::2]))
        of_state.append(sum(data.distance(x) for x in unscaled[::2]))
    return Measured(ratio_of_means(of_state, of_data) if sabotage else ratio_of_means(of_data, of_state))


@claim(
    "interpolant/marginals",
    of=(("solvers", "interpolant"), ("grids", "straight")),
    statement="Whatever the level of noise, the law is the data's: squared sliced Wasserstein-2 distance of the samples, and "
    "of the states half-way, to exact ones, relative to the variance, the worst of epsilon = 0, sigma / 2, sigma and "
    "2 sigma (100 calls on the straight grid).",
    baseline="draws of the exact mixture in two dimensions, at both levels",
    below=0.02,
)
def marginals(seed: int, sabotage: bool) -> Measured:
    """Sabotage: twice the noise, with nothing taken out for it."""
    mixture = GaussianMixture.random(2, 3, seed=seed)
    model = Model.from_mixture(mixture.to(dtype=torch.float32), VarianceExploding(0.01, 80.0))
    taus = levels("straight", Range(model.schedule, model.start), 100)
    n, half = 2048, 50
    exact, _ = mixture.sample(n, seed=seed + 1)
    noise = torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed + 2))
    found: dict[str, Interval] = {}
    for amount in (0.0, 0.5, 1.0, 2.0):
        plan = compile_plan(Interpolant(epsilon=partial(mul, amount)), places(model, taus))
        if sabotage:
            plan = replace(plan, rows=tuple(replace(row, noise=2 * float(row.noise)) for row in plan.rows))
        states, _, x = peeks(model, plan, n, seed)
        tau = float(plan.rows[half].tau)
        midway = (1 - tau) * exact + tau * noise
        for where, made, truth in (("", x, exact), (", half-way", states[half], midway)):
            far, size = sliced_w2(made.double(), truth), float(truth.var(0).sum()) / 2
            figure = Interval(far.value / size, far.low / size, far.high / size, n)
            found[f"epsilon {amount:g} sigma{where}"] = figure
    return Measured(max(found.values(), key=lambda figure: figure.high), found)
