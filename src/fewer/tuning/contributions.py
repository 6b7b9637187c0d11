"""What freeing each column brought to a budget: steps alone, blocks alone, and both, on fresh noise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from fewer.measures import paired
from fewer.measures.interval import Interval
from fewer.plan import Plan
from fewer.tuning.baselines import Judge, Pipeline
from fewer.tuning.limit import Limit
from fewer.tuning.verdict import Outcome, Played, matches


@dataclass(frozen=True)
class Contribution:
    """A plan with only some of the columns free, its error on fresh noise, and its cost.

    ratio  of its error to that of the plan with all columns free
    """

    name: str
    nfe: int
    macs: float | None
    ms: float | None
    paired_rmse: Interval
    ratio: Interval | None

    def to_dict(self) -> dict[str, Any]:
        """For results.json."""
        return asdict(self) | {
            "paired_rmse": self.paired_rmse.to_dict(), "ratio": None if self.ratio is None else self.ratio.to_dict(),
        }  # fmt: skip


def contributions(judge: Judge, limit: Limit, made: dict[str, Plan], whole: str, n: int) -> list[Contribution]:
    """Each of the plans on the judge's first n noises; `whole` names the one that has all columns free."""
    errors = {name: Played.on(judge, plan, n).errors(n) for name, plan in made.items()}
    found = []
    for name, plan in made.items():
        ratio = None if name == whole or not errors[whole].any() else paired.ratio(errors[name], errors[whole])
        cost = limit.cost(plan)
        macs, ms = (cost, None) if limit.unit == "macs" else (None, cost)
        found.append(Contribution(name, plan.nfe, macs, ms, paired.rmse(errors[name]), ratio))
    return found


def refusal(judge: Judge, outcome: Outcome, limit: Limit, pipeline: Pipeline | None, margin: float) -> str | None:
    """A sentence where no plan of the budget is shown to keep the quality of the pipeline as it is; else None."""
    if pipeline is None:
        return None
    found = matches(judge, outcome, pipeline, margin)
    if found.decision in ("better", "not worse"):
        return None
    shown = "keeps" if found.decision == "worse" else "is shown to keep"
    what = "Frechet distance" if pipeline.stochastic else "error"
    return (
        f"no plan of {limit} {shown} the quality of {pipeline.name}: the {what} of the best that was found is "
        f"{found.ratio} of the pipeline's, and at most {1 + margin:g} was asked for"
    )
