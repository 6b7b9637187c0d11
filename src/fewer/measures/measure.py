"""`fewer.measure`: the quality of a plan on a model, each figure with its interval."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fewer.engine import MICRO_BATCH, sample
from fewer.errors import InputError
from fewer.measures import paired
from fewer.measures.decoded import DecodedErrors
from fewer.measures.energy import energy_distance
from fewer.measures.features import PCA, Features
from fewer.measures.frechet import frechet
from fewer.measures.interval import Interval
from fewer.measures.likelihood import flow_nll
from fewer.measures.own_metric import OwnMetric
from fewer.measures.reference import fine_solution
from fewer.measures.sliced import sliced_w2
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Plan

FEATURES = 16  # of the principal components that distances are measured on
FRESH = 1 << 20  # sample numbers from here on are kept for measuring: no search ever starts from them


def squared_errors(samples: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of each sample (n,), float64 on the CPU."""
    return (samples - target).double().square().flatten(1).mean(1).cpu()


def asked_guidance(plan: Plan) -> float | None:
    """The scale of classifier-free guidance that a plan approximates: the one it was made for, or its rows' largest.

    Rules that guide by more than that have it as `cfg`.
    """
    told = plan.evidence.get("guidance")
    rules = [row.guidance.parameters() for row in plan.rows if row.guidance is not None]
    scales = [float(rule["cfg"] if "cfg" in rule else rule["scale"]) for rule in rules]
    return float(told) if told is not None else max(scales, default=None)


def principal(samples: Tensor, data: Tensor) -> PCA:
    """The features of `distances`: up to 16 leading principal components of the data, fewer where samples are few."""
    return PCA.fit(_as_images(data), max(1, min(FEATURES, samples[0].numel(), len(data) // 8, len(samples) // 8)))


def _as_images(x: Tensor) -> Tensor:
    return x if x.ndim == 4 else x.reshape(len(x), -1, 1, 1)


def distances(samples: Tensor, data: Tensor, features: Features) -> dict[str, Interval]:
    """`fd`, `energy` and `sw2` between samples and data on the given features, which an InputError names."""
    x, y = features(_as_images(samples)), features(_as_images(data))
    try:
        return {"fd": frechet(x, y), "energy": energy_distance(x, y), "sw2": sliced_w2(x, y)}
    except InputError as error:
        raise InputError(f"on features {features.name} of samples x and data y: {error}") from error


def measure(
    model: Model,
    plan: Plan,
    n: int = 512,
    seed: int = 1,
    data: Tensor | None = None,
    *,
    labels: Any = None,
    guidance: float | None = None,
    batch: int | None = None,
    features: Features | None = None,
    metric: OwnMetric | None = None,
    nll: bool = False,
) -> dict[str, Interval]:
    """Quality of a plan on n fresh noises.

    `paired_rmse` is the distance to the fine solution of the same noise, in data units; left out for plans that add
    noise, which are compared by distance. Where samples are latents, `paired_rmse_images` is that of up to 256 of them as
    decoded images. With `data` (N, *shape) in the model's data range also `fd` (Frechet
    distance), `energy` (energy distance) and `sw2` (sliced Wasserstein-2, squared) to it, on its leading principal
    components; plans that add noise are compared with the fine solution of other noises where no data is given.

    seed      of the noises, of which a search never uses the same ones
    guidance  scale of the fine solution, by default the plan's own
    features  that the distances to data are on, instead of its principal components
    metric    one more figure, under its own name, against the data, or the fine solution where there is none or the
              metric is of pairs (then not of plans that add noise)
    nll       also `nll`, the negative log-likelihood of `data` in nats per dimension (see `flow_nll`): a property of the
              model's flow, whatever the plan; of the empty class where the model has classes

    Raises InputError for features, metrics and networks without derivatives that the figures cannot be had of.
    """
    if nll and data is None:
        raise InputError("nll is the likelihood of data, and data is missing")
    noise = unit_noise(seed, range(FRESH, FRESH + n), model.shape, device=model.device)
    given = model.labels(n, labels)
    samples = sample(model, plan, noise=noise, labels=given, seed=seed, batch=batch)
    score: dict[str, Interval] = {}
    guidance = asked_guidance(plan) if guidance is None else guidance

    def fine(noise: Tensor, labels: Tensor | None) -> Tensor:
        return fine_solution(
            model, noise, labels, guidance=guidance, batch=batch,
            best=lambda target: float(squared_errors(samples[: len(target)], target).mean().sqrt()),
        ).samples  # fmt: skip

    reference = data
    target: Tensor | None = None
    if not plan.stochastic:
        target = fine(noise, given)
        score["paired_rmse"] = paired.rmse(squared_errors(samples, target))
        if model.decode is not None:
            score["paired_rmse_images"] = paired.rmse(DecodedErrors(model, target)(samples))
        reference = target if data is None else data
    if data is None and plan.stochastic:
        other = unit_noise(seed, range(FRESH + n, FRESH + 2 * n), model.shape, device=model.device)
        reference = data = fine(other, given)
    if data is not None:
        data = torch.as_tensor(data, device=samples.device)
        score |= distances(samples, data, features or principal(samples, data))
    against = target if metric is not None and metric.paired else reference
    if metric is not None and against is not None:
        score[metric.name] = metric(samples, torch.as_tensor(against, device=samples.device))
    if nll and data is not None:
        score["nll"] = flow_nll(model, data, batch=batch or MICRO_BATCH).nats()
    return score
