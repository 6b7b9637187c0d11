"""Forecasters that follow time: rolling windows, DYffusion, and fields on shapes that change."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from fewer import forecast, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.repeated import geometric_mean
from fewer.claims.series.beds import VP, Bed, oscillation
from fewer.evaluate.forecasts import crps, forecast_scores
from fewer.evaluate.posteriors import energy_distances
from fewer.evaluate.statistics.jackknife import student
from fewer.tasks.inverse.methods.mmps import MMPS
from fewer.tasks.series.dyffusion import DYffusion
from fewer.tasks.series.frames import frame_model
from fewer.tasks.series.meshes import Mesh
from fewer.tasks.series.mmgp import MMGP
from fewer.tasks.series.rolling import rolling
from fewer.tasks.series.state_space import StateSpace, window_law

WINDOW, PAST, HORIZON, DRAWS, PASTS = 12, 4, 16, 48, 24
MANY = 160  # pasts, where two ways are near each other
NOISY = WINDOW - PAST  # frames of a rolling window
PROCESS = oscillation(8, 0.97, 0.15)
OF_PROCESS = "an oscillation, windows of 12 times of which 4 are the past, forecasts of 16 times"


@cache
def long() -> Bed:
    """Windows as long as the forecasts, for their exact laws."""
    return Bed(window_law(PROCESS, PAST + HORIZON), PAST)


def rolled(solver: str, every: int, seed: int, own: bool = True, count: int = PASTS) -> list[float]:
    """Energy distances of rolling forecasts to the exact ones; without `own` by a model of other windows."""
    pasts, _ = long().windows(count, seed)
    law = window_law(PROCESS if own else oscillation(5, 0.9, 0.3), WINDOW)
    model = frame_model(law, VP)
    plan = standard(solver, model, every * NOISY, "logsnr")
    found = rolling(model, pasts, HORIZON, plan, every=every, n=DRAWS, seed=seed)
    return energy_distances(long().whole(pasts, found.samples), long().laws(pasts), seed).tolist()


@claim(
    "rolling/exact-of-gaussians",
    statement="Two calls a frame of DPM-Solver++(2M) draw 16 times of a Gaussian process from their closed-form law, with a window "
    "that holds eight noisy frames: energy distance, mean over pasts, at most 0.02.",
    baseline=f"the closed-form forecast; {OF_PROCESS}",
    below=0.02,
)
def rolling_exact(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the model is of another oscillation."""
    return Measured(student(rolled("dpmpp-2m", 2, seed, own=not sabotage)))


