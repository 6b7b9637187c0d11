"""What a pipeline does when it is not told: its steps, its guidance scale, and what it tells its scheduler of the levels."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping
from typing import Any

import diffusers
import numpy as np

from fewer.errors import InputError, first_line
from fewer.models.from_scheduler import make_scheduler

PIPELINE_STEPS = 50  # of pipelines that name no number of their own
SHIFTED = {"StableDiffusion3Pipeline": 1.16, "FluxPipeline": 1.15}  # those that tell mu, with their default max_shift


def told_levels(pipeline: Any, config: Mapping[str, Any], tokens: int) -> dict[str, Any] | None:
    """What a pipeline tells its scheduler besides the number of steps, for samples of so many tokens; None for nothing.

    mu       of the shift s' = e^mu s of levels that grows with the resolution (or s' = mu s): linear in the tokens, base_shift
             at base_image_seq_len of them and max_shift at max_image_seq_len
    regular  whether it gives the levels before the shift: 1, 1 - 1/n, .., 1/n
    """
    if pipeline not in SHIFTED or (pipeline != "FluxPipeline" and not config.get("use_dynamic_shifting")):
        return None
    few, many = config.get("base_image_seq_len", 256), config.get("max_image_seq_len", 4096)
    low, high = config.get("base_shift", 0.5), config.get("max_shift", SHIFTED[pipeline])
    numbers = all(isinstance(each, int | float) and math.isfinite(each) for each in (few, many, low, high))
    if not numbers or few == many:
        raise InputError(
            f"the scheduler's shifts are {low!r} at {few!r} tokens, {high!r} at {many!r}; expected numbers"
        )
    mu = low + (high - low) * (tokens - few) / (many - few)
    return {"mu": mu, "regular": pipeline == "FluxPipeline" and not config.get("use_flow_sigmas")}


def as_told(scheduler: Any, told: Mapping[str, Any] | None) -> Any:
    """The scheduler itself, whose set_timesteps(n) from now on does what the pipeline's own call of it does."""
    if told is None:
        return scheduler
    kind = type(scheduler)

    def set_timesteps(self: Any, n: int | None = None, device: Any = None, *, sigmas: Any = None) -> None:
        if sigmas is None and told["regular"] and n is not None:
            sigmas = np.linspace(1.0, 1 / n, n)
        given = {} if sigmas is None else {"sigmas": sigmas}
        kind.set_timesteps(self, n, device=device, mu=told["mu"], **given)

    scheduler.__class__ = type(kind.__name__, (kind,), {"set_timesteps": set_timesteps})
    return scheduler


def own_scheduler(pipeline: Mapping[str, Any]) -> Any:
    """The scheduler of what a Model keeps of its pipeline. Raises InputError where it cannot be built."""
    return as_told(make_scheduler(pipeline["class"], pipeline["config"]), pipeline.get("levels"))


def own_steps(pipeline: Any, scheduler: Any) -> int:
    """How many steps the pipeline takes when it is not told, as far as its scheduler has times for them.

    Raises InputError where the scheduler cannot be set to them.
    """
    times = scheduler.config.get("num_train_timesteps", PIPELINE_STEPS)
    steps = times if type(scheduler).__name__.startswith("DDPM") else PIPELINE_STEPS
    told = default(pipeline, "num_inference_steps")
    steps = told if isinstance(told, int) else steps
    steps = min(steps, times)
    try:
        copy.deepcopy(scheduler).set_timesteps(steps)
    except Exception as error:  # schedulers raise many types for what they do not take
        name = type(scheduler).__name__
        raise InputError(f"{name} cannot be set to its own {steps} steps: {first_line(error)}") from error
    return steps


def own_guidance(pipeline: Any) -> float | None:
    """The scale by which the pipeline guides when it is not told; None for one that does not, or is not known."""
    scale = default(pipeline, "guidance_scale")
    return float(scale) if isinstance(scale, int | float) and scale > 1 else None


def default(pipeline: Any, name: str) -> Any:
    """What a pipeline, by the name of its class in diffusers, takes for an argument that is not given; None if unknown."""
    kind = getattr(diffusers, pipeline, None) if isinstance(pipeline, str) else None
    given = inspect.signature(kind.__call__).parameters.get(name) if isinstance(kind, type) else None
    return None if given is None or given.default is inspect.Parameter.empty else given.default
