"""The constant scale of classifier-free guidance whose samples are nearest to given data, by any distance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scipy.optimize import minimize_scalar
from torch import Tensor

from fewer.engine import MICRO_BATCH
from fewer.errors import InputError, NotFinite
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.reference import reference_plan
from fewer.evaluate.statistics.interval import Interval
from fewer.models.model import Model
from fewer.registry import part

Distance = Callable[[Tensor], Interval]

LADDER = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
SHARE = 4  # the ladder is climbed on one of so many noises
BETWEEN = 4  # scales that are tried between two of the ladder
TOLERANCE = 0.03  # of log scale


@dataclass(frozen=True)
class Scales:
    """The nearest scale, the distance at each scale that was tried on all noises, and the network evaluations of samples."""

    scale: float
    distances: dict[float, Interval]
    evaluations: int


@part(
    "nearest-scale",
    room="guidance",
    title="The constant scale whose samples are nearest to given data",
    source="this package; successive parabolic interpolation after Brent 1973",
    role="procedure",
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
    size = MICRO_BATCH if batch is None else batch
    noises = Evaluator(model, noise, model.labels(len(noise), labels), batch=size)

    def at(scale: float, n: int) -> Interval:
        plan = reference_plan(model, rows, scale)
        if progress is not None:
            progress(noises.evaluations + plan.nfe * n)
        try:
            x = noises.samples(plan, last=n)
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

    rung = LADDER.index(_least(known))
    low, high = LADDER[max(rung - 1, 0)], LADDER[min(rung + 1, len(LADDER) - 1)]
    options = {"xatol": TOLERANCE, "maxiter": BETWEEN}
    minimize_scalar(value, bounds=(math.log(low), math.log(high)), method="bounded", options=options)
    least = _least(known)
    plain = 1.0 in known and known[least].value >= known[1.0].low
    finite = {scale: d for scale, d in known.items() if math.isfinite(d.value)}
    return Scales(1.0 if plain else least, finite, noises.evaluations)


def _climbed(at: Callable[[float], Interval]) -> dict[float, Interval]:
    """The distance at scales of the ladder, up to the first that is clearly farther than one before."""
    distances: dict[float, Interval] = {}
    for scale in LADDER:
        distances[scale] = at(scale)
        if distances[scale].low > min(d.high for d in distances.values()):
            break
    return distances


def _least(known: dict[float, Interval]) -> float:
    return min(known, key=lambda scale: known[scale].value)
