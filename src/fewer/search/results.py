"""The result of a tuning run, and the files it leaves."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from markupsafe import Markup
from torch import Tensor

from fewer.evaluate.cost import plans as cost
from fewer.evaluate.cost.price import call_macs, plan_macs
from fewer.evaluate.criterion import PAIRED
from fewer.evaluate.equal_cost import costs_partial_calls
from fewer.evaluate.own_pipeline import PIPELINE_EVALUATIONS, pipeline_noises, pipeline_rows
from fewer.evaluate.statistics.interval import Interval
from fewer.files import checked, write_json
from fewer.images import is_picture
from fewer.integrations.as_it_is import as_it_is
from fewer.markup import joined, paragraph, table
from fewer.models.ending import named
from fewer.models.model import Model
from fewer.outfolder import together
from fewer.plan import Plan
from fewer.report.folder import RESULTS, Folder
from fewer.report.html import write_page
from fewer.report.summary import summary
from fewer.results import Results
from fewer.search.outfolder import earlier_plans
from fewer.search.pictures import save_pictures
from fewer.search.stages.references import References
from fewer.search.stages.run import Run, Task
from fewer.search.verdict import Outcome, in_images, of_luck
from fewer.versions import versions

SEARCHED = {PAIRED.key: "paired_rmse"}  # the figure that candidates are scored by, where it is not the criterion's own


@dataclass(frozen=True)
class Result:
    """The result of `fewer.tune`.

    plan      the plan to use: of the one budget, or of several the cheapest that matches the pipeline, else the best
    front     one outcome a budget: nfe, plan, quality, verdict
    record    all of results.json, typed; `results` is the same as a dict
    """

    plan: Plan
    front: list[Outcome]
    record: Results

    def __repr__(self) -> str:
        """One line: what was found, and how it stands."""
        record, by = self.record, self.record.objective
        figure = by.of(record.quality)
        said = "" if figure is None else f", {by.title} {figure}"
        return (
            f"Result({record.model.name!r}: {self.plan.name!r}, {self.plan.nfe} network evaluations{said}; "
            f"{record.verdict.decision} against {record.verdict.against!r})"
        )

    def _repr_html_(self) -> str:
        """The verdict, the front, and the picture of the plan, for notebooks."""
        by = self.record.objective
        columns = ["plan", "decision", "nfe", by.title, "of the standard's"]
        front = [
            [e.name, e.verdict.decision, e.nfe, by.of(e.quality) or "–", e.verdict.ratio or "–"]
            for e in self.record.front
        ]
        said = [self.record.verdict.reason or "", *self.record.notes]
        return joined([table(columns, front, left=2), *map(paragraph, filter(None, said)), Markup(self.plan.picture())])

    @cached_property
    def results(self) -> dict[str, Any]:
        """All of results.json."""
        return self.record.to_dict()

    @property
    def table(self) -> list[dict[str, Any]]:
        """Every baseline with its figures, as in results.json."""
        return list(self.results["baselines"])

    @property
    def verdict(self) -> dict[str, Any]:
        """The plan's comparison, as in results.json."""
        return dict(self.results["verdict"])


def choose(outcomes: list[Outcome], match: bool) -> Outcome:
    """The outcome whose plan is recommended: the one that matches, else the largest budget."""
    matching = [o for o in outcomes if match and o.match is not None and o.match.recommended == "tuned"]
    return matching[0] if matching else outcomes[-1]


def result_of(task: Task, run: Run, refs: References, outcomes: list[Outcome], command: str) -> Result:
    """The result of a run, which is also written to the folder where there is one."""
    outcomes = [_named(task.model, each) for each in outcomes]
    record = make_results(task, run, refs, outcomes, command)
    result = Result(choose(outcomes, task.request.match).plan, outcomes, record)
    if task.folder is not None:
        run.progress("writing", 0, None)
        save(task.folder, task.model, result, refs)
    return result


