"""Truncated start from a fitted mixture: its flow is not linear in the noise, so it is played before the plan."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fewer.engine import MICRO_BATCH
from fewer.errors import InputError
from fewer.evaluate.probability_flow.adaptive import adaptive
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.registry import part


@part(
    "mixture-start",
    title="Truncated start from a fitted Gaussian mixture, whose own flow is played in the network's place",
    source="Franzese et al. 2022, How Much is Enough? (the mixture as auxiliary model), arXiv:2206.05173",
    papers=(212,),
    role="procedure",
)
def mixture_start(
    model: Model,
    mixture: GaussianMixture,
    tau: float,
    noise: Tensor,
    labels: Any = None,
    *,
    tolerance: float = 1e-3,
    batch: int = MICRO_BATCH,
) -> Tensor:
    """Starting noise (n, *shape) float32 for plans of the model that start at level `tau`, without a network call.

    The mixture is fitted to data (`GaussianMixture.fit`); its denoiser is closed, and so is its flow's field, along
    which the noise is carried from the model's start to `tau`. Divided by tau, so that

        fewer.sample(model, fewer.standard(solver, model, nfe, grid, start=tau), noise=mixture_start(...), labels=labels)

    starts at states that the mixture would have there; the same noise stands for nearly the same sample. For one
    Gaussian the flow is closed and linear, and a plan can hold it: the strategy `truncated`.

    tau        in (0, the model's start)
    noise      (n, *shape) unit noise
    labels     the mixture's classes (n,) or one for all; of a mixture without classes, or without labels, all components
    tolerance  of the adaptive solver, relative and absolute
    batch      samples that share their steps

    Raises InputError for other levels, shapes and labels.
    """
    if tuple(mixture.shape) != tuple(model.shape) or tuple(noise.shape[1:]) != tuple(model.shape):
        raise InputError(
            f"the mixture is of shape {tuple(mixture.shape)} and the noise {tuple(noise.shape)}; "
            f"{model.name} needs {tuple(model.shape)}"
        )
    if not 0 < tau < model.start:
        raise InputError(f"tau is {tau}; expected a level between 0 and the start of {model.name}, {model.start:g}")
    conditional = labels is not None and mixture.classes is not None
    auxiliary = Model.from_mixture(
        mixture, model.schedule, conditional=conditional, device=model.device, dtype=mixture.means.dtype
    )
    carried = adaptive(
        auxiliary, model.start * noise.double(), labels if conditional else None,
        start=model.start, end=tau, rtol=tolerance, atol=tolerance, batch=batch,
    )  # fmt: skip
    return (carried.x / tau).float()
