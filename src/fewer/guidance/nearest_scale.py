"""The constant scale of classifier-free guidance whose samples are nearest to given data, by any distance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scipy.optimize import minimize_scalar
from torch import Tensor

from fewer.engine import sample
from fewer.errors import InputError, NotFinite
from fewer.guidance.cfg import passes_at
from fewer.measures.interval import Interval
from fewer.measures.reference import fine_plan
from fewer.models.model import Model
from fewer.parts import part

Distance = Callable[[Tensor], Interval]

LADDER = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
SHARE = 4  # the ladder is climbed on one of so many noises
BETWEEN = 4  # scales that are tried between two of the ladder
TOLERANCE = 0.03  # of log scale


@dataclass(frozen=True)
class Scales:
    """The scale that was found, the distance at each scale that was tried on all noises, and what that took.

    `evaluations` are network evaluations, of single samples.
    """

    scale: float
    distances: dict[float, Interval]
    evaluations: int


@part(
    "nearest-scale",
    title="The constant scale whose samples are nearest to given data",
    source="this package; successive parabolic interpolation after Brent 1973",
)
def nearest_scale(
    model: Model,
    distance: Distance,
    noise: Tensor,
    labels: Any = None,
    *,
    rows: int = 12,
    batch: int | None = None,
    progress: Callable[[int], Any] | None = None,
) -> Scales:
    """The scale w >= 1 of least distance(samples), the samples those of the fine plan of `rows` rows, always from the same noise.

    distance  distance(samples (m, *shape)) -> its figure with an interval, smaller where nearer, for m = n / 4 and n
    noise     (n, *shape) unit noise; labels (n,) or one for all, by default all classes evenly
    progress  progress(evaluations so far) with each scale

    A ladder of scales from 1 to 8 is climbed on a quarter of the noises, until a scale is clearly farther than the nearest so
    far (its interval lies above). Those whose intervals overlap with the nearest's are played on all noises, and between the
    nearest one's neighbours Brent's method tries four more. Scale 1, for half the passes, is taken unless the nearest lies
    below its interval. A distance with several valleys in the scale is found in the one that the ladder shows; scales whose
    samples are not finite are infinitely far.

    Raises InputError for models without labels and an empty label, and fewer than 64 noises.
    """
    if model.classes is None or model.empty_label is None:
        raise InputError(f"a guidance scale needs a model with labels and an empty label; {model.name} has none")
    if len(noise) < 64:
        raise InputError(f"noise holds {len(noise)} samples; expected at least 64")
    given = model.labels(len(noise), labels)
    evaluations = 0

    def at(scale: float, n: int) -> Interval:
        nonlocal evaluations
        plan, told = fine_plan(model, rows, scale), None if given is None else given[:n]
        evaluations += rows * passes_at(scale) * n
        if progress is not None:
            progress(evaluations)
        try:
            x = sample(model, plan, noise=noise[:n], labels=told, batch=batch)
        except NotFinite:
            if scale == 1:
                raise
            return Interval(math.inf, math.inf, math.inf, n)
        return distance(x)

    short = _climbed(lambda scale: at(scale, len(noise) // SHARE))
    best = min(short.values(), key=lambda d: d.value)
    known = {scale: at(scale, len(noise)) for scale, d in short.items() if d.low <= best.high}

    def value(log_scale: float) -> float:
        scale = round(math.exp(log_scale), 2)
        if scale not in known:
            known[scale] = at(scale, len(noise))
        return known[scale].value

    low, high = _neighbours(_least(known))
    options = {"xatol": TOLERANCE, "maxiter": BETWEEN}
    minimize_scalar(value, bounds=(math.log(low), math.log(high)), method="bounded", options=options)
    least = _least(known)
    plain = 1.0 in known and known[least].value >= known[1.0].low
    finite = {scale: d for scale, d in known.items() if math.isfinite(d.value)}
    return Scales(1.0 if plain else least, finite, evaluations)


def _climbed(at: Callable[[float], Interval]) -> dict[float, Interval]:
    """The distance at scales of the ladder, up to the first that is clearly farther than one before."""
    found: dict[float, Interval] = {}
    for scale in LADDER:
        found[scale] = at(scale)
        if found[scale].low > min(d.high for d in found.values()):
            break
    return found


def _neighbours(scale: float) -> tuple[float, float]:
    """The scales of the ladder below and above, itself at an end."""
    n = LADDER.index(scale)
    return LADDER[max(n - 1, 0)], LADDER[min(n + 1, len(LADDER) - 1)]


def _least(known: dict[float, Interval]) -> float:
    return min(known, key=lambda scale: known[scale].value)
