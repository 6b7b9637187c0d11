"""The result of a tuning run, and the files it leaves."""

from __future__ import annotations

import datetime
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fewer.engine import sample
from fewer.images import is_picture, pixels
from fewer.measures import cost
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.planfile import write_atomically
from fewer.rivals import cheapened
from fewer.shortcuts.price import call_macs, plan_macs
from fewer.tuning.asked import Asked
from fewer.tuning.baselines import Judge, Pipeline
from fewer.tuning.outfolder import together
from fewer.tuning.verdict import Outcome, in_images, of_luck
from fewer.versions import versions

SHOWN = 16  # samples in the report
CLOCKED = 16  # samples of a clocked run


@dataclass(frozen=True)
class Result:
    """What `fewer.tune` returns.

    plan      the plan to use: of the one budget, or of several the cheapest that matches the pipeline, else the best
    front     one outcome a budget: nfe, plan, quality, verdict
    table     every baseline with its figures
    verdict   the plan's comparison, as in results.json
    results   all of results.json
    """

    plan: Plan
    front: list[Outcome]
    table: list[dict[str, Any]]
    verdict: dict[str, Any]
    results: dict[str, Any]

    @classmethod
    def of(cls, outcomes: list[Outcome], results: dict[str, Any], match: bool) -> Result:
        """The result of these outcomes."""
        chosen = choose(outcomes, match)
        return cls(chosen.plan, outcomes, results["baselines"], results["verdict"], results)


def choose(outcomes: list[Outcome], match: bool) -> Outcome:
    """The outcome whose plan is recommended: the one that matches, else the largest budget."""
    matching = [o for o in outcomes if match and o.match is not None and o.match.recommended == "tuned"]
    return matching[0] if matching else outcomes[-1]


def clock(model: Model, plans: dict[str, Plan], batch: int) -> dict[str, dict[str, Any]]:
    """Milliseconds per sample of plans, alternating, in batches of 16 samples."""
    noise = unit_noise(0, range(CLOCKED), model.shape, device=model.device)

    def side(plan: Plan) -> Callable[[], object]:
        return lambda: sample(model, plan, noise=noise, batch=batch)

    found = cost.clock({name: side(plan) for name, plan in plans.items()}, repeats=9, warmup=1)
    return {
        name: {"value": i.value * 1e3 / CLOCKED, "low": i.low * 1e3 / CLOCKED, "high": i.high * 1e3 / CLOCKED}
        for name, i in found.items()
    }


