"""One starting noise for all conditions of a task, chosen on a few of them whose right answers are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewer.engine import MICRO_BATCH, sample
from fewer.errors import InputError, whole
from fewer.evaluate.statistics.paired import squared_errors
from fewer.models.model import Model
from fewer.noise import Stream, unit_noise
from fewer.plan import Plan
from fewer.registry import part

Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class SharedNoise:
    """The chosen noise (*shape), and the distances (candidates, references) that it was chosen by."""

    noise: Tensor
    distances: Tensor

    @property
    def chosen(self) -> int:
        """The number of the candidate of least mean distance."""
        return int(self.distances.mean(1).argmin())

    def repeated(self, n: int) -> Tensor:
        """The same noise for n samples (n, *shape), for `fewer.sample(model, plan, noise=.., labels=..)`."""
        return self.noise.expand(n, *self.noise.shape)


@part(
    "shared-noise",
    room="guidance",
    title="One starting noise for every condition, of least mean distance on a small reference set",
    source="Ma et al. 2023, Solving Diffusion ODEs with Optimal Boundary Conditions for Better Image Super-Resolution, "
    "arXiv:2305.15357",
    papers=(19,),
    role="procedure",
)
def shared_noise(
    model: Model,
    plan: Plan,
    targets: Tensor,
    labels: Any = None,
    *,
    candidates: int = 64,
    distance: Distance = squared_errors,
    seed: int = 0,
    batch: int = MICRO_BATCH,
) -> SharedNoise:
    """z* = argmin over candidates z_k of the mean over references j of distance(h(z_k, c_j), x_j), h the plan's samples from z.

    A flow's sample is a function of its noise and its condition c. Where the condition leaves little open (restoration),
    noises that are good for one condition tend to be good for others: the best of a few dozen on a few pairs serves all.

    targets     x_j (m, *shape), the right answers
    labels      c_j: integers (m,) of the model's classes, prompts or conditioning images, or one for all
    candidates  K independent noises of the seed; costs K m samples of the plan
    distance    (made, target) (n, *shape) -> (n,), smaller is better: the paper takes LPIPS, a perceptual one. Squared
                error favours noises near 0, whose samples are near the mean of all answers: smooth.

    All samples of a condition are then one and the same. Raises InputError for plans that add noise, shapes that do not
    fit, numbers below 1, and distances that are not finite.
    """
    whole("candidates", candidates)
    whole("batch", batch)
    m = len(targets)
    if tuple(targets.shape[1:]) != tuple(model.shape) or not m:
        expected = f"(m, {', '.join(map(str, model.shape))})"
        raise InputError(f"targets have shape {tuple(targets.shape)}; {model.name} needs {expected}")
    if plan.stochastic:
        raise InputError(f"plan {plan.name!r} adds noise: its samples are no function of the starting noise")
    known = model.labels(m, labels)
    noise = unit_noise(seed, Stream.CHOICE.numbers(candidates), model.shape, device=model.device)
    made = sample(
        model, plan, noise=noise.repeat_interleave(m, 0), labels=None if known is None else known.repeat(candidates), batch=batch
    )  # fmt: skip
    right = targets.to(made).repeat(candidates, *[1] * (targets.ndim - 1))
    found = torch.cat([distance(a, b) for a, b in zip(made.split(batch), right.split(batch), strict=True)])
    if tuple(found.shape) != (candidates * m,) or not bool(found.isfinite().all()):
        raise InputError(f"distance gave shape {tuple(found.shape)} or values that are not finite; expected (n,)")
    distances = found.view(candidates, m)
    return SharedNoise(noise[int(distances.mean(1).argmin())], distances)
