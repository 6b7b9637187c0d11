"""Claims of samplers that can stop early, and of paths and noise levels chosen when sampling."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from operator import mul

import torch
from torch import Tensor

import fewer
from fewer.claims.claim import Check, Measured, claim
from fewer.claims.distances import plain_frechet, ratio_of_means
from fewer.claims.exact import against, images, images_by_sigma
from fewer.claims.grids import crowded
from fewer.claims.repeated import mean
from fewer.measures.interval import Interval
from fewer.measures.measure import principal
from fewer.measures.sliced import sliced_w2
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import VarianceExploding
from fewer.plan import Plan
from fewer.solvers import compile_plan, places
from fewer.solvers.interpolant import Interpolant
from fewer.solvers.nested import Nested
from fewer.steps import Range, levels

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

    x = fewer.sample(model, plan, n, seed=seed, batch=n, callback=keep)
    return states, data, x


def drawn(seed: int, n: int) -> Tensor:
    """Images of the mixture, a class for each label in turn as samples have them."""
    exact = images().exact
    if exact is None:
        raise TypeError("the image mixture is not exact")
    return exact.sample(n, seed=seed)[0].float()


@claim(
    "nested/intermediate",
    of=(("solvers", "nested"),),
    papers=(82,),
    statement=f"Stopped after {EARLY} of {BUDGET} calls, the result of the last inner run ({INNER} calls each) is nearer to "
    "the data than the data prediction of ancestral sampling is then (ratio of Frechet distances).",
    baseline="ancestral sampling on the same grid and budget, stopped after as many calls; exact 16x16 image mixture",
    below=1.0,
)
def intermediate(seed: int, sabotage: bool) -> Measured:
    """Sabotage: what is shown is the data prediction that the inner run began with."""
    model, data = images(), drawn(seed + 100, 2048)
    features = principal(data, data)
    plan, plain = nested(model, INNER, BUDGET), fewer.standard("ancestral", model, BUDGET, "logsnr")
    found: dict[int, tuple[list[float], list[float]]] = {}
    for group in range(GROUPS):
        _, inner, _ = peeks(model, plan, EACH, GROUPS * seed + group)
        _, outer, _ = peeks(model, plain, EACH, GROUPS * seed + group)
        for stop in (INNER, EARLY, 2 * EARLY):
            shown = stop - INNER if sabotage else stop - 1
            of_nested, of_plain = found.setdefault(stop, ([], []))
            of_nested.append(float(plain_frechet(features(inner[shown]), features(data))))
            of_plain.append(float(plain_frechet(features(outer[stop - 1]), features(data))))
    ratios = {stop: ratio_of_means(*pair) for stop, pair in found.items()}
    return Measured(ratios[EARLY], {f"after {stop} calls": ratio for stop, ratio in ratios.items()})


@claim(
    "nested/final",
    of=(("solvers", "nested"),),
    papers=(82,),
    statement=f"At {SLOW} calls the end result is comparable to ancestral sampling's: its Frechet distance to the data is "
    "larger by at most 1 % of the data's variance.",
    baseline="ancestral sampling on the same grid with as many calls; exact 16x16 image mixture",
    below=0.01,
)
def final(seed: int, sabotage: bool) -> Measured:
    """Sabotage: a third of the calls."""
    model, data = images(), drawn(seed + 100, 2048)
    features = principal(data, data)
    seen = features(data)
    plans = [nested(model, INNER, SLOW // 3 if sabotage else SLOW), fewer.standard("ancestral", model, SLOW, "logsnr")]
    variance = float(seen.var(0).sum())
    excess = []
    for group in range(GROUPS):
        made = [fewer.sample(model, plan, EACH, seed=GROUPS * seed + group, batch=EACH) for plan in plans]
        one, other = (float(plain_frechet(features(x), seen)) for x in made)
        excess.append((one - other) / variance)
    return Measured(mean(excess))


@claim(
    "jump/denoising-first",
    of=(("steps", "jump"),),
    papers=(119,),
    statement="On the way of Euler's method (20 calls, karras) the data prediction is nearer to the data than the state is: "
    "Frechet distances, their means over the trajectory as a ratio.",
    baseline="the state x_s itself, at the same levels; exact 16x16 image mixture by sigma",
    below=1.0,
)
def denoising_first(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the two are taken for each other."""
    model, data = images_by_sigma(), drawn(seed + 100, 2048)
    features = principal(data, data)
    plan = fewer.standard("euler", model, 20, "karras")
    of_data: list[float] = []
    of_state: list[float] = []
    for group in range(GROUPS):
        states, predictions, _ = peeks(model, plan, EACH, GROUPS * seed + group)
        unscaled = [x / (1 - float(row.tau)) for x, row in zip(states, plan.rows, strict=True)]
        pairs = (predictions, unscaled) if not sabotage else (unscaled, predictions)
        for side, trajectory in zip((of_data, of_state), pairs, strict=True):
            side.append(sum(float(plain_frechet(features(x), features(data))) for x in trajectory[::2]))
    return Measured(ratio_of_means(of_data, of_state))


