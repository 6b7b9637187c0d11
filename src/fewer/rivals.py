"""Whom a given plan is held against on a model, and whether it holds there, in words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fewer.measures.interval import Interval
from fewer.measures.paired import Decision
from fewer.models.model import Model
from fewer.plan import Plan
from fewer.shortcuts.price import call_macs, plan_macs

HOLDS = {"better": True, "not worse": True, "worse": False, "cannot tell": None}


@dataclass(frozen=True)
class Worth:
    """How many network evaluations a plan's rivals have: as many as it makes, or as many whole ones as it pays for.

    nfe    evaluations of the rivals
    macs   the plan's multiply-adds, where it leaves out blocks or calls a second network; None where all of its rows call
           the whole network, or torch counts no multiply-adds in it
    calls  as many whole evaluations, not rounded
    """

    nfe: int
    macs: int | None = None
    calls: float | None = None

    @classmethod
    def of(cls, model: Model, plan: Plan) -> Worth:
        """Of a plan whose blocks and networks the model has; at least one evaluation."""
        call = call_macs(model) if cheapened(plan) else 0
        if call == 0:
            return cls(plan.nfe)
        macs = plan_macs(model, plan, call)
        return cls(max(1, macs // call), macs, macs / call)

    def __str__(self) -> str:
        """What the rivals cost, in words."""
        said = f"{self.nfe} evaluation{'' if self.nfe == 1 else 's'}"
        if self.macs is None or self.calls is None:
            return said
        paid = f"its {self.macs:.4g} multiply-adds"
        if self.calls < 1:
            return f"{said} of the whole network, which costs more than {paid}"
        return f"{said} of the whole network, the most that {paid} pay for"


def cheapened(plan: Plan) -> bool:
    """Whether some rows do not cost a whole call of the model: they leave blocks out, or call a second network."""
    return any(row.blocks or row.network for row in plan.rows)


@dataclass(frozen=True)
class Held:
    """A plan held against the best standard plan of equal cost on a model.

    `ratio` is its error over that one's, or its Frechet distance where it adds noise; None where there is no such figure:
    its samples are not `finite`, or the rival has no error.
    """

    plan: Plan
    model: Model
    worth: Worth
    against: str
    margin: float
    decision: Decision
    ratio: Interval | None
    finite: bool = True

    def __str__(self) -> str:
        """Whether it holds there, and the figure that says so."""
        name, where = self.plan.name, self.model.name
        if not self.finite:
            return f"{name} does not hold on {where}: its samples are not finite"
        rival = f"{self.against}, the best standard sampler of {self.worth}"
        what = "Frechet distance" if self.plan.stochastic else "error"
        figure = f"its {what} is {self.ratio} of that of {rival}"
        if self.ratio is None:
            figure = f"without error like {rival}" if HOLDS[self.decision] else f"{rival}, has no error, and it has"
        if HOLDS[self.decision] is None:
            return f"{name}: cannot tell whether it holds on {where}, {figure}; more noises may tell"
        asked = (
            "" if self.decision == "better" or self.ratio is None else f"; at most {1 + self.margin:g} was asked for"
        )
        return f"{name} {'holds' if HOLDS[self.decision] else 'does not hold'} on {where}: {figure}{asked}"

    def to_dict(self) -> dict[str, Any]:
        """For the leaderboard's JSON, which has null where a figure has no end."""
        ratio = None
        if self.ratio is not None:
            ratio = {key: value if math.isfinite(value) else None for key, value in self.ratio.to_dict().items()}
        verdict = {"against": self.against, "margin": self.margin, "decision": self.decision, "ratio": ratio}
        return {
            "name": self.plan.name, "nfe": self.plan.nfe, "made_for": (self.plan.model or {}).get("name"),
            "cost": {"macs": self.worth.macs, "calls": self.worth.calls}, "against_nfe": self.worth.nfe,
            "holds": HOLDS[self.decision], "says": str(self), "verdict": verdict,
        }  # fmt: skip
