"""A diffusers scheduler's own loop, as a pipeline runs it, around a fewer model."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import torch
from torch import Tensor

from fewer.engine import MICRO_BATCH
from fewer.errors import InputError, first_line
from fewer.models.model import Model
from fewer.models.pipelines.scheduler_config import options, quiet

# diffusers schedulers whose every step adds noise
STOCHASTIC = ("DDPM", "Ancestral", "SDE", "LCM", "TCD", "SASolver")


def is_stochastic(scheduler: Any) -> bool:
    """Whether two runs from the same starting noise differ."""
    kind, config = type(scheduler).__name__, options(scheduler)
    named = any(word in kind for word in STOCHASTIC)
    return named or "sde" in str(config.get("algorithm_type", "")) or bool(config.get("stochastic_sampling"))


def calls_of(scheduler: Any, steps: int) -> int:
    """Network calls that the scheduler makes for this number of steps."""
    return len(at_steps(scheduler, steps).timesteps)


def at_steps(scheduler: Any, steps: int) -> Any:
    """A copy of the scheduler, set to this number of steps; InputError where it cannot be."""
    mine = copy.deepcopy(scheduler)
    try:
        mine.set_timesteps(steps)
    except Exception as error:  # schedulers raise many types for what they do not take
        name = type(scheduler).__name__
        raise InputError(f"{name} cannot be set to {steps} steps: {first_line(error)}") from error
    if hasattr(mine, "set_begin_index"):
        mine.set_begin_index(0)  # some look their place up by the first time, which rounding can repeat
    return mine


def play_scheduler(
    model: Model,
    scheduler: Any,
    noise: Tensor,
    labels: Any = None,
    *,
    guidance: float | None = None,
    seed: int = 0,
    batch: int | None = None,
) -> Tensor:
    """Samples (n, *shape) float32 of the loop of a scheduler set by `at_steps`, from unit noise (n, *shape).

    The scheduler's scale_model_input and timesteps give the network's inputs; outputs of two passes are combined at
    scale `guidance`. Copies of the scheduler are used. Noise of stochastic schedulers comes from `seed`.
    Raises InputError where the scheduler cannot play the model, such as learned variances that it does not give.
    """
    all_labels = model.labels(len(noise), labels)
    if guidance is not None and (all_labels is None or model.empty_label is None):
        raise InputError(f"guidance needs a model with labels and an empty label; {model.name} has none")
    size = MICRO_BATCH if batch is None else batch
    done = []
    with torch.inference_mode(), quiet():
        for at in range(0, len(noise), size):
            part = noise[at : at + size].to(device=model.device, dtype=torch.float32)
            own = None if all_labels is None else all_labels[at : at + size]
            done.append(_loop(model, copy.deepcopy(scheduler), part, own, guidance, seed + at))
    return torch.cat(done)


def _loop(model: Model, scheduler: Any, x: Tensor, labels: Tensor | None, guidance: float | None, seed: int) -> Tensor:
    given: dict[str, Any] = {}
    if is_stochastic(scheduler) and "generator" in inspect.signature(scheduler.step).parameters:
        given["generator"] = torch.Generator().manual_seed(seed)
    whole = "learned" in str(options(scheduler).get("variance_type"))
    x = x * float(getattr(scheduler, "init_noise_sigma", 1.0))
    for t in scheduler.timesteps:
        scaled = scheduler.scale_model_input(x, t) if hasattr(scheduler, "scale_model_input") else x
        out = _output(model, scaled, t, labels, guidance, whole)
        try:
            x = scheduler.step(out, t, x, **given).prev_sample
        except Exception as error:  # schedulers raise many types for what they do not take
            name = type(scheduler).__name__
            raise InputError(f"{name} cannot take a step of {model.name}: {first_line(error)}") from error
    return x.to(torch.float32)


def _output(model: Model, x: Tensor, t: Tensor, labels: Tensor | None, guidance: float | None, whole: bool) -> Tensor:
    def call(labels: Tensor | None) -> Tensor:
        if whole:  # the scheduler reads its variance from the extra channels
            return model.output(x, t.double(), labels).to(torch.float32)
        return model(x, t.double(), labels)

    if guidance is None or labels is None or model.empty_label is None:
        return call(labels)
    without = call(torch.full_like(labels, model.empty_label))
    return without + guidance * (call(labels) - without)
