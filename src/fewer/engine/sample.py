"""Samples of a model under a plan: checked, in micro-batches, the same bits in any process."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fewer.arguments import as_count, as_model, as_number, as_plan, as_tensor
from fewer.engine.bind import bind
from fewer.engine.paths import BrownianPath, spans
from fewer.engine.play import Callback, Draws, History, add, begin, begun, play
from fewer.engine.times import warn_of_lost_times
from fewer.errors import InputError, NotFinite
from fewer.memory import check_room, halving
from fewer.models.edge import in_own_precision
from fewer.models.model import Model
from fewer.noise import Draw, DrawNumber, unit_noise
from fewer.plan import Plan

MICRO_BATCH = 64
UNTOLD = (
    "whether this is that network cannot be told, since its weights are not reached: give hash= to Model.from_denoiser"
)


@in_own_precision
def sample(
    model: Model,
    plan: Plan,
    n: int | None = None,
    *,
    seed: int = 0,
    noise: Tensor | None = None,
    labels: Any = None,
    batch: int | None = None,
    callback: Callback | None = None,
    init: Tensor | None = None,
    strength: float | None = None,
    progress: Callable[[int, int], Any] | None = None,
    first_sample: int = 0,
    others: Sequence[Model] | None = None,
    brownian: bool = False,
) -> Tensor:
    """Samples (n, *shape) float32 in the model's data range, on the model's device.

    The same plan, seed, device, micro-batch and number of threads give the same bits in any process. Other micro-batches
    change the network's rounding: by at most 5e-4 of the samples' standard deviation on the bundled models in float32.
    A model's name or folder stands for the model, here as in all public functions, and a plan's file for the plan.

    n         how many (64, or as many as `noise` has)
    seed      sample i of a seed starts from the same bits in any batch
    noise     unit-variance starting noise (n, *shape) instead of the seed's
    labels    integers (n,) or one for all; None draws them evenly where the model has classes
    batch     samples per micro-batch (default 64); halved and tried again where the device's memory is too small
    callback  f(row, x, data_prediction) after each network call of each micro-batch
    init      data (n, *shape) to start from: mixed with noise at the level `strength` in (0, 1] of the way up
    strength  the level tau to start at with `init`: 1 keeps nothing of it
    progress  progress(done samples, all samples) after each micro-batch
    first_sample  number of the first sample in the seed's noise
    others    further models, which rows of the plan call in the model's place: those of network 1, 2, ..
    brownian  rows add increments of one Brownian path a sample over the levels, for noise of their own: of the same law, and
              samples of one seed converge with more calls, sample by sample (see fewer.engine.paths)

    Raises InputError for shapes, labels and plans that do not fit the model, and where the model returns NaN. Warns where
    rows have times of their own under another noise schedule: the model is given its own times at their levels.
    """
    model, plan, seed = as_model(model), as_plan(plan), as_count(seed, "seed", 0)
    noise, init = (None if x is None else as_tensor(x, name) for name, x in (("noise", noise), ("init", init)))
    if n is None:
        n = len(noise) if noise is not None else len(init) if init is not None else 64
    n, size = as_count(n, "n"), MICRO_BATCH if batch is None else as_count(batch, "batch")
    check_room(n, math.prod(model.shape), model.device)
    if others is not None:
        model = replace(model, others=tuple(others))
    plan.check(tuple(model.shape))
    plan.check_plain()
    for name, given in (("noise", noise), ("init", init)):
        if given is not None and tuple(given.shape) != (n, *model.shape):
            raise InputError(f"{name} has shape {tuple(given.shape)}; {model.name} needs {(n, *model.shape)}")
    if callback is not None and not callable(callback):
        raise InputError(f"callback is {callback!r:.80}; expected a function f(row, x, data_prediction)")
    if (init is None) != (strength is None):
        raise InputError("init and strength go together")
    if strength is not None:
        strength = as_number(strength, "strength")
        if not 0 < strength <= 1:
            raise InputError(f"strength is {strength}; expected a number in (0, 1]")
        plan = plan.from_level(strength)
    all_labels = model.labels(n, labels)
    steps = bind(model, plan)
    rows = spans(plan) if brownian else [None] * len(plan.rows)
    warn_of_lost_times(model, plan)

    def micro_batch(part: range) -> Tensor:
        numbers = range(first_sample + part.start, first_sample + part.stop)
        some = slice(part.start, part.stop)

        def unit(draw: DrawNumber, shape: Sequence[int] = model.shape) -> Tensor:
            return unit_noise(seed, numbers, shape, draw, model.device)

        path = BrownianPath(unit)

        def of_row(k: int) -> Tensor:
            return unit(Draw.ROW(k)) if (span := rows[k]) is None else path.increment(span)

        def run(**more: Any) -> Tensor:
            draws = Draws(of_row, lambda k, size: unit(Draw.GUIDANCE(k), size))
            return play(model, steps, x, part_labels, draws=draws, **more)

        z = unit(Draw.START()) if noise is None else noise[some].to(device=model.device, dtype=torch.float32)
        part_labels = None if all_labels is None else all_labels[some]
        if init is None:
            x = begun(model, plan, z, part_labels, lambda: unit(Draw.START_NOISE()))
        else:
            x = begin(plan, z, lambda: unit(Draw.START_NOISE()))
            x = add(x, 1 - float(plan.start.tau), init[some].to(device=model.device, dtype=torch.float32))
        out = run(callback=callback)
        # a finite sum has finite terms; only a sum that is not has to be looked at closer, since it may have overflowed
        if not math.isfinite(out.sum()) and not bool(out.isfinite().all()):
            run(history=(again := History()))  # to find the row in which it began
            bad = [k for k, u in again.outputs.items() if not bool(u.isfinite().all())]
            where = f", first in row {bad[0]} (t = {float(steps[bad[0]].t):.6g})" if bad else ""
            raise NotFinite(f"{model.name} returned values that are not finite under plan {plan.name!r}{where}")
        return out

    samples: list[Tensor] = []
    with torch.inference_mode():
        for part, batch_samples in halving(n, size, micro_batch):
            samples.append(batch_samples)
            if progress is not None:
                progress(part.stop, n)
    return torch.cat(samples)


def check_fit(model: Model, plan: Plan) -> str | None:
    """Note for the user where the plan was made for another model, or where that is unknown; None where it fits.

    The hashes say so. A plan of which nothing was measured fits a model of its name where one of them has no hash.
    """
    made_for: Mapping[str, str] = plan.model or {}
    for entry, one in zip((made_for, *plan.others), (model, *model.others), strict=False):
        name, its = entry.get("name", "another model"), entry.get("hash")
        if entry and not (its and one.hash) and name == one.name:
            if plan.evidence:
                return f"plan {plan.name!r} was made for {name}; {UNTOLD}"
        elif entry and not one.is_called(its):
            return f"plan {plan.name!r} was made for {name}, not for {one.name}"
    return None
