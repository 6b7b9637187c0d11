"""What a model is, what a call of it costs, and what is wrong with its pipeline's own schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from fewer.audit import Case, Fault, audit
from fewer.audit.cost import cost_evaluations, measured
from fewer.audit.faults import second_stages, zero_alpha_words
from fewer.errors import InputError
from fewer.evaluate.cost.clock import clock
from fewer.evaluate.cost.price import call_macs, shares
from fewer.grids import Range, levels
from fewer.integrations.schedulers import calls_of
from fewer.levels import s_of_tau
from fewer.models.denoiser import UNSAFE_START
from fewer.models.model import Model
from fewer.models.pipelines.defaults import own_scheduler
from fewer.models.pipelines.pipeline_defaults import PipelineDefaults
from fewer.noise import unit_noise

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
    those of the pipeline's table at its own number of steps and at 5 (see `fewer.audit`), `warnings` has them and more
    in words; `blocks` are those of the network that a plan may leave out, with their shares of MACs and of milliseconds;
    `second_stages` are rows, by steps, that call the network at an earlier row's time and another state, which is no waste.

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
    if cost and finite:
        faults = measured(cases, seed=seed, batch=batch, progress=progress)
    else:
        faults = [fault for case in cases for fault in audit(case)]
    ms = clock({"call": call}, repeats=9, warmup=2)["call"]
    schedule, s_max = model.schedule, s_of_tau(model.schedule.tau_max)
    return {
        **model.describe(),
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "empty_label": model.empty_label,
        "clip": None if model.clip is None else {"bound": model.clip.bound, "quantile": model.clip.quantile},
        "levels": {
            "s_max": s_max if math.isfinite(s_max) else None,
            "s_min": s_of_tau(schedule.tau_min),
            "start_tau": model.start,
            "start_t": t,
        },
        "macs_per_call": call_macs(model) or None,
        "milliseconds": {"value": ms.value * 1e3 / size, "low": ms.low * 1e3 / size, "high": ms.high * 1e3 / size},
        "pipeline": _defaults(model.pipeline),
        "first_step_gain": {name: gain(model, name, FEW) for name in ("uniform", "karras", "logsnr")},
        "blocks": shares(model, size),
        "second_stages": {str(case.steps): list(rows) for case in cases if (rows := second_stages(case))},
        "faults": [fault.to_dict() for fault in faults],
        "warnings": [*remarks, *warnings(model, faults)]
        if finite
        else [f"{model.name} returns values that are not finite"],
    }


def _defaults(pipeline: PipelineDefaults | None) -> dict[str, Any] | None:
    """The pipeline's scheduler, number of steps and, where it has one, guidance scale."""
    if pipeline is None:
        return None
    guidance = {} if pipeline.guidance is None else {"guidance": pipeline.guidance}
    return {"class": pipeline.scheduler, "steps": pipeline.steps, **guidance}


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
    """The pipeline's tables at its own number of steps and at 5, and remarks on those that cannot be read.

    With `must` the InputError of such a table is raised instead.
    """
    if model.pipeline is None:
        return [], []
    cases: list[Case] = []
    remarks: list[str] = []
    own = model.pipeline.steps
    for steps in sorted({own, min(FEW, own)}):
        try:
            cases.append(Case.of_pipeline(model, steps))
        except InputError as error:
            if must:
                raise
            remarks.append(f"{error}; its schedule is not looked at there")
    return cases, remarks


def evaluations_of(model: Model) -> int:
    """Network evaluations that measuring what the faults cost takes, about; 0 where there are none to measure."""
    cases, _ = _cases(model, must=True)
    return cost_evaluations(cases)


def warnings(model: Model, faults: list[Fault]) -> list[str]:
    """Sentences on what is wrong: each kind of fault once, at the fewest steps; empty where nothing is."""
    sentences: dict[str, str] = {}
    for fault in faults:
        sentences.setdefault(fault.name, fault.sentence)
    words = list(sentences.values())
    s = s_of_tau(model.schedule.tau_max)
    if model.predicts in ("noise", "score") and s > UNSAFE_START and "alpha near zero" not in sentences:
        at_zero = zero_alpha_words(s, float(model.schedule.time(model.schedule.tau_max)))
        words.append(f"{at_zero}, as fewer's plans do")
    if model.pipeline is None:
        return words
    if model.clip is not None:
        words.append("the data prediction is clipped at every step (clip_sample or thresholding); plans do so too")
    calls = calls_of(own_scheduler(model.pipeline), model.pipeline.steps)
    if calls > MANY:
        words.append(f"the pipeline makes {calls} network calls a sample; `fewer tune --match` finds fewer")
    return words