def jump_check(solver: str) -> Check:
    """Error of the first 10 of karras' 14 levels over that of karras' 10."""

    def check(seed: int, sabotage: bool) -> Measured:
        model = images_by_sigma()
        plan = fewer.standard(solver, model, 10, "jump")
        plan = crowded(plan, solver, model) if sabotage else plan
        return Measured(against(plan, fewer.standard(solver, model, 10, "karras"), seed, by_sigma=True))

    return check


for solver_name in ("euler", "heun"):
    claim(
        f"jump/with-{solver_name}",
        of=(("steps", "jump"),),
        papers=(119,),
        statement=f"With {solver_name} at 10 calls an early jump to the data prediction saves the last steps: its error is below "
        "that of the whole karras grid with as many calls (ratio of paired RMSE).",
        baseline="karras with the same solver, calls and noise; exact 16x16 image mixture",
        below=1.0,
    )(jump_check(solver_name))


@claim(
    "interpolant/marginals",
    of=(("solvers", "interpolant"), ("steps", "straight")),
    papers=(14, 64),
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
    beside: dict[str, Interval | float] = {}
    for amount in (0.0, 0.5, 1.0, 2.0):
        plan = compile_plan(Interpolant(epsilon=partial(mul, amount)), places(model, taus))
        if sabotage:
            plan = replace(plan, rows=tuple(replace(row, noise=2 * float(row.noise)) for row in plan.rows))
        states, _, x = peeks(model, plan, n, seed)
        tau = float(plan.rows[half].tau)
        for where, made, truth in (
            ("", x, exact),
            (", half-way", states[half], (1 - tau) * exact + tau * noise),
        ):
            found = sliced_w2(made.double(), truth)
            size = float(truth.var(0).sum()) / 2
            beside[f"epsilon {amount:g} sigma{where}"] = Interval(
                found.value / size, found.low / size, found.high / size, n
            )
    worst = max((figure for figure in beside.values() if isinstance(figure, Interval)), key=lambda figure: figure.high)
    return Measured(worst, beside)


def iadb_check(solver: str, grid: str) -> Check:
    """Error on a grid along a path over ddim's on the uniform one."""

    def check(seed: int, sabotage: bool) -> Measured:
        model = images()
        plan = fewer.standard(solver, model, 10, grid)
        plan = crowded(plan, solver, model) if sabotage else plan
        return Measured(against(plan, fewer.standard("ddim", model, 10, "uniform"), seed))

    return check


for part_of, solver_name, grid in (
    (("solvers", "iadb"), "iadb", "straight"),
    (("steps", "trigonometric"), "ddim", "trigonometric"),
):
    claim(
        f"{part_of[1]}/against-ddim-uniform",
        of=(part_of,),
        papers=(64,) if solver_name == "iadb" else (14,),
        statement=f"At 10 calls {solver_name} on the {grid} grid has less error than ddim in regular training times (ratio of "
        "paired RMSE).",
        baseline="ddim on the uniform grid, same calls and noise; exact 16x16 image mixture",
        below=1.0,
    )(iadb_check(solver_name, grid))
