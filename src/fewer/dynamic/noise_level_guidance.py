"""Noise-level guidance: the starting noise moved to where the label is likelier, before anything is sampled from it."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor

from fewer.batch import norm
from fewer.engine import MICRO_BATCH
from fewer.errors import InputError, whole
from fewer.models.model import Model
from fewer.noise import Draw, unit_noise
from fewer.plan import Plan
from fewer.registry import part


@part(
    "noise-level-guidance",
    title="Noise-level guidance: forward-only refinement of the starting noise",
    source="Mannering et al. 2025, Noise-Level Diffusion Guidance: Well Begun is Half Done, arXiv:2509.13936",
    papers=(41,),
    role="procedure",
)
def refine_noise(
    model: Model,
    plan: Plan,
    noise: Tensor,
    labels: Any = None,
    *,
    steps: int = 4,
    size: float = 1.0,
    bound: float = math.inf,
    spread: float = 0.0,
    against: Literal["empty", "weaker"] = "empty",
    seed: int = 0,
    batch: int = MICRO_BATCH,
) -> Tensor:
    """Noise (n, *shape) for `fewer.sample(model, plan, noise=..)`, after `steps` times

        z <- z - size g min(1, bound / |g|) + sqrt(spread) n,    z <- z sqrt(d) / |z|

    with g = eps(label) - eps(empty) at the plan's start, of which -g / tau is the gradient of log p(label | x), n unit
    noise, and |z| brought to what that of d unit normal numbers nearly is. No derivative is taken.

    steps    costs 2 passes each, on top of the plan's
    size     in units of g; `bound` is the longest step, `spread` a variance
    against  the reference: the empty label, or the model's weaker network with the label
    seed     of n, which does not depend on the batch

    The noise is no longer normal: a gain in likelihood of the label costs diversity of the label's samples.
    Raises InputError for models without an empty label (or weaker network), shapes that do not fit, numbers out of range.
    """
    if tuple(noise.shape[1:]) != tuple(model.shape) or not len(noise):
        expected = f"(n, {', '.join(map(str, model.shape))})"
        raise InputError(f"noise has shape {tuple(noise.shape)}; {model.name} needs {expected}")
    whole("steps", steps, 0)
    whole("batch", batch)
    for name, value in (("size", size), ("bound", bound), ("spread", spread)):
        if not value >= 0 or (name != "bound" and not math.isfinite(value)):
            raise InputError(f"{name} is {value!r}; expected a number of at least 0")
    if against not in ("empty", "weaker"):
        raise InputError(f"against is {against!r}; expected 'empty' or 'weaker'")
    if against == "weaker" and model.weaker is None:
        raise InputError("noise-level guidance against a weaker network needs one: give Model.weaker")
    if against == "empty" and (model.classes is None or model.empty_label is None):
        raise InputError(f"guidance needs a model with labels and an empty label; {model.name} has none")
    if isinstance(plan.start.scale, Tensor) or plan.start.directions is not None:
        raise InputError(
            f"plan {plan.name!r} starts from more than a multiple of the noise; its noise cannot be refined"
        )
    classes = model.labels(len(noise), labels)
    start = plan.start
    refined = []
    with torch.inference_mode():
        for at in range(0, len(noise), batch):
            numbers = range(at, min(at + batch, len(noise)))
            z = noise[at : at + batch].to(device=model.device, dtype=torch.float32)
            y = None if classes is None else classes[at : at + batch]
            for k in range(steps):
                g = _direction(model, float(start.tau), float(start.scale) * z, y, against)
                z = z - size * g * (bound / norm(g).clamp_min(1e-30)).clamp_max(1.0)
                if spread > 0:
                    z = z + math.sqrt(spread) * unit_noise(seed, numbers, model.shape, Draw.REFINEMENT(k), model.device)
                z = z * math.sqrt(z[0].numel()) / norm(z).clamp_min(1e-30)
            refined.append(z)
    return torch.cat(refined)


def _direction(model: Model, tau: float, x: Tensor, labels: Tensor | None, against: str) -> Tensor:
    """eps of the label less that of the reference, (1 - tau) times the difference of u, at a state (n, *shape)."""
    if against == "weaker":
        assert model.weaker is not None  # checked
        weak = model.weaker.velocity(x, tau, labels)
    else:
        assert labels is not None  # both are checked
        assert model.empty_label is not None
        weak = model.velocity(x, tau, torch.full_like(labels, model.empty_label))
    return (1 - tau) * (model.velocity(x, tau, labels) - weak)
