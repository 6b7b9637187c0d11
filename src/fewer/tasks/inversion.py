"""Inversion: the noise from which a plan makes a given image.

A plan of first order goes from level tau_n to tau_{n+1} by x_{n+1} = x_n + (tau_{n+1} - tau_n) u(x_n, tau_n). Backwards
x_n = x_{n+1} + (tau_n - tau_{n+1}) u(x_n, tau_n) is implicit. Either kind of inversion is a plan itself, with rising
levels, played from the image (level 0) up to the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from fewer.engine import MICRO_BATCH, bind, play
from fewer.errors import InputError, whole
from fewer.models.edge import in_own_precision
from fewer.models.model import Model
from fewer.plan import Plan, Row, Start
from fewer.registry import part


@part(
    "explicit-inversion",
    title="DDIM run backwards: the output at each step's cleaner end",
    source="Song et al. 2021, DDIM (encoding by the reversed ODE), arXiv:2010.02502",
    role="plan policy",
)
def explicit_inversion(plan: Plan) -> Plan:
    """x_n = x_{n+1} + (tau_n - tau_{n+1}) u(x_{n+1}, tau_{n+1}), one call a level of a plan.

    The error of each step is of second order in it. No network knows level 0: the image is seen as if it lay at the
    cleanest level of the plan. A rule of guidance is the step's, not the level's: of `cfg++` this makes its inversion,
    x_n = (1 - tau_n) D(empty) + tau_n (eps(empty) + strength (eps(label) - eps(empty))) with outputs at x_{n+1}.
    """
    rows = _rising(plan)
    levels = [0.0, *(float(row.tau) for row in rows)]
    sources = [rows[0], *rows[:-1]]
    steps = [there - here for here, there in pairwise(levels)]
    inverted = [
        replace(source, b={n: step}, guidance=row.guidance)
        for n, (source, row, step) in enumerate(zip(sources, rows, steps, strict=True))
    ]
    return _played_up(plan, inverted, "explicit inversion")


@part(
    "fixed-point-inversion",
    title="DDIM's step solved for its noisier end by fixed-point iteration",
    source="Pan et al. 2023, AIDI, arXiv:2309.04907; Garibi et al. 2024, ReNoise, arXiv:2403.14602",
    role="plan policy",
)
def fixed_point_inversion(plan: Plan, iterations: int = 8) -> Plan:
    """x_n^(k+1) = x_{n+1} + (tau_n - tau_{n+1}) u(x_n^(k), tau_n), `iterations` calls a level of a plan.

    The first guess x_n^(0) is a step with the last output of the level before; the image itself is the first of all.
    Where the data prediction's Jacobian lies between 0 and 1 the error falls to at most (tau_n - tau_{n+1}) / tau_n of
    itself an iteration. Raises InputError for `iterations` below 1.
    """
    whole("iterations", iterations)
    rows = _rising(plan)
    ends = [float(row.tau) for row in rows]
    steps = [there - here for here, there in pairwise([0.0, *ends])]
    inverted: list[Row] = []
    for row, step, ahead in zip(rows, steps, [*steps[1:], 0.0], strict=True):
        for k in range(iterations):
            n = len(inverted)
            # the state moves by what the new output changes in the step: x^(k+1) - x^(k) = step (u_k - u_{k-1});
            # the guess that the level began with was made with the output before, or none
            b = {n: step} if n == 0 else {n: step, n - 1: -step}
            if k == iterations - 1:
                b[n] += ahead
            inverted.append(replace(row, b=b))
    return _played_up(plan, inverted, f"fixed-point inversion, {iterations} a level")


@in_own_precision
def invert(
    model: Model,
    plan: Plan,
    images: Tensor,
    labels: Any = None,
    *,
    iterations: int = 8,
    batch: int = MICRO_BATCH,
) -> Tensor:
    """Starting noise (n, *shape) from which `plan` makes the images, for `fewer.sample(model, plan, noise=...)`.

    plan        of first order (ddim, euler; guidance is kept), without noise
    images      (n, *shape) in the model's data range
    labels      integers (n,), or one for all, as for `fewer.sample`
    iterations  of the fixed point a level, each as dear as the plan itself; 0 for explicit inversion

    Parts of an image that the model cannot make are lost. Where it clips, many noises make one image; one is returned.
    Raises InputError for shapes and labels that do not fit, and for plans of another kind.
    """
    if tuple(images.shape[1:]) != tuple(model.shape) or not len(images):
        expected = f"(n, {', '.join(map(str, model.shape))})"
        raise InputError(f"images have shape {tuple(images.shape)}; {model.name} needs {expected}")
    whole("batch", batch)
    up = explicit_inversion(plan) if iterations == 0 else fixed_point_inversion(plan, iterations)
    steps = bind(model, up.check(tuple(model.shape)))
    classes = model.labels(len(images), labels)
    inverted = []
    with torch.inference_mode():
        for at in range(0, len(images), batch):
            rows = slice(at, at + batch)
            x = images[rows].to(model.device, torch.float32)
            inverted.append(play(model, steps, x, None if classes is None else classes[rows]))
    noise = (torch.cat(inverted) - _on(model, plan.start.offset)) / _on(model, plan.start.scale)
    if not bool(noise.isfinite().all()):
        raise InputError(f"{model.name} returned values that are not finite under plan {up.name!r}")
    return noise


def _rising(plan: Plan) -> list[Row]:
    """The rows from the cleanest to the noisiest; InputError where one does more than DDIM's step."""
    plan.check()
    start = plan.start
    if isinstance(start.noise, Tensor) or start.noise != 0 or start.directions is not None:
        raise InputError(f"plan {plan.name!r} cannot be inverted: its start is not a multiple of the noise")
    if float(plan.end) != 0:
        raise InputError(f"plan {plan.name!r} ends at level {float(plan.end):g}; inversion begins at an image, level 0")
    for n, (row, there) in enumerate(zip(plan.rows, plan.levels[1:], strict=True)):
        b = {j: float(weight) for j, weight in row.b.items() if j == n or float(weight) != 0}
        plain = (
            row.a is None
            and not plan.stochastic
            and list(b) == [n]
            and not isinstance(row.offset, Tensor)
            and row.offset == 0
        )
        if not plain or abs(b[n] - float(there) + float(row.tau)) > 1e-6:
            raise InputError(
                f"plan {plan.name!r} cannot be inverted: row {n} is not a step of first order without noise (ddim, euler)"
            )
    return list(reversed(plan.rows))


def _played_up(plan: Plan, rows: Sequence[Row], what: str) -> Plan:
    first = float(rows[0].tau)
    name = f"{plan.name}, {what}"
    return Plan(Start(first, first), tuple(rows), plan.start.tau, name, plan.model, others=plan.others)


def _on(model: Model, value: float | Tensor) -> float | Tensor:
    return value.to(model.device, torch.float32) if isinstance(value, Tensor) else value
