"""The samplers of diffusers at a given number of network calls: what an engineer would try first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import diffusers
import torch
from torch import Tensor

from fewer.integrations.schedulers import at_steps, calls_of, play_scheduler
from fewer.models.model import Model

_SIGMAS: dict[str, dict[str, Any]] = {
    "linspace": {"timestep_spacing": "linspace"},
    "trailing": {"timestep_spacing": "trailing"},
    "leading": {"timestep_spacing": "leading"},
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
}
_LU = {"lu": {"use_lu_lambdas": True}}
_PLAIN = {name: _SIGMAS[name] for name in ("linspace", "trailing", "leading")}


def settings(model: Model) -> Iterator[tuple[str, Any]]:
    """(name, scheduler) of every setting that fits the model's process."""
    flow = model.predicts == "flow"
    kinds: list[tuple[str, type, dict[str, Any], dict[str, dict[str, Any]]]] = []
    if flow:
        kinds += [
            ("Euler", diffusers.FlowMatchEulerDiscreteScheduler, {}, {"": {}, "shift 3": {"shift": 3.0}}),
            ("Heun", diffusers.FlowMatchHeunDiscreteScheduler, {}, {"": {}}),
        ]
    else:
        kinds += [
            ("DDIM", diffusers.DDIMScheduler, {"clip_sample": False}, _PLAIN),
            (
                "PNDM",
                diffusers.PNDMScheduler,
                {"skip_prk_steps": True},
                {k: v for k, v in _PLAIN.items() if k != "linspace"},
            ),
            ("Euler", diffusers.EulerDiscreteScheduler, {}, _SIGMAS),
            ("Heun", diffusers.HeunDiscreteScheduler, {}, _SIGMAS),
            ("LMS", diffusers.LMSDiscreteScheduler, {}, _SIGMAS),
        ]
    for order in (2, 3):
        kinds += [
            (f"DPM-Solver++ {order}M", diffusers.DPMSolverMultistepScheduler, {"solver_order": order}, _SIGMAS | _LU),
            (f"UniPC-{order}", diffusers.UniPCMultistepScheduler, {"solver_order": order}, _SIGMAS),
            (f"DEIS-{order}", diffusers.DEISMultistepScheduler, {"solver_order": order}, _SIGMAS),
        ]
    for name, kind, options, variants in kinds:
        for variant, more in variants.items():
            if not flow:
                yield f"{name} {variant}".strip(), kind(**_process(model), **options, **more)
            elif name in ("Euler", "Heun"):
                yield f"{name} {variant}".strip(), kind(**more)
            elif "leading" != variant != "trailing":
                sigmas = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
                plain = {k: v for k, v in more.items() if k == "timestep_spacing"}
                if plain:  # diffusers allows one kind of sigmas: the flow's own
                    yield f"{name} flow", kind(**options, **sigmas)


def _process(model: Model) -> dict[str, Any]:
    config = {} if model.pipeline is None else model.pipeline.config
    kept = ("beta_schedule", "beta_start", "beta_end", "num_train_timesteps", "prediction_type")
    return {name: config[name] for name in kept if name in config}


def steps_for(scheduler: Any, calls: int) -> int | None:
    """The largest number of steps that costs at most `calls` network calls."""
    for steps in range(calls, 0, -1):
        try:
            if calls_of(scheduler, steps) <= calls:
                return steps
        except (ValueError, IndexError, ZeroDivisionError):
            continue
    return None


def played(model: Model, calls: int, noise: Tensor, labels: Any) -> Iterator[tuple[str, Tensor]]:
    """Samples (n, *shape) of every setting that runs at this number of calls."""
    for name, scheduler in settings(model):
        steps = steps_for(scheduler, calls)
        if steps is None:
            continue
        try:
            samples = play_scheduler(model, at_steps(scheduler, steps), noise, labels)
        except (ValueError, IndexError, RuntimeError):  # some settings cannot run so few steps
            continue
        if torch.isfinite(samples).all():
            yield name, samples
