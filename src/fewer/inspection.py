"""What a model is, what a call of it costs, and what is wrong with its pipeline's own schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.integrations.schedulers import calls_of
from fewer.measures import cost as costs
from fewer.measures.audit import Case, Fault, audit, measured
from fewer.measures.audit.faults import second_stages, zero_alpha_words
from fewer.measures.audit.table import s_of
from fewer.models.from_pipeline import own_scheduler
from fewer.models.model import UNSAFE_START, Model
from fewer.noise import unit_noise
from fewer.shortcuts.price import call_macs, shares
from fewer.steps import Range, levels

FEW = 5  # steps at which the pipeline's own table is looked at, besides its own number
MANY = 100  # calls a sample that are worth a word


def inspect(
    model: Model,
    *,
    seed: int = 0,
    batch: int | None = None,
    cost: bool = False,
    progress: Callable[[str, int, int | None], object] | None = None,
) -> dict[str, Any]:
    """Facts about the model, its cost per network evaluation, and what is wrong with its pipeline's schedule.

    `milliseconds` is per sample of a batch (default 16), the median with its 95 % interval on this machine. `faults` are
    those of the pipeline's table at its own number of steps and at 5 (see `fewer.measures.audit`), `warnings` tells them and more
    in words; `blocks` are those of the network that a plan may leave out, with their shares of MACs and of milliseconds;
    `second_stages` are rows, by steps, that are told an earlier row's time at another state, which is no waste.

    cost  also measure what each fault costs, which takes some 20,000 network evaluations. Raises InputError where no
          table holds the pipeline's scheduler; without `cost` that is a warning
    """
    size = batch or 16
    x = unit_noise(seed, range(size), model.shape, device=model.device)
    t = float(model.schedule.time(model.start))
    labels = model.labels(size)

    def call() -> Tensor:
        with torch.inference_mode():
            return model(x, t, labels)

    finite = bool(call().isfinite().all())
    cases, remarks = _cases(model, cost)
    faults = measured(cases, seed=seed, batch=batch, progress=progress) if cost and finite else _faults(cases)
    ms = costs.clock({"call": call}, repeats=9, warmup=2)["call"]
    schedule = model.schedule
    return {
        **model.describe(),
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "empty_label": model.empty_label,
        "clip": None if model.clip is None else {"bound": model.clip.bound, "quantile": model.clip.quantile},
        "levels": {
            "s_max": _finite(s_of(schedule.tau_max)),
            "s_min": schedule.tau_min / (1 - schedule.tau_min),
            "start_tau": model.start,
            "start_t": t,
        },
        "macs_per_call": call_macs(model) or None,
        "milliseconds": {"value": ms.value * 1e3 / size, "low": ms.low * 1e3 / size, "high": ms.high * 1e3 / size},
        "pipeline": None if model.pipeline is None else _own(model.pipeline),
        "first_step_gain": {name: gain(model, name, FEW) for name in ("uniform", "karras", "logsnr")},
        "blocks": shares(model, size),
        "second_stages": {str(case.steps): list(rows) for case in cases if (rows := second_stages(case.plan))},
        "faults": [fault.to_dict() for fault in faults],
        "warnings": [*remarks, *warnings(model, faults)]
        if finite
        else [f"{model.name} returns values that are not finite"],
    }


def _own(pipeline: dict[str, Any]) -> dict[str, Any]:
    """What the pipeline does when it is not told otherwise."""
    return {key: pipeline[key] for key in ("class", "steps", "guidance") if pipeline.get(key) is not None}


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


def _cases(model: Model, must: bool) -> tuple[list[Case], list[str]]:
    """The pipeline's table at its own number of steps and at few; what cannot be read is told, or raised if it must be."""
    if model.pipeline is None:
        return [], []
    cases: list[Case] = []
    remarks: list[str] = []
    own = model.pipeline["steps"]
    for steps in sorted({own, min(FEW, own)}):
        try:
            cases.append(Case.of_pipeline(model, steps))
        except InputError as error:
            if must:
                raise
            remarks.append(f"{error}; its schedule is not looked at there")
    return cases, remarks


def _faults(cases: list[Case]) -> list[Fault]:
    return [fault for case in cases for fault in audit(case)]


def warnings(model: Model, faults: list[Fault]) -> list[str]:
    """What is wrong, in words: each kind of fault once, at the fewest steps; empty where nothing was found."""
    told: dict[str, str] = {}
    for fault in faults:
        told.setdefault(fault.name, fault.sentence)
    found = list(told.values())
    s = s_of(model.schedule.tau_max)
    if model.predicts in ("noise", "score") and s > UNSAFE_START and "alpha near zero" not in told:
        words = zero_alpha_words(s, float(model.schedule.time(model.schedule.tau_max)))
        found.append(f"{words}, as fewer's plans do")
    if model.pipeline is None:
        return found
    if model.clip is not None:
        found.append("the data prediction is clipped at every step (clip_sample or thresholding); plans do so too")
    calls = calls_of(own_scheduler(model.pipeline), model.pipeline["steps"])
    if calls > MANY:
        found.append(f"the pipeline makes {calls} network calls a sample; `fewer tune --match` finds fewer")
    return found
