"""Plans whose rows name the expert that they call, in a pipeline that decides it by a boundary between times."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fewer.engine import times
from fewer.errors import InputError
from fewer.integrations.trained import OWN, described, frame
from fewer.models.pipelines.experts import CLEAN, NOISY, boundary, ratio_between
from fewer.plan import Plan


def split_of(plans: tuple[Plan, ...], pipe: Any, trained: Any) -> tuple[tuple[Plan, ...], float | None]:
    """The plans with rows that call what the pipeline takes, and the boundary ratio at which this is what they name; None for plans
    that name no expert, and pipelines without two.

    Raises InputError for several plans of which one names experts, and for rows that go back to the expert of noisy times.
    """
    named = [plan for plan in plans if set(plan.networks) <= {NOISY, CLEAN}]
    if not named or boundary(pipe) is None:
        return plans, None
    if len(plans) > 1:
        raise InputError(
            f"plan {named[0].name!r} of the front moves the boundary between the pipeline's experts, which is one for all plans: "
            "apply one plan"
        )
    (plan,) = plans
    plain = replace(plan, rows=tuple(replace(row, network=0) for row in plan.rows))
    given = described(trained)[0]
    numbers = {name: given[name] for name in OWN if name in ("process", "schedule", "predicts", "sigma_data", "clip")}
    model = frame(**numbers)
    steps = int(pipe.scheduler.config.get("num_train_timesteps", 1000))
    ratio = ratio_between([float(t) for t in times(model, plain)], [row.network for row in plan.rows], steps)
    if ratio is None:
        raise InputError(
            f"plan {plan.name!r} goes back to the expert of noisy times, which no boundary between times does"
        )
    return (plain,), ratio
