"""What a model is, what a call of it costs, and what is wrong with its pipeline's own schedule."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.integrations.schedulers import calls_of
from fewer.measures import cost
from fewer.models.diffusers import make_scheduler
from fewer.models.model import UNSAFE_START, Model
from fewer.noise import unit_noise
from fewer.steps import Range, levels
from fewer.tuning.results import macs_per_call

FEW = 5  # calls at which the pipeline's own grid is looked at


def inspect(model: Model, *, seed: int = 0, batch: int | None = None) -> dict[str, Any]:
    """Facts about the model, its cost per network evaluation, and warnings in words.

    `milliseconds` is per sample of a batch (default 16), the median with its 95 % interval on this machine.
    """
    size = batch or 16
    x = unit_noise(seed, range(size), model.shape, device=model.device)
    t = float(model.schedule.time(model.start))
    labels = model.labels(size)

    def call() -> Tensor:
        with torch.inference_mode():
            return model(x, t, labels)

    finite = bool(call().isfinite().all())
    ms = cost.clock({"call": call}, repeats=9, warmup=2)["call"]
    schedule = model.schedule
    return {
        **model.describe(),
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "empty_label": model.empty_label,
        "clip": None if model.clip is None else {"bound": model.clip.bound, "quantile": model.clip.quantile},
        "levels": {
            "s_max": _finite(schedule.tau_max / (1 - schedule.tau_max) if schedule.tau_max < 1 else math.inf),
            "s_min": schedule.tau_min / (1 - schedule.tau_min),
            "start_tau": model.start,
            "start_t": t,
        },
        "macs_per_call": macs_per_call(model),
        "milliseconds": {"value": ms.value * 1e3 / size, "low": ms.low * 1e3 / size, "high": ms.high * 1e3 / size},
        "pipeline": None if model.pipeline is None else {k: model.pipeline[k] for k in ("class", "steps")},
        "first_step_gain": {name: gain(model, name, FEW) for name in ("uniform", "karras", "logsnr")},
        "warnings": warnings(model) if finite else [f"{model.name} returns values that are not finite"],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def gain(model: Model, steps: str, n: int) -> float | None:
    """By how much the first of n steps multiplies the noise prediction's error: (s_0 - s_1) / (1 + s_1).

    None where the start is pure noise, which no prediction of noise starts from, and where the grid has no n levels.
    """
    try:
        first, second = levels(steps, Range(model.schedule, model.start), n)[:2]
    except InputError:
        return None
    return float((first - second) / (1 - first)) if first < 1 else None


def warnings(model: Model) -> list[str]:
    """What is wrong with the pipeline's own schedule, in words; an empty list where nothing was found."""
    found = []
    top = model.schedule.tau_max
    s = top / (1 - top) if top < 1 else math.inf
    if model.predicts in ("noise", "score") and s > UNSAFE_START:
        t = float(model.schedule.time(model.start))
        found.append(
            f"noise prediction where alpha is nearly zero (s = sigma/alpha = {s:.3g} at the last time): an error of the "
            f"network is multiplied by s there, and clipping does not cure it; fewer starts at t = {t:.1f} instead"
        )
    if model.pipeline is not None:
        found += _grid_warnings(model)
    return found


def _grid_warnings(model: Model) -> list[str]:
    pipeline = model.pipeline or {}
    config, steps = pipeline["config"], pipeline["steps"]
    found = []
    if config.get("timestep_spacing") == "leading" and steps < config["num_train_timesteps"]:
        scheduler = make_scheduler(pipeline["class"], config)
        few, last = min(FEW, steps), config["num_train_timesteps"] - 1
        scheduler.set_timesteps(few)
        first = float(scheduler.timesteps[0])
        found.append(
            f"leading spacing starts below the noisiest time: at {few} steps the first call is told t = {first:.0f} while "
            f"its input is the noise of t = {last}"
        )
    if model.clip is not None:
        found.append("the data prediction is clipped at every step (clip_sample or thresholding); plans do so too")
    calls = calls_of(make_scheduler(pipeline["class"], config), steps)
    if calls > 100:
        found.append(f"the pipeline makes {calls} network calls a sample; `fewer tune --match` finds fewer")
    return found
