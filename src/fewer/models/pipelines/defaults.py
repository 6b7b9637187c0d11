"""Defaults of a diffusers pipeline: number of steps, guidance scale, and the shift of its scheduler's levels."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from fewer.errors import InputError, first_line
from fewer.models.pipelines.pipeline_defaults import DynamicShift, PipelineDefaults
from fewer.models.pipelines.scheduler_config import class_named, make_scheduler

PIPELINE_STEPS = 50  # of pipelines that name no number of their own
SHIFTED = {"StableDiffusion3Pipeline": 1.16, "FluxPipeline": 1.15}  # max_shift of those that compute mu


def dynamic_shift(pipeline: Any, config: Mapping[str, Any], tokens: int) -> DynamicShift | None:
    """The shift of the scheduler's levels by a pipeline, for samples of so many tokens; None for none.

    mu is linear in the tokens: base_shift at base_image_seq_len of them and max_shift at max_image_seq_len.
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
    return DynamicShift(mu, pipeline == "FluxPipeline" and not config.get("use_flow_sigmas"))


def shifted(scheduler: Any, shift: DynamicShift | None) -> Any:
    """The scheduler itself, whose set_timesteps(n) from now on adds the arguments that the pipeline gives it."""
    if shift is None:
        return scheduler
    kind = type(scheduler)

    def set_timesteps(self: Any, n: int | None = None, device: Any = None, *, sigmas: Any = None) -> None:
        if sigmas is None and shift.regular and n is not None:
            sigmas = np.linspace(1.0, 1 / n, n)
        given = {"sigmas": sigmas, "mu": shift.mu}
        kind.set_timesteps(
            self, n, device=device, **{name: value for name, value in given.items() if value is not None}
        )

    scheduler.__class__ = type(kind.__name__, (kind,), {"set_timesteps": set_timesteps})
    return scheduler


def own_scheduler(pipeline: PipelineDefaults) -> Any:
    """The pipeline's own scheduler. Raises InputError where it cannot be built."""
    return shifted(make_scheduler(pipeline.scheduler, pipeline.config), pipeline.shift)


def own_steps(pipeline: Any, scheduler: Any) -> int:
    """How many steps the pipeline takes by default, as far as its scheduler has times for them.

    Raises InputError where the scheduler cannot be set to them.
    """
    times: int = scheduler.config.get("num_train_timesteps", PIPELINE_STEPS)
    steps = default(pipeline, "num_inference_steps")
    if not isinstance(steps, int):
        steps = times if type(scheduler).__name__.startswith("DDPM") else PIPELINE_STEPS
    steps = min(steps, times, scheduler.config.get("original_inference_steps") or steps)  # as of LCM and TCD
    try:
        copy.deepcopy(scheduler).set_timesteps(steps)
    except Exception as error:  # schedulers raise many types for what they do not take
        name = type(scheduler).__name__
        raise InputError(f"{name} cannot be set to its own {steps} steps: {first_line(error)}") from error
    return steps


def own_guidance(pipeline: Any) -> float | None:
    """The scale by which the pipeline guides by default; None for one that does not, or is not known."""
    scale = default(pipeline, "guidance_scale")
    return float(scale) if isinstance(scale, int | float) and scale > 1 else None


def default(pipeline: Any, name: str) -> Any:
    """Default of an argument of a pipeline, by the name of its class in diffusers; None if unknown."""
    kind = class_named(pipeline)
    argument = inspect.signature(kind.__call__).parameters.get(name) if isinstance(kind, type) else None
    return None if argument is None or argument.default is inspect.Parameter.empty else argument.default
