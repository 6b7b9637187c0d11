"""The adaptive reference: a model's probability flow in float64, with as many calls as a tolerance needs.

In the flow frame dx/dtau = u(x, tau), which is regular from pure noise (tau = 1) to the cleanest level, and straight
where data and noise are: unlike log s it has no infinite end. Step sizes depend on the samples, so this is no plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fewer.engine import MICRO_BATCH
from fewer.errors import InputError
from fewer.guidance.cfg import ClassifierFree
from fewer.guidance.passes import Passes
from fewer.models.model import Model
from fewer.parts import part
from fewer.processes.dormand_prince import Solution, integrate, relative

MOST = 20_000


@dataclass(frozen=True)
class Adaptive:
    """States (n, *shape) float64 at level `tau`, and what they cost.

    `levels` are those between accepted steps, both ends included, of the batch that needed most; `accepted` and
    `rejected` steps and network `evaluations` per sample are its too (a guided call counts 2).
    """

    x: Tensor
    tau: float
    levels: tuple[float, ...]
    accepted: int
    rejected: int
    evaluations: int


@part(
    "adaptive",
    title="The probability flow in float64 by Dormand-Prince 5(4) with PI step-size control",
    source="Dormand & Prince 1980; Gustafsson 1991; Song et al. 2021, score SDE",
)
def adaptive(
    model: Model,
    x: Tensor,
    labels: Any = None,
    *,
    start: float | None = None,
    end: float = 0.0,
    rtol: float = 1e-8,
    atol: float = 1e-8,
    guidance: float | None = None,
    batch: int = MICRO_BATCH,
    most: int = MOST,
) -> Adaptive:
    """Carries states along the flow of a model from level `start` to level `end`, down or up.

    x           (n, *shape) in the flow frame, (1 - tau) D + tau eps; `start` times unit noise to sample
    start       level of x in (0, 1]; by default the one that samplers start from
    end         level to reach; below the cleanest trained level, which 0 is, the data prediction made there goes on
    rtol, atol  of a step: each sample's root mean square of error / (atol + rtol |x|) is at most 1
    guidance    scale of classifier-free guidance
    batch       samples that share their steps
    most        network evaluations per sample

    The states, the output map and, where the model's dtype is float64, times and network are float64.
    Raises InputError for shapes and levels that do not fit, and where `most` evaluations do not suffice.
    """
    if tuple(x.shape[1:]) != tuple(model.shape) or not len(x):
        raise InputError(f"x has shape {tuple(x.shape)}; {model.name} needs (n, {', '.join(map(str, model.shape))})")
    start = model.start if start is None else start
    if not (0 < start <= 1 and 0 <= end <= 1):
        raise InputError(f"levels are start {start} and end {end}; expected 0 < start <= 1 and 0 <= end <= 1")
    if not (0 < rtol < 1 and 0 < atol < math.inf) or batch < 1 or most < 1:
        raise InputError(
            f"rtol {rtol}, atol {atol}, batch {batch}, most {most}: expected positive numbers, rtol below 1"
        )
    given = model.labels(len(x), labels)
    rule = None if guidance is None else ClassifierFree(guidance)
    if rule is not None and (given is None or model.empty_label is None):
        raise InputError(f"guidance needs a model with labels and an empty label; {model.name} has none")
    passes = 1 if rule is None else rule.passes
    low = max(end, min(start, model.schedule.tau_min))
    x = x.to(model.device, torch.float64)
    ends, solutions = [], []
    with torch.inference_mode():
        for at in range(0, len(x), batch):
            rows = slice(at, at + batch)
            field = flow_field(model, None if given is None else given[rows], rule)
            what = f"the flow of {model.name} at rtol {rtol:g}"
            found = _carried(field, x[rows], start, low, rtol, atol, most // passes, what)
            last = found.x if low == end else found.x + (end - low) * field(low, found.x)
            if not bool(last.isfinite().all()):
                raise InputError(f"{model.name} returned values that are not finite")
            ends.append(last)
            solutions.append(found)
    most_of = max(solutions, key=lambda found: found.evaluations)
    calls = most_of.evaluations + (low != end)
    return Adaptive(torch.cat(ends), end, most_of.times, len(most_of.times) - 1, most_of.rejected, calls * passes)


def _carried(
    field: Callable[[float, Tensor], Tensor],
    x: Tensor,
    start: float,
    end: float,
    rtol: float,
    atol: float,
    most: int,
    what: str,
) -> Solution:
    if start == end:
        return Solution(x, (start,), 0, 0)
    return integrate(field, x, start, end, relative(rtol, atol), most, what)


def flow_field(model: Model, labels: Tensor | None = None, rule: ClassifierFree | None = None) -> Any:
    """u(tau, x) of float64 states, as the engine has it but in float64: guided, from the clipped data prediction."""
    times_in = torch.float64 if model.dtype == torch.float64 else torch.float32

    def call(x: Tensor, t: Any, labels: Tensor | None) -> Tensor:
        times = torch.as_tensor(t, dtype=times_in, device=x.device).expand(len(x))
        out = model.network(x.to(model.dtype), times, labels)
        return out[:, : x.shape[1]].to(torch.float64)

    def field(tau: float, x: Tensor) -> Tensor:
        c_in, p, q = (number.item() for number in model.affine(tau))
        t = float(model.schedule.time(tau))

        def frame(f: Tensor) -> Tensor:
            return p * x + q * f

        if rule is None or labels is None or model.empty_label is None:
            u = frame(call(c_in * x, t, labels))
        else:
            u = rule.output(Passes(call, x, tau, c_in * x, t, labels, model.empty_label, frame))
        if model.clip is None:
            return u
        data = x - tau * u
        clipped = model.clip(data)
        return (x - clipped) / tau if tau > 0.5 else u + (data - clipped) / tau

    return field