def _named(model: Model, outcome: Outcome) -> Outcome:
    """The outcome with a plan that goes to the model's end, where that is above the data."""
    return replace(outcome, chosen=replace(outcome.chosen, plan=named(model.schedule, outcome.plan)))


def make_results(task: Task, run: Run, refs: References, outcomes: list[Outcome], command: str) -> Results:
    """The content of results.json."""
    request, model, judge, by = task.request, task.model, refs.judge, task.request.judged_by
    baselines = _baselines(task, run, refs, outcomes)
    evaluations, seconds = run.counter.evaluations + judge.evaluations, run.seconds
    chosen = choose(outcomes, request.match)
    macs = call_macs(model) or None  # torch counts none in an exact model
    clocked = _clocked(task, run, refs, outcomes)

    def price(nfe: int, ms: Interval | None = None) -> dict[str, Any]:
        return {"nfe": nfe, "macs": None if macs is None else macs * nfe, "ms": ms}

    def cost_of(outcome: Outcome) -> dict[str, Any]:
        """Cost of a plan by the blocks and networks that its rows call; nfe counts passes, of which a row makes one or two."""
        plan = outcome.plan
        entry = price(plan.nfe, outcome.ms or clocked.get(str(outcome.nfe))) | {"rows": len(plan.rows)}
        if macs is not None and costs_partial_calls(plan):
            entry["macs"] = plan_macs(model, plan, macs)
        if request.limits and request.limits[0].unit == "ms":
            entry["predicted_ms"] = (
                request.limits[0].cost(plan) if outcome.predicted_ms is None else outcome.predicted_ms
            )
        return entry

    front = [
        {
            "nfe": o.nfe, "name": o.plan.name, "plan": f"front/{o.nfe}.json", "cost": cost_of(o),
            "quality": o.chosen.quality.to_dict(), "verdict": o.verdict.to_dict(),
            "searched": {SEARCHED.get(by.key, by.key): by.shown(o.searched)},
            "match": None if o.match is None else o.match.to_dict(), "contributions": o.contributions,
            "attribution": o.attribution,
        } | ({} if o.within is None else {"within": o.within})
        for o in outcomes
    ]  # fmt: skip
    reference = judge.reference
    assert reference is not None  # held-out noises have one
    verdict = chosen.match if request.match and chosen.match is not None else chosen.verdict
    content = {
        "model": model.describe(), "with": [other.describe() for other in model.others], "seed": request.seed,
        "budget": {
            "nfe": [o.nfe for o in outcomes],
            "macs": [limit.most for limit in request.limits if limit.unit == "macs"],
            "ms": [limit.most for limit in request.limits if limit.unit == "ms"], "match": request.match,
            "margin": request.margin, "keep": sorted(request.keep), "playable_by": request.playable_by,
            "guidance": request.guidance, "trials": request.trials,
            "time": request.time, "evaluations": request.evaluations, "objective": by.name,
        },
        "objective": {"figure": by.key, "title": by.title, "higher": by.higher},
        "cost": cost_of(chosen), "quality": chosen.chosen.quality.to_dict(),
        "reference": {"nfe": reference.nfe, "error": reference.error},
        "features": judge.described,
        "baselines": [row | {"cost": price(row["nfe"], clocked.get(row["name"]))} for row in baselines],
        "verdict": verdict.to_dict(), "versions": versions(), "evaluations": evaluations, "seconds": seconds,
        "command": command, "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "contributions": chosen.contributions, "attribution": chosen.attribution, "front": front,
        "notes": [*run.notes, *_notes(refs, chosen)],
    }  # fmt: skip
    record = checked(Results, content, "results")
    return record.model_copy(update={"summary": summary(record)})


