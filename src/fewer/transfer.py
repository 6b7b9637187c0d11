"""A plan on a model that it was not made for: a fine-tune, a LoRA, another resolution, another noise schedule.

u = eps - D means the same on every network, whatever it predicts and whatever process it was trained under. So a plan's
levels, weights and guidance are played as they are, at any size of sample; its blocks are the network's own, and so are
the times (`fewer.engine.times`).

`fewer.evaluate.leaderboard` measures whether the plan is still good there.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from fewer.engine import bind, check_fit, sample
from fewer.engine.times import schedule_notes
from fewer.errors import ForeignError, InputError, NotFinite, first_line
from fewer.models.ending import counted
from fewer.models.model import Model
from fewer.plan import Plan

ROUNDING = 1e-6  # of a level


def transferred(model: Model, plan: Plan) -> tuple[Plan, list[str]]:
    """The plan as this model plays it, and notes for the user on what differs from where the plan was made.

    Stored times of another noise schedule are left out. Raises InputError, before more than one
    sample is played, where it cannot be played: tensors of another shape than the samples' or the blocks', levels noisier
    than the network was trained for, guidance without an empty label, blocks or networks that are not there.
    """
    plan = counted(model.schedule, plan.check(tuple(model.shape)))
    fit, schedules = check_fit(model, plan), schedule_notes(model, plan)
    notes = ([] if fit is None else [fit]) + list(schedules.values())
    if notes:
        rows = (replace(row, t=None) if row.network in schedules else row for row in plan.rows)
        plan = replace(plan, rows=tuple(rows))
        _check_levels(model, plan)
    if any("empty" in row.conditions for row in plan.rows) and (model.classes is None or model.empty_label is None):
        raise InputError(
            f"plan {plan.name!r} is guided, which needs a model with labels and an empty label; {model.name} has none"
        )
    bind(model, plan)
    if notes:
        _try_tensors(model, plan)
    return plan, notes


def _check_levels(model: Model, plan: Plan) -> None:
    for n, row in enumerate(plan.rows):
        here = model.called(row.network)
        if float(row.tau) > (top := here.schedule.tau_max) + ROUNDING:
            raise InputError(
                f"plan {plan.name!r} has row {n} at level {float(row.tau):.6g}; {here.name} knows levels up to {top:.6g}"
            )


def _try_tensors(model: Model, plan: Plan) -> None:
    """Play one sample where shortcuts have tensors, which need not broadcast to the blocks' outputs at this size."""
    shortcuts = [shortcut for row in plan.rows for shortcut in row.blocks.values()]
    if not any(isinstance(value, Tensor) for each in shortcuts for value in (*each.weights.values(), each.offset)):
        return
    try:
        sample(model, plan, 1)
    except NotFinite:
        return
    except ForeignError as error:
        if not isinstance(error.__cause__, RuntimeError):
            raise
        raise InputError(
            f"plan {plan.name!r} has blocks with tensors that do not fit {model.name} at {tuple(model.shape)}: "
            f"{first_line(error.__cause__)}"
        ) from error
