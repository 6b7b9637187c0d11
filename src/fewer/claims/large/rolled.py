"""Rolled sampling: nearness to the field's law, seams, edges that fit, and a trained network."""

from __future__ import annotations

from fewer import large, load, sample, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.large.fields import SIDE, TILE, covariance, distance, jumps, made
from fewer.claims.repeated import geometric_mean, mean
from fewer.evaluate.statistics.interval import Interval

CALLS, FEW, OFFSETS, HALF = 20, 5, 8, TILE // 2
MANY, IMAGES = 10, 48  # calls and samples of the trained network


@claim(
    "rolled/against-multidiffusion",
    statement=f"Rolled windows that meet edge to edge are nearer to the law of a field on a torus than MultiDiffusion, which makes "
    f"four times as many calls: ratio of squared Wasserstein-2 distances at {CALLS} rows, exact, over {OFFSETS} seeds of offsets.",
    baseline="MultiDiffusion: the mean of windows half a window apart, which stay; same rows and network",
    below=1.0,
    tier="full",
)
def against_multidiffusion(seed: int, sabotage: bool) -> Measured:
    """The broken variant does not roll."""
    return Measured(_against_multidiffusion(CALLS, CALLS, seed, roll=not sabotage))


@claim(
    "rolled/against-multidiffusion-5",
    statement=f"The same at {FEW} rows: ratio of squared Wasserstein-2 distances, exact, over {OFFSETS} seeds of offsets.",
    baseline="MultiDiffusion: the mean of windows half a window apart, which stay; same rows and network, four times the calls",
    below=1.0,
    tier="full",
)
def at_few_rows(seed: int, sabotage: bool) -> Measured:
    """The broken variant does not roll."""
    return Measured(_against_multidiffusion(FEW, FEW, seed, roll=not sabotage))


@claim(
    "rolled/at-equal-calls",
    statement=f"At equal calls of the network, {CALLS} rows of rolled windows that meet edge to edge are nearer to the field's law "
    f"than {FEW} rows of MultiDiffusion: ratio of squared Wasserstein-2 distances, exact, over {OFFSETS} seeds of offsets.",
    baseline="MultiDiffusion in a quarter of the rows",
    below=1.0,
    tier="full",
)
def at_equal_calls(seed: int, sabotage: bool) -> Measured:
    """The broken variant does not roll."""
    return Measured(_against_multidiffusion(CALLS, FEW, seed, roll=not sabotage))


@claim(
    "rolled/seams",
    statement=f"Of the widest seam, by which the mean squared difference of neighbours exceeds the field's, rolling leaves less "
    f"than half, at {CALLS} rows and no further call: ratio, exact, over {OFFSETS} seeds of offsets.",
    baseline="windows that meet edge to edge and stay",
    below=0.5,
    tier="full",
)
def seams(seed: int, sabotage: bool) -> Measured:
    """The broken variant does not roll."""
    still = float(jumps(made(CALLS, roll=False)).max() - 1)
    multi = float(jumps(made(CALLS, overlap=HALF, blend="mean", roll=False)).max() - 1)
    rolled = [float(jumps(made(CALLS, roll=not sabotage, seed=OFFSETS * seed + k)).max() - 1) for k in range(OFFSETS)]
    return Measured(_ratio(rolled, still), {"MultiDiffusion, four times the calls": multi / still})


@claim(
    "rolled/tileable",
    statement=f"Samples of the network's own size become tileable at no further call: of what neighbours across opposite edges "
    f"differ more than others, squared, less than half is left at {CALLS} rows; exact, over {OFFSETS} seeds of offsets.",
    baseline="the model's own samples, whose edges know nothing of each other",
    below=0.5,
    tier="full",
)
def tileable(seed: int, sabotage: bool) -> Measured:
    """The broken variant's window lies across no edge."""
    own = float(jumps(made(CALLS, TILE, roll=False, tileable=False))[:, -1].mean() - 1)
    rolled = [
        float(jumps(made(CALLS, TILE, tileable=not sabotage, seed=OFFSETS * seed + k))[:, -1].mean() - 1)
        for k in range(OFFSETS)
    ]
    return Measured(mean([left / own for left in rolled]))


@claim(
    "rolled/tent",
    statement=f"Windows that count less towards their ends are nearer to the field's law than their plain mean, at the same calls: "
    f"ratio of squared Wasserstein-2 distances at {CALLS} rows, rolled, half a window apart, over {OFFSETS} seeds of offsets.",
    baseline="the mean of the same windows",
    below=0.5,
    tier="full",
)
def tent(seed: int, sabotage: bool) -> Measured:
    """The broken variant takes the mean, too."""
    truth = covariance(SIDE, torus=True)
    ratios = []
    for k in range(OFFSETS):
        plain, mine = (
            distance(made(CALLS, overlap=HALF, blend=blend, seed=OFFSETS * seed + k), truth)
            for blend in ("mean", "mean" if sabotage else "tent")
        )
        ratios.append(mine / plain)
    return Measured(geometric_mean(ratios))


@claim(
    "rolled/cifar16-unet",
    statement=f"On a trained network of 16x16 images rolling leaves less than half of the widest seam in samples of 32x32: its "
    f"mean squared difference of neighbours less that of others, {IMAGES} samples, {MANY} rows, 8 times 6 of them with offsets of "
    f"their own.",
    baseline="windows that meet edge to edge and stay, the same noise",
    below=0.5,
    tier="full",
)
def cifar(seed: int, sabotage: bool) -> Measured:
    """The broken variant does not roll."""
    ratios = []
    for k in range(OFFSETS):
        still, rolled = (_widest(seed, k, roll) for roll in (False, not sabotage))
        ratios.append(rolled / still)
    return Measured(geometric_mean(ratios))


def _against_multidiffusion(rows: int, its_rows: int, seed: int, *, roll: bool) -> Interval:
    """Ratio of distances to the field's law: of windows edge to edge over that of MultiDiffusion."""
    truth = covariance(SIDE, torus=True)
    multi = distance(made(its_rows, overlap=HALF, blend="mean", roll=False), truth)
    return _ratio([distance(made(rows, roll=roll, seed=OFFSETS * seed + k), truth) for k in range(OFFSETS)], multi)


def _widest(seed: int, k: int, roll: bool) -> float:
    """The largest mean squared difference over places along an axis, over their median, less 1."""
    model = large(load("cifar16-unet"), (32, 32), roll=roll, seed=OFFSETS * seed + k)
    each = IMAGES // OFFSETS
    x = sample(model, standard("dpmpp-2m", model, MANY, "logsnr"), each, seed=seed, first_sample=each * k).double()
    found = [(x - x.roll(-1, axis)).square().mean((0, 1, 5 - axis)) for axis in (2, 3)]
    return max(float(each.max() / each.median()) for each in found) - 1


def _ratio(values: list[float], to: float) -> Interval:
    """Geometric mean of positive values over one."""
    return geometric_mean([value / to for value in values])
