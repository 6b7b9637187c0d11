"""Restoration by mean-reverting diffusion: samplers of the ordinary process, on what is left after subtracting the mean.

dx = f (mu - x) dt + g dW with g^2 = 2 lambda^2 f leads from an image D to a degraded one mu and noise of deviation
lambda: x = mu + a (D - mu) + lambda sqrt(1 - a^2) eps, a = exp(-int f). So y = x - mu follows the ordinary process
for the data D - mu with alpha = a and sigma = lambda sqrt(1 - a^2), and any solver of that process, played on y, is
one of this; MRS's formulas are those of DPM-Solver and DPM-Solver++ there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fewer.engine import sample
from fewer.errors import InputError
from fewer.models.input_scaling import Scaled
from fewer.models.model import Model
from fewer.models.schedules import Discrete
from fewer.plan import Plan
from fewer.registry import part

Restorer = Callable[[Tensor, Tensor, Tensor], Tensor]


def reverting(rates: Tensor | Sequence[float], noise: float) -> Scaled:
    """The schedule of y with the rates f dt > 0 of the N training times 0 .. N - 1, and the final deviation lambda.

    Raises InputError for other rates.
    """
    table = torch.as_tensor(rates, dtype=torch.float64)
    if table.ndim != 1 or len(table) < 2 or not bool((table.isfinite() & (table > 0)).all()):
        raise InputError("rates must be at least two positive numbers, f dt of each training time")
    return Scaled(Discrete(tuple(torch.exp(-2 * table.cumsum(0)).tolist()), "mean reverting"), 1.0, noise)


@part(
    "mean-reverting",
    title="Mean-reverting diffusion as the ordinary process of the image less the degraded one",
    source="Luo et al. 2023, IR-SDE, arXiv:2301.11699; Li et al. 2025, MR Sampler, arXiv:2502.07856",
    papers=(219,),
    role="procedure",
)
def mean_reverting(
    network: Restorer, schedule: Scaled, mu: Tensor, predicts: str = "noise", name: str = "restoration", **fields: Any
) -> Model:
    """A model of the residuals D - mu. Its class k is the k-th degraded image.

    network   (x, mu, t) -> output: the process's own state x (n, *shape), the degraded images of these samples, times
              (n,) as the schedule has them
    mu        (K, *shape) degraded images in the network's range
    predicts  noise, score (of x) or data (D itself)
    fields    of the `Model`

    Samples of it are residuals: `restore` adds mu. Raises InputError for another prediction or shape.
    """
    if predicts not in ("noise", "score", "data"):
        raise InputError(f"predicts is {predicts!r}; a restoration network predicts noise, score or data")
    if mu.ndim < 2 or not len(mu) or not bool(mu.isfinite().all()):
        raise InputError(f"mu has shape {tuple(mu.shape)}; expected degraded images (K, *shape), all values finite")

    def residual(y: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        if labels is None:
            raise InputError("a restoration model needs labels: the degraded image of each sample")
        here = mu.to(y)[labels]
        out = network(y + here, here, t)
        return out - here if predicts == "data" else out

    return Model(residual, schedule, predicts, tuple(mu.shape[1:]), len(mu), name=name, **fields)


def restore(model: Model, plan: Plan, mu: Tensor, n: int | None = None, **arguments: Any) -> Tensor:
    """Restored images (n, *shape): samples of the residual, plus the degraded image.

    model, mu  of `mean_reverting`
    n          how many; sample i restores image i modulo K, by default one of each
    arguments  of `fewer.sample` (seed, noise, batch, callback)

    Raises InputError where mu is not of the model's shape and number.
    """
    if tuple(mu.shape[1:]) != tuple(model.shape) or len(mu) != model.classes:
        expected = f"({model.classes}, {', '.join(map(str, model.shape))})"
        raise InputError(f"mu has shape {tuple(mu.shape)}; {model.name} was made for {expected}")
    labels = torch.arange(len(mu) if n is None else n) % len(mu)
    residuals = sample(model, plan, len(labels), labels=labels, **arguments)
    return residuals + mu.to(residuals)[labels.to(residuals.device)]
