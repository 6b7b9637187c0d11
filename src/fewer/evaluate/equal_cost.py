"""Equal-cost baseline of a given plan on a model, and the verdict on the plan as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fewer.evaluate.cost.price import call_macs, plan_macs
from fewer.evaluate.verdict import Verdict, in_words
from fewer.models.model import Model
from fewer.plan import Plan


@dataclass(frozen=True)
class EqualCost:
    """Network evaluations of the baselines of a plan: as many as it makes, or as many whole ones as its cost pays for.

    nfe    evaluations of the baselines
    macs   the plan's multiply-adds, where it leaves out blocks or calls a second network; None where all of its rows call
           the whole network, or torch counts no multiply-adds in it
    calls  as many whole evaluations, not rounded
    """

    nfe: int
    macs: int | None = None
    calls: float | None = None

    @classmethod
    def of(cls, model: Model, plan: Plan) -> EqualCost:
        """Cost of the baselines of a plan whose blocks and networks the model has; at least one evaluation."""
        call = call_macs(model) if costs_partial_calls(plan) else 0
        if call == 0:
            return cls(plan.nfe)
        macs = plan_macs(model, plan, call)
        return cls(max(1, macs // call), macs, macs / call)

    def __str__(self) -> str:
        """Cost of the baselines, in words."""
        count = f"{self.nfe} evaluation{'' if self.nfe == 1 else 's'}"
        if self.macs is None or self.calls is None:
            return count
        paid = f"its {self.macs:.4g} multiply-adds"
        if self.calls < 1:
            return f"{count} of the whole network, which costs more than {paid}"
        return f"{count} of the whole network, the most that {paid} pay for"


def costs_partial_calls(plan: Plan) -> bool:
    """Whether some rows do not cost a whole call of the model: they leave blocks out, or call a second network."""
    return any(row.blocks or row.network for row in plan.rows)


@dataclass(frozen=True)
class PlanVerdict:
    """A plan against the best standard plan of equal cost on a model; `finite` tells whether its samples are."""

    plan: Plan
    model: Model
    cost: EqualCost
    verdict: Verdict
    finite: bool = True

    def __str__(self) -> str:
        """Whether it holds there, and the figure that says so."""
        name, where, verdict = self.plan.name, self.model.name, self.verdict
        if not self.finite:
            return f"{name} does not hold on {where}: its samples are not finite"
        baseline, holds = f"{verdict.against}, the best standard sampler of {self.cost}", verdict.non_inferior
        figure = in_words(verdict, baseline)
        if holds is None:
            return f"{name}: cannot tell whether it holds on {where}, {figure}; more noises may tell"
        bound = f"; at most {1 + verdict.margin:g} was asked for"
        if verdict.decision == "better" or verdict.ratio is None:
            bound = ""
        return f"{name} {'holds' if holds else 'does not hold'} on {where}: {figure}{bound}"

    def to_dict(self) -> dict[str, Any]:
        """For the leaderboard's JSON."""
        return {
            "name": self.plan.name, "nfe": self.plan.nfe, "made_for": (self.plan.model or {}).get("name"),
            "cost": {"macs": self.cost.macs, "calls": self.cost.calls}, "against_nfe": self.cost.nfe,
            "holds": self.verdict.non_inferior, "says": str(self), "verdict": self.verdict.to_dict(),
        }  # fmt: skip
