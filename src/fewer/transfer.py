"""A plan on a model that it was not made for: a fine-tune, a LoRA, another resolution, another noise schedule.

u = eps - D means the same on every network, whatever it predicts and whatever process it was trained under. So a plan's
levels, weights and guidance are played as they are, at any size of sample; its times and blocks are the network's own:

    t_n' = t_n           where the model's noise schedule is the one that the plan was made under
           t(tau_n)      else: what this network is told at the level of the row

Whether the plan is still worth having there is measured, by `fewer.compare`.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from fewer.engine import bind, check_fit, sample
from fewer.errors import InputError, NotFinite, first_line
from fewer.models.model import Model
from fewer.plan import Plan, Row

ROUNDING = 1e-6  # of a level


def transferred(model: Model, plan: Plan) -> tuple[Plan, list[str]]:
    """The plan as this model is to play it, and sentences that say what is different from where it was made.

    Plans that do not say under which noise schedule they were made (read off a scheduler, or of an older version) keep their
    times. Raises InputError, before more than one sample is played, where it cannot be: tensors of another shape than the
    samples' or the blocks', levels noisier than the network was trained for, guidance without an empty label, blocks or
    networks that are not there.
    """
    plan.check(tuple(model.shape))
    said = []
    if (other := check_fit(model, plan)) is not None:
        said.append(other)
        plan, moved = _retimed(model, plan)
        said += moved
        _check_levels(model, plan)
    if any("empty" in row.conditions for row in plan.rows) and (model.classes is None or model.empty_label is None):
        raise InputError(
            f"plan {plan.name!r} is guided, which needs a model with labels and an empty label; {model.name} has none"
        )
    bind(model, plan)
    if said:
        _try_tensors(model, plan)
    return plan, said


def _retimed(model: Model, plan: Plan) -> tuple[Plan, list[str]]:
    """The plan told the times of the networks that are there, where they are of another noise schedule."""
    made_for = ((plan.model or {}), *plan.others)
    told: dict[int, str] = {}
    for k in plan.networks:
        its = made_for[k].get("schedule") if k < len(made_for) else None
        here = model.called(k)
        if its is not None and its != here.schedule.describe():
            told[k] = f"made under another noise schedule ({its}): at its levels {here.name} is told times of its own"
    rows = tuple(_at_own_time(model.called(row.network), row) if row.network in told else row for row in plan.rows)
    return replace(plan, rows=rows), [f"plan {plan.name!r} was {words}" for words in told.values()]


def _at_own_time(model: Model, row: Row) -> Row:
    t = model.schedule.time(row.tau)
    return replace(row, t=t if isinstance(row.tau, Tensor) else float(t))


def _check_levels(model: Model, plan: Plan) -> None:
    for n, row in enumerate(plan.rows):
        here = model.called(row.network)
        if float(row.tau) > (top := here.schedule.tau_max) + ROUNDING:
            raise InputError(
                f"plan {plan.name!r} has row {n} at level {float(row.tau):.6g}; {here.name} knows levels up to {top:.6g}"
            )


def _try_tensors(model: Model, plan: Plan) -> None:
    """Plays one sample where shortcuts have tensors, which need not broadcast to what blocks give at this size."""
    cells = [cell for row in plan.rows for cell in row.blocks.values()]
    if not any(isinstance(value, Tensor) for cell in cells for value in (*cell.weights.values(), cell.offset)):
        return
    try:
        sample(model, plan, 1)
    except NotFinite:
        return
    except RuntimeError as error:
        raise InputError(
            f"plan {plan.name!r} has blocks with tensors that do not fit {model.name} at {tuple(model.shape)}: {first_line(error)}"
        ) from error
