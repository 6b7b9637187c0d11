"""Samples that one pipeline leaves above the data and another goes on with, as a base and a refiner do: both must meet at a level.

A pipeline leaves off where its `denoising_end` is, and another begins where its `denoising_start` is, each at the next of its own
scheduler's times or of its plan's rows. Two plans need not have one there.
"""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.integrations.request_checks import ends_above
from fewer.models.pipelines.cut.beginnings import first_below

if TYPE_CHECKING:
    from fewer.integrations.playing import Playing
    from fewer.integrations.run import Run
    from fewer.integrations.scheduler import FewerScheduler

NEAR = 1e-4  # how far apart levels are that count as one

_lock = threading.Lock()
_known: WeakSet[FewerScheduler] = WeakSet()


def know(scheduler: FewerScheduler) -> None:
    """Take a scheduler for one whose samples others may go on with."""
    with _lock:
        _known.add(scheduler)


def may_hand_on(pipe: Any) -> bool:
    """Whether calls of a pipeline can leave samples above the data."""
    return "denoising_end" in inspect.signature(type(pipe).__call__).parameters


def check_taken(scheduler: Playing, n: int, sample: Tensor) -> None:
    """Raises InputError where a run begins at row n with samples that another scheduler's run has left at another level."""
    for other in _others(scheduler):
        run = other.run
        if run.state is None or run.at is None or run.state.shape[1:] != sample.shape[1:]:
            continue
        shown = other.shown(run, run.at, run.state, sample.dtype).to(sample.device)
        if not any(torch.equal(one, sample[0]) for one in shown):
            continue
        left, begins = other.scales.levels[run.at], scheduler.scales.levels[n]
        if abs(left - begins) > NEAR:
            raise InputError(
                f"plan {other.plan.name!r} has left these samples at time {_time(other, left):g}, and plan "
                f"{scheduler.plan.name!r} goes on at time {scheduler.times[n]:g}: apply one plan to both pipelines, or plans that "
                "were tuned with the same num_inference_steps and share (denoising_end, denoising_start)"
            )


def check_left(scheduler: FewerScheduler, before: Run, share: Any) -> None:
    """After a call with a `denoising_end` of this share: warn where nothing that is known goes on from where its plan leaves off.

    before  the run before the call

    Raises InputError where a plan that was made to end above the data has not been played to its end.
    """
    run, plan = scheduler.run, scheduler.plan
    if run is before or share is None or run.at is None or run.at >= len(plan.rows):
        return
    time, level = scheduler.times[run.at], scheduler.scales.levels[run.at]
    if ends_above(plan):
        raise InputError(
            f"denoising_end is {share!r}, which leaves off at time {time:g}; plan {plan.name!r} ends at time "
            f"{scheduler.end_time:g}: call the pipeline with the denoising_end that it was made for"
        )
    if any(_has_row_at(other, level) for other in _others(scheduler)):
        return
    own = scheduler.own()
    own.set_timesteps(len(plan.rows))
    theirs = first_below(share, torch.as_tensor(own.timesteps).tolist(), own)
    if theirs is not None and abs(theirs - time) > 1e-3 * max(time, 1.0):
        warnings.warn(
            f"plan {plan.name!r} leaves its samples at time {time:g}, where the pipeline's own scheduler would at {theirs:g}: what "
            "goes on with them has to begin there. Apply the plan to that pipeline too, or tune one for the call with its "
            "denoising_end",
            stacklevel=4,
        )


def _others(scheduler: Playing) -> Iterable[FewerScheduler]:
    with _lock:
        return [each for each in _known if each is not scheduler]


def _has_row_at(scheduler: FewerScheduler, level: float) -> bool:
    """Whether any of a scheduler's plans begins a row at a level."""
    rows = [tau for choice in scheduler.choices.values() for tau in choice.scales.levels[:-1]]
    return any(abs(tau - level) <= NEAR for tau in rows)


def _time(scheduler: FewerScheduler, level: float) -> float:
    return 0.0 if level == 0 else float(scheduler.frame.schedule.time(level))
