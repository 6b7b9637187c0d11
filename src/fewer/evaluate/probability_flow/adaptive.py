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
from fewer.evaluate.probability_flow.dormand_prince import Solution, integrate, relative
from fewer.guidance.cfg import ClassifierFree
from fewer.guidance.passes import Passes
from fewer.models.model import Model
from fewer.registry import part

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
    source="Dormand & Prince 1980, doi:10.1016/0771-050X(80)90013-3; Gustafsson 1991, doi:10.1145/210232.210242; "
    "Song et al. 2021, score SDE, arXiv:2011.13456",
    role="procedure",
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
    """Carry states along the flow of a model from level `start` to level `end`, down or up.

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
    labels = model.labels(len(x), labels)
    rule = None if guidance is None else ClassifierFree(guidance)
    if rule is not None and (labels is None or model.empty_label is None):
        raise InputError(f"guidance needs a model with labels and an empty label; {model.name} has none")
    passes = 1 if rule is None else rule.passes
    low = max(end, min(start, model.schedule.tau_min))
    x = x.to(model.device, torch.float64)
    ends, solutions = [], []
    with torch.inference_mode():
        for at in range(0, len(x), batch):
            rows = slice(at, at + batch)
            field = flow_field(model, None if labels is None else labels[rows], rule)
            solution = Solution(x[rows], (start,), 0, 0)
            if start != low:
                what = f"the flow of {model.name} at rtol {rtol:g}"
                solution = integrate(field, x[rows], start, low, relative(rtol, atol), most // passes, what)
            last = solution.x if low == end else solution.x + (end - low) * field(low, solution.x)
            if not bool(last.isfinite().all()):
                raise InputError(f"{model.name} returned values that are not finite")
            ends.append(last)
            solutions.append(solution)
    longest = max(solutions, key=lambda solution: solution.evaluations)
    calls = longest.evaluations + (low != end)
    return Adaptive(torch.cat(ends), end, longest.times, len(longest.times) - 1, longest.rejected, calls * passes)


def flow_field(
    model: Model, labels: Tensor | None = None, rule: ClassifierFree | None = None
) -> Callable[[float, Tensor], Tensor]:
    """u(tau, x) of float64 states, as the engine has it but in float64: guided, from the clipped data prediction."""

    def field(tau: float, x: Tensor) -> Tensor:
        if rule is None or labels is None or model.empty_label is None:
            return model.velocity(x, tau, labels)
        c_in, p, q = (number.item() for number in model.affine(tau))
        t = model.schedule.time(tau)
        passes = Passes(model, x, tau, c_in * x, t, labels, model.empty_label, lambda f: p * x + q * f)
        return model.clipped(x, tau, rule.output(passes))

    return field