def make_results(
    model: Model, asked: Asked, outcomes: list[Outcome], judge: Judge, pipeline: Pipeline | None,
    at_budgets: list[dict[str, Any]], notes: list[str], command: str, evaluations: int, seconds: float, batch: int,
) -> dict[str, Any]:  # fmt: skip
    """The content of results.json."""
    chosen = choose(outcomes, asked.match)
    macs = call_macs(model) or None  # torch counts none in an exact model
    clocked = clock(model, {str(o.nfe): o.plan for o in outcomes}, batch)

    def price(nfe: int, ms: dict[str, Any] | None = None) -> dict[str, Any]:
        return {"nfe": nfe, "macs": None if macs is None else macs * nfe, "ms": ms}

    def cost_of(outcome: Outcome) -> dict[str, Any]:
        """Of the plan found, by the blocks and networks that its rows call; nfe counts passes, of which a row makes one or two."""
        found, plan = price(outcome.plan.nfe, clocked[str(outcome.nfe)]), outcome.plan
        found["rows"] = len(plan.rows)
        if macs is not None and cheapened(plan):
            found["macs"] = plan_macs(model, plan, macs)
        if asked.limits and asked.limits[0].unit == "ms":
            found["predicted_ms"] = asked.limits[0].cost(plan)
        return found

    front = [
        {
            "nfe": o.nfe, "name": o.plan.name, "plan": f"front/{o.nfe}.json", "cost": cost_of(o),
            "quality": o.chosen.quality, "verdict": o.verdict.to_dict(), "searched": {"paired_rmse": o.searched},
            "match": None if o.match is None else o.match.to_dict(), "contributions": list(o.contributions),
            "attribution": o.attribution,
        }
        for o in outcomes
    ]  # fmt: skip
    baselines = []
    for outcome in outcomes:
        measured = {standard.plan.name: standard.quality for standard in outcome.standards}
        for candidate in outcome.ranked:
            name = candidate.plan.name
            quality = measured.get(name) or {"paired_rmse": candidate.state.get("paired_rmse")}
            baselines.append(
                {"name": name, "kind": "standard", "nfe": outcome.nfe, "cost": price(outcome.nfe), "quality": quality}
            )
    if pipeline is not None:
        quality = judge.quality(pipeline.samples, paired_too=not pipeline.stochastic)
        baselines.append(
            {"name": pipeline.name, "kind": "pipeline", "nfe": pipeline.nfe, "cost": price(pipeline.nfe),
             "quality": quality}
        )  # fmt: skip
    baselines += [row | {"cost": price(row["nfe"])} for row in at_budgets]
    error = (chosen.chosen.quality.get("paired_rmse") or {}).get("value")
    if error is not None and judge.fine.error > 0.1 * error:
        notes = [*notes, f"the fine solution's own error, {judge.fine.error:.2g}, is above 10 % of the plan's"]
    if chosen.verdict.seeds is not None:
        notes = [*notes, of_luck(chosen.verdict.seeds)]
    if (told := in_images(judge, chosen)) is not None:
        notes = [*notes, told]
    verdict = (chosen.match if asked.match and chosen.match is not None else chosen.verdict).to_dict()
    return _plain(
        {
            "model": model.describe(), "with": [other.describe() for other in model.others], "seed": asked.seed,
            "budget": {
                "nfe": [o.nfe for o in outcomes],
                "macs": [limit.most for limit in asked.limits if limit.unit == "macs"],
                "ms": [limit.most for limit in asked.limits if limit.unit == "ms"], "match": asked.match, "margin": asked.margin,
                "keep": sorted(asked.keep), "guidance": asked.guidance, "trials": asked.trials, "time": asked.time,
            },
            "cost": cost_of(chosen), "quality": chosen.chosen.quality,
            "reference": {"nfe": judge.fine.nfe, "error": judge.fine.error},
            "features": judge.described, "baselines": baselines,
            "verdict": verdict, "versions": versions(), "evaluations": evaluations, "seconds": seconds,
            "command": command, "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "contributions": list(chosen.contributions), "attribution": chosen.attribution, "front": front, "notes": notes,
        }
    )  # fmt: skip


def _plain(value: Any) -> Any:
    """JSON has no infinity: what is not finite becomes null."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save(folder: Path, model: Model, result: Result, judge: Judge, pipeline: Pipeline | None) -> None:
    """Write plan.json, front/, samples.npz, results.json and report.html: all of them, or none where there is no room."""
    with together(folder) as stage:
        _write(stage, model, result, judge, pipeline)


def _write(folder: Path, model: Model, result: Result, judge: Judge, pipeline: Pipeline | None) -> None:
    from fewer.report import write_report

    for outcome in result.front:
        outcome.plan.save(folder / "front" / f"{outcome.nfe}.json")
    result.plan.save(folder / "plan.json")
    if is_picture(model):
        shown = {"reference": judge.fine.samples}
        if pipeline is not None:
            shown["pipeline"] = pipeline.samples
        for outcome in result.front:
            shown[f"front/{outcome.nfe}"] = outcome.chosen.samples
            shown[f"standard/{outcome.nfe}"] = outcome.standards[0].samples
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {name: pixels(model, samples[:SHOWN]) for name, samples in shown.items()}
        np.savez_compressed(buffer, **arrays)
        write_atomically(folder / "samples.npz", buffer.getvalue())
    write_atomically(folder / "results.json", (json.dumps(result.results, indent=1, allow_nan=False) + "\n").encode())
    write_report(folder)
