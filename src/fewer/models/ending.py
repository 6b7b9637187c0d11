"""Models whose samples are states of a level e above the data, as a base's are that another pipeline goes on with.

The way from noise down to such a state is a flow to data once more. With y = x_e the state at the end, at any level tau above it

    x = (1 - tau') y + tau' eps,    tau' = (tau - e) / (1 - e),    u' = dx/dtau' = (1 - e) u,

for straight paths from the data; and x and u' are what they are on any path. So a model that ends at e is played, searched and
measured as all are, in the frame of its end: the same states x, levels tau' that are counted from there, and the output u'. Plans
that users have are in the model's own frame, where the last row goes to e: `counted` and `named` take them there and back.

In the frame of the end, noise that rows add has its own size, as states have; solvers and grids are compiled in the model's own
frame (`fewer.solvers.compile_plan`, `fewer.grids.levels`), and are what they are called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fewer.errors import InputError
from fewer.levels import Number
from fewer.models.beginning import Beginning
from fewer.models.denoiser import Denoiser
from fewer.models.pipelines.cut.network import PipelineNetwork
from fewer.models.schedules import Schedule
from fewer.plan import Plan, Row, Start
from fewer.plan.values import Coefficient

LOWEST = 1e-3  # the cleanest level tau' at which the network is called: below it the state moves on a straight line
MARK = "ends"  # in the `model` of plans whose levels are above an end
SAME = 1e-6  # how far apart levels are that count as one


@dataclass(frozen=True)
class Ended:
    """The noise schedule of a model in the frame of its end.

    own    of the network
    end    e, in (0, 1)
    start  the level of `own` that plans start at
    """

    own: Schedule
    end: float
    start: float

    @property
    def tau_max(self) -> float:
        """The level of the start."""
        return float(self.counted(self.start))

    @property
    def tau_min(self) -> float:
        """A level next to the end."""
        return LOWEST

    def counted(self, tau: Any) -> Any:
        """The level tau', a float, array or tensor, of a level tau of the network's own."""
        return (tau - self.end) / (1 - self.end)

    def named(self, tau: Any) -> Any:
        """The level tau of a level tau'."""
        return self.end + (1 - self.end) * tau

    def tau(self, t: Number) -> Tensor:
        """The level of a network's time."""
        return torch.as_tensor(self.counted(self.own.tau(t)))

    def time(self, tau: Number) -> Tensor:
        """The network's time at a level."""
        return self.own.time(self.named(tau))

    def scale(self, tau: Number) -> Tensor:
        """1: the network in this frame takes the state itself."""
        return torch.ones_like(torch.as_tensor(tau, dtype=torch.float64))

    def describe(self) -> str:
        """That of the network's own, whose times its times are."""
        return self.own.describe()


class EndedNetwork(PipelineNetwork):
    """A pipeline's loop as the network (x, t, labels) -> u' of the frame of an end, by the `denoiser` of its own frame."""

    def __init__(self, denoiser: Denoiser, end: float) -> None:
        own = denoiser.network
        assert isinstance(own, PipelineNetwork)
        super().__init__(own.cut, own.classes, own.size, own.copies)
        self.denoiser, self.end = denoiser, end

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor | None) -> Tensor:
        """(1 - e) u (n, *shape) float32, of the clipped data prediction where the model clips."""
        tau = float(self.denoiser.schedule.tau(t.flatten()[0].double()))
        return (1 - self.end) * self.denoiser.velocity(x.float(), tau, labels)


def ended(denoiser: Denoiser, end: float) -> Denoiser:
    """A pipeline's denoiser in the frame of its end at level `end`."""
    schedule = Ended(denoiser.schedule, end, denoiser.start)
    return replace(
        denoiser, network=EndedNetwork(denoiser, end), schedule=schedule, predicts="flow", clip=None, sigma_data=0.5
    )


def counted_beginning(schedule: Ended, beginning: Beginning) -> Beginning:
    """A call's beginning in the frame of its end, where (1 - tau) D = (1 - tau') (1 - e) D."""
    return replace(beginning, level=float(schedule.counted(beginning.level)), data=(1 - schedule.end) * beginning.data)


def counted(schedule: Schedule, plan: Plan) -> Plan:
    """A plan whose last row goes to a model's end, in the frame of that. Others stay as they are: those of that frame and of models
    without an end.

    Raises InputError for a plan that ends elsewhere.
    """
    end = float(plan.end)
    if not isinstance(schedule, Ended) or (end == 0 and MARK in (plan.model or {})):
        return plan
    if abs(end - schedule.end) > SAME:
        raise InputError(
            f"plan {plan.name!r} ends at level {end:g}, and samples of the model are at level {schedule.end:g} "
            f"(t = {float(schedule.own.time(schedule.end)):g})"
        )
    start = replace(plan.start, tau=schedule.counted(plan.start.tau))
    rows, model = _rows(plan, schedule.counted, 1 / (1 - schedule.end)), marked(schedule) | dict(plan.model or {})
    return replace(plan, start=start, rows=rows, end=0.0, model=model)


def named(schedule: Schedule, plan: Plan) -> Plan:
    """A plan of the frame of a model's end, as one whose last row goes to that; the plan itself of a model without one."""
    if not isinstance(schedule, Ended) or float(plan.end) != 0:
        return plan
    start = replace(plan.start, tau=schedule.named(plan.start.tau))
    return replace(plan, start=start, rows=_rows(plan, schedule.named, 1 - schedule.end), end=schedule.end)


def marked(schedule: Schedule) -> dict[str, str]:
    """What the `model` of a plan says of its end: its level in the network's own frame; {} for models without one."""
    return {MARK: f"{schedule.end:.9g}"} if isinstance(schedule, Ended) else {}


def plain_start(schedule: Schedule, tau: float) -> Start:
    """The start of a plan from the noise alone at a level of a model's frame."""
    return Start(tau, float(schedule.named(tau)) if isinstance(schedule, Ended) else tau)


def _rows(plan: Plan, level: Callable[[Coefficient], Coefficient], factor: float) -> tuple[Row, ...]:
    """The rows at other levels, with the weights of their outputs times a factor."""
    return tuple(
        replace(row, tau=level(row.tau), b={j: factor * weight for j, weight in row.b.items()}) for row in plan.rows
    )