def _clocked(task: Task, run: Run, refs: References, outcomes: list[Outcome]) -> dict[str, Interval]:
    """Milliseconds per sample of each budget's plan, by its number of evaluations, and of the pipeline as it is, by its name."""
    run.enter("clocking")
    run.progress("clocking", 0, None)
    plans = {str(outcome.nfe): outcome.plan for outcome in outcomes if outcome.ms is None}
    if not run.has_room(sum(map(cost.evaluations, plans.values()))):
        run.notes.append("milliseconds were not clocked: time or evaluations were too few for it")
        return {}
    own = None if refs.pipeline is None else as_it_is(task.model, None, task.request.guidance)
    if own is not None and refs.pipeline is not None and own.plan is not None:
        taken = cost.evaluations(own.plan)
        if taken <= PIPELINE_EVALUATIONS and run.has_room(taken):
            plans[refs.pipeline.name] = own.plan
    return cost.clock(task.model, plans, task.batch) if plans else {}


def _baselines(task: Task, run: Run, refs: References, outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """The standard plans of each budget, the pipeline as it is, and that pipeline at the budgets."""
    request, judge, pipeline = task.request, refs.judge, refs.pipeline
    rows: list[dict[str, Any]] = []
    for outcome in outcomes:
        measured = {standard.plan.name: standard.quality.to_dict() for standard in outcome.standards}
        for candidate in outcome.ranked:
            name = candidate.plan.name
            found = {key: candidate.state.get(key) for key in ("paired_rmse", "typical_error")}
            if not request.objective.pairs:
                found = {request.objective.key: candidate.state.get(request.objective.ranked_as)}
            quality = measured.get(name) or found
            fresh = name in measured
            rows.append({"name": name, "kind": "standard", "nfe": outcome.nfe, "quality": quality, "fresh": fresh})
    if pipeline is None:
        return rows
    others = [budget.nfe for budget in request.budgets if budget.nfe != pipeline.nfe]
    if others and not run.has_room(sum(nfe * pipeline_noises(len(judge), nfe) for nfe in others)):
        run.notes.append("the pipeline as it is at the budgets is left out: time or evaluations were too few for it")
        others = []
    at_budgets = pipeline_rows(judge, others, request.guidance, request.seed, run.notes)
    quality = judge.quality(pipeline.samples, pairs=not pipeline.stochastic).to_dict()
    return [
        *rows,
        {"name": pipeline.name, "kind": "pipeline", "nfe": pipeline.nfe, "quality": quality},
        *(row.to_dict() for row in at_budgets),
    ]


def _notes(refs: References, chosen: Outcome) -> list[str]:
    """Notes on the figures of the plan to use."""
    notes, judge, error = [], refs.judge, chosen.chosen.quality.figures.get("paired_rmse")
    reference = judge.reference
    if error is not None and reference is not None and reference.error > 0.1 * error.value:
        notes.append(f"the reference solution's own error, {reference.error:.2g}, is above 10 % of the plan's")
    if chosen.verdict.seeds is not None:
        notes.append(of_luck(chosen.verdict.seeds))
    if (sentence := in_images(judge, chosen)) is not None:
        notes.append(sentence)
    return notes


def save(folder: Path, model: Model, result: Result, refs: References) -> None:
    """Write plan.json, front/, samples.npz, results.json and report.html: all of them, or none where there is no room."""
    with together(folder, earlier_plans(folder)) as stage:
        for outcome in result.front:
            outcome.plan.save(stage / "front" / f"{outcome.nfe}.json")
        result.plan.save(stage / "plan.json")
        if is_picture(model):
            save_pictures(stage, model, _shown(result, refs))
        write_json(stage / RESULTS, result.results)
        write_page(stage, Folder(result.record, result.plan, tuple(outcome.plan for outcome in result.front)))


def _shown(result: Result, refs: References) -> dict[str, Tensor]:
    """Samples of the reference, the pipeline, and each budget's plan and best standard one."""
    shown = {"reference": refs.judge.target}
    if refs.pipeline is not None:
        shown["pipeline"] = refs.pipeline.samples
    for outcome in result.front:
        shown[f"front/{outcome.nfe}"] = outcome.chosen.samples
        shown[f"standard/{outcome.nfe}"] = outcome.standards[0].samples
    return shown
