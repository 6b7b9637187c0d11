"""What a scheduler does beside what a plan's rows hold: bounds on one of its two predictions, and learned variances."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor

from fewer.integrations.schedulers import at_steps
from fewer.models.pipelines.scheduler_config import BOUNDS, clip_of, options, schedule_of
from fewer.models.predictions import affine


def left_out(scheduler: Any, steps: int, given: dict[str, Any], tau: float) -> str | None:
    """What of a scheduler's loop its plan leaves out, in words; None for nothing. `tau` is the level of its first call."""
    name = type(scheduler).__name__
    if "learned" in str(options(scheduler).get("variance_type")):
        return f"{name} adds noise of a variance that its network predicts; the plan adds noise of the fixed one"
    if clip_of(scheduler) is not None and not given and not _bounds_both(scheduler, steps, tau):
        return (
            f"{name} bounds the data prediction, but goes on with the noise prediction of the unbounded one; under the plan both "
            "are of the bounded one, and its samples differ where bounds are met"
        )
    return None


def _bounds_both(scheduler: Any, steps: int, tau: float) -> bool:
    """Whether a step of an output whose data prediction is out of bounds is that of the output of the bounded one."""
    clip, (schedule, predicts, sigma_data) = clip_of(scheduler), schedule_of(scheduler)
    assert clip is not None
    c_in, p, q = (float(number) for number in affine(predicts, schedule, tau, sigma_data))
    x = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    data = 3 * clip.bound * torch.linspace(-1, 1, 16).view_as(x)
    mine = at_steps(scheduler, steps)
    t = mine.timesteps[0]
    if hasattr(mine, "scale_model_input"):  # of samples that are not the network's input
        c_in /= float(mine.scale_model_input(torch.ones(1, 1, 1, 1), t))
    ends: list[Tensor] = []
    for bounded in (True, False):
        mine = at_steps(scheduler, steps)
        if not bounded:
            mine.register_to_config(**{key: False for key in BOUNDS if key in mine.config})
        u = (x - (data if bounded else clip(data))) / tau
        more = {"generator": torch.Generator().manual_seed(1)}
        taken = inspect.signature(mine.step).parameters
        ends.append(
            mine.step((u - p * x) / q, t, c_in * x, **{k: v for k, v in more.items() if k in taken})
            .prev_sample
        )  # fmt: skip
    first, second = ends
    return torch.allclose(first, second, rtol=1e-3, atol=1e-3 * float(abs(second).max()))