@claim(
    "rolling/against-blocks",
    statement="At one call a frame on DDIM steps a rolling window, which may go on for ever, is as near to the exact forecast as "
    "windows drawn block by block are: difference of energy distances, mean over pasts, at most 0.005.",
    baseline=f"blocks of eight times at eight calls, each exactly conditioned on the four before; {OF_PROCESS}",
    below=0.005,
    tier="full",
)
def rolling_against_blocks(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the rolling model is of another oscillation."""
    pasts, _ = long().windows(MANY, seed)
    model = Bed(window_law(PROCESS, WINDOW), PAST).model()
    plan = standard("ddim", model, NOISY, "logsnr")
    blocks = forecast(model, pasts, horizon=HORIZON, plan=plan, method=MMPS(PAST), n=DRAWS, seed=seed, batch=2048)
    its = energy_distances(long().whole(pasts, blocks.samples), long().laws(pasts), seed).tolist()
    mine = rolled("ddim", 1, seed, own=not sabotage, count=MANY)
    return Measured(
        student([a - b for a, b in zip(mine, its, strict=True)]), {"rolling": student(mine), "blocks": student(its)}
    )


@claim(
    "rolling/multistep",
    statement="A frame's own earlier outputs are worth keeping: at one call a frame DPM-Solver++(2M) halves the energy "
    "distance that DDIM's steps leave: difference of distances less half of DDIM's, mean over pasts.",
    baseline=f"DDIM's steps, which the paper plays; {OF_PROCESS}",
    below=0.0,
)
def rolling_multistep(seed: int, sabotage: bool) -> Measured:
    """Sabotage: both are DDIM."""
    its = rolled("ddim", 1, seed)
    mine = its if sabotage else rolled("dpmpp-2m", 1, seed)
    return Measured(
        student([a - b / 2 for a, b in zip(mine, its, strict=True)]), {"ddim": student(its), "dpmpp-2m": student(mine)}
    )


STEPS, STARTS = 8, 128  # of DYffusion: times of a forecast, and states that it begins with
CLOSE = 640  # such states, where two ways are near each other


@cache
def spring() -> StateSpace:
    """A driven spring, whose place and speed are seen."""
    turn = 2 * math.pi / 12
    rotation = torch.tensor([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]], dtype=torch.float64)
    return StateSpace(0.95 * rotation, torch.diag(torch.tensor([0.01, 0.04])), torch.eye(2))


@cache
def between(time: int) -> tuple[Tensor, Tensor, Tensor]:
    """Gains of x_i on x_0 and x_h, and the root of its covariance given both, of the spring: (2, 2) each."""
    _, covariance = spring().moments(STEPS + 1)
    wanted, given = slice(2 * time, 2 * time + 2), [0, 1, 2 * STEPS, 2 * STEPS + 1]
    across = covariance[wanted][:, given]
    gain = across @ torch.linalg.inv(covariance[given][:, given])
    root = torch.linalg.cholesky(covariance[wanted, wanted] - gain @ across.T)
    return gain[:, :2].float(), gain[:, 2:].float(), root.float()


def interpolator(x0: Tensor, end: Tensor, time: float, z: Tensor) -> Tensor:
    """The spring's exact law of times between, which DYffusion's first network is trained to draw from."""
    first, last, root = between(int(time))
    return x0 @ first.T + end @ last.T + z @ root.T


def forecaster(s: Tensor, time: float) -> Tensor:
    """The spring's mean of time h given time i, which its second network is trained to give."""
    return s @ torch.linalg.matrix_power(spring().transition, STEPS - int(time)).float().T


@cache
def springs() -> Bed:
    """Windows of the spring, whose first time is the past."""
    return Bed(window_law(spring(), STEPS + 1), 1)


def started(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """States (n, 2) and what came after them (n, STEPS, 2)."""
    past, future = springs().windows(n, seed)
    return past[:, 0], future


@claim(
    "dyffusion/cold-against-naive",
    statement=f"Cold sampling forecasts better than the naive rule with the same exact networks: difference of CRPS over {STEPS} "
    "times, without the last refinement.",
    baseline="s_{n+1} = I(x_0, x^, i_{n+1}); a driven spring",
    below=0.0,
)
def cold_against_naive(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the cold sampler's forecaster stays where it is."""
    start, truth = started(STARTS, seed)
    forecasters = ((lambda s, time: s) if sabotage else forecaster, forecaster)
    cold, naive = (
        crps(DYffusion(own, interpolator, STEPS, cold=rule, refined=False).draw(start, 16, seed), truth)
        .flatten(1)
        .mean(1)
        for own, rule in zip(forecasters, (True, False), strict=True)
    )
    kept = crps(DYffusion(forecaster, interpolator, STEPS, refined=False, kept=True).draw(start, 16, seed), truth)
    beside = {"cold": cold, "naive": naive, "cold, with one noise a draw": kept.flatten(1).mean(1)}
    return Measured(student((cold - naive).tolist()), {name: student(each.tolist()) for name, each in beside.items()})


@claim(
    "dyffusion/calibrated",
    statement="With exact networks the spread of its draws is their error, to a tenth: spread over error of the last time.",
    baseline="1, the exact forecast's; a driven spring",
    above=0.9,
    below=1.1,
)
def dyffusion_calibrated(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the interpolator adds no noise."""
    start, truth = started(STARTS, seed)
    own = (lambda x0, end, time, z: interpolator(x0, end, time, 0 * z)) if sabotage else interpolator
    fresh, one = (
        forecast_scores(DYffusion(forecaster, own, STEPS, kept=kept).draw(start, 16, seed)[:, :, -1], truth[:, -1])
        for kept in (False, True)
    )
    return Measured(
        fresh.spread, {"coverage of central 80 %": fresh.coverage[0.8], "spread with one noise a draw": one.spread}
    )


@claim(
    "dyffusion/one-noise",
    statement="With one noise a draw for all of its interpolations cold sampling forecasts better than with fresh ones, which a "
    "step adds twice: difference of CRPS over 8 times, without the last refinement.",
    baseline="fresh noise, as in the paper; a driven spring, exact networks",
    below=0.0,
)
def one_noise(seed: int, sabotage: bool) -> Measured:
    """Sabotage: fresh noise, for other states."""
    start, truth = started(STARTS, seed)
    found = []
    for kept in (True, False):
        moved = int(sabotage and kept)
        own = DYffusion(forecaster, interpolator, STEPS, refined=False, kept=kept and not sabotage)
        found.append(crps(own.draw(start.roll(moved, 0), 16, seed), truth).flatten(1).mean(1))
    mine, its = found
    exact = springs().exact(start[:, None], 16, seed)
    beside = {"one noise": mine, "fresh noise": its, "exact": crps(exact, truth).flatten(1).mean(1)}
    return Measured(student((mine - its).tolist()), {name: student(each.tolist()) for name, each in beside.items()})


@claim(
    "dyffusion/against-diffusion",
    statement=f"With {STEPS} calls of its forecaster it forecasts the times 1 to {STEPS} better than a diffusion model "
    "of windows with half as many calls: difference of CRPS.",
    baseline=f"the exact model of windows, exactly conditioned (MMPS), DDIM with {STEPS // 2} calls; a driven spring",
    below=0.0,
    tier="full",
)
def against_diffusion(seed: int, sabotage: bool) -> Measured:
    """Sabotage: DYffusion begins with other states."""
    start, truth = started(CLOSE, seed)
    mine = DYffusion(forecaster, interpolator, STEPS).draw(start.roll(int(sabotage), 0), 16, seed)
    other = forecast(
        springs().model(), start[:, None], plan=STEPS // 2, method=MMPS(2), n=16, seed=seed, batch=4096
    ).samples
    own, its = (crps(each, truth).flatten(1).mean(1) for each in (mine, other))
    return Measured(
        student((own - its).tolist()), {"dyffusion": student(own.tolist()), "diffusion": student(its.tolist())}
    )


SHAPES, TRAINED, REPEATS = 50, 40, 80


def deformed(nodes: int, generator: torch.Generator) -> Mesh:
    """A square of nodes x nodes, bent by three random numbers."""
    line = torch.linspace(-1, 1, nodes, dtype=torch.float64)
    u, v = (each.flatten() for each in torch.meshgrid(line, line, indexing="ij"))
    a, b, c = (0.6 * torch.rand(3, generator=generator, dtype=torch.float64) - 0.3).tolist()
    number = torch.arange(nodes * nodes).view(nodes, nodes)
    corners = [part.flatten() for part in (number[:-1, :-1], number[1:, :-1], number[1:, 1:], number[:-1, 1:])]
    triangles = [torch.stack([corners[0], corners[k], corners[k + 1]], 1) for k in (1, 2)]
    return Mesh(torch.stack([u + a * u * v + c * v**2 / 2, v + b * v * u**2], 1), torch.cat(triangles))


def wave(mesh: Mesh, number: float) -> Tensor:
    """sin(k x) cos(y) on the nodes (V, 1)."""
    return torch.sin(number * mesh.nodes[:, :1]) * torch.cos(mesh.nodes[:, 1:])


@claim(
    "mmgp/deformed-squares",
    statement=f"From {TRAINED} bent squares with meshes of 81 to 121 nodes it predicts a wave on others, whose number is "
    "given, with less than half the error of the most similar known case: ratio of root mean squared errors, geometric "
    "mean of 80 sets of shapes.",
    baseline="the field of the known case that is nearest in coordinates and number, on the common mesh; sin(k x) cos(y)",
    below=0.5,
    tier="full",
)
def deformed_squares(seed: int, sabotage: bool) -> Measured:
    """Sabotage: the fields of other cases are learned."""
    ratios, inside, count = [], 0, 0
    for number in range(REPEATS):
        generator = torch.Generator().manual_seed(REPEATS * seed + number)
        meshes = [deformed(9 + k % 3, generator) for k in range(SHAPES)]
        k = 0.5 + torch.rand(SHAPES, 1, generator=generator, dtype=torch.float64)
        fields = [wave(mesh, float(each)) for mesh, each in zip(meshes, k, strict=True)]
        learned = k[:TRAINED].roll(int(sabotage), 0)
        model = MMGP.fit(meshes[:TRAINED], fields[:TRAINED], learned, most=4)
        mine = nearest = 0.0
        shapes = torch.stack([mesh.weights(meshes[0].on_disk) @ mesh.nodes for mesh in meshes]).flatten(1)
        known = torch.cat([shapes, math.sqrt(shapes.shape[1]) * k], 1)
        found = model.predict(meshes[TRAINED:], k[TRAINED:])
        for mesh, field, got, place in zip(meshes[TRAINED:], fields[TRAINED:], found, known[TRAINED:], strict=True):
            like = int((known[:TRAINED] - place).norm(dim=1).argmin())
            other = meshes[like].weights(mesh.on_disk) @ fields[like]
            mine += float((got.mean - field).square().mean())
            nearest += float((other - field).square().mean())
            inside += int(((got.mean - field).abs() < 1.96 * got.variance.sqrt()).sum())
            count += field.numel()
        ratios.append(math.sqrt(mine / nearest))
    return Measured(geometric_mean(ratios), {"values in their 95 % intervals": inside / count})
