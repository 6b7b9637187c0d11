"""A search of a posterior sampler in a folder: its study, and the files that it leaves."""

from __future__ import annotations

import datetime
import hashlib
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewer.evaluate.cost.price import call_macs
from fewer.evaluate.posteriors import LEAST, coverage, energy_scores
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import student
from fewer.files import checked, write_json
from fewer.images import is_picture
from fewer.outfolder import together
from fewer.plan import Plan
from fewer.registry import name_of
from fewer.report.folder import RESULTS, Folder
from fewer.report.html import write_page
from fewer.report.task_words import task_summary
from fewer.results import Results, Score
from fewer.search.deadline import Deadline
from fewer.search.outfolder import BASELINE, earlier_plans, own_folder
from fewer.search.pictures import save_pictures
from fewer.search.posterior_arguments import Asked, as_begun, cases
from fewer.search.posterior_pairs import DISTANCE, SCORE, Case
from fewer.search.posteriors import TunedPosterior, search
from fewer.search.request import check_resumable
from fewer.search.study import STUDY, Study, noted_in
from fewer.tasks.inverse.named import method_of
from fewer.versions import versions

KEYS = {SCORE: "energy_score", DISTANCE: "energy_distance"}
EFFORT = "effort"  # what a study knows of the sizes that its search was begun with


@dataclass(frozen=True)
class TunedTask:
    """A tuned sampler with what its folder holds."""

    found: TunedPosterior
    record: Results


def tune_task(
    asked: Asked, task: str, out: Path, *, resume: bool = False, force: bool = False, command: str = "",
    progress: Callable[[int, int], Any] | None = None,
) -> TunedTask:  # fmt: skip
    """Search in a folder, which then holds plan.json, baseline.json, front/, results.json, report.html, and pictures' samples.npz.

    task    the operator in words, which the plan keeps
    resume  go on with the candidates that the folder's study holds

    Raises InputError as `tune_posterior` does, and for folders that cannot be written.
    """
    deadline, name = Deadline(asked.time), f"task-{asked.effort.nfe}"
    if resume:
        check_resumable(asked.model)
        asked = as_begun(asked, noted_in(out / STUDY, name, EFFORT))
    seen, held_out = cases(asked)
    definition = _definition(asked, task, seen, held_out)
    with own_folder(out, {name: definition}, resume, force) as folder:
        study = Study(name, folder / STUDY, definition, resume)
        if study.noted(EFFORT) is None:
            study.note(EFFORT, asdict(asked.effort))
        found = search(asked, seen, held_out, study, progress, deadline)
        plan = _kept(asked, found, task)
        record = _results(asked, found, plan, task, deadline.spent, command)
        _save(folder, asked, found, plan, record, task)
    return TunedTask(found, record)


def _definition(asked: Asked, task: str, *parts: Case) -> dict[str, Any]:
    """What defines the search: the model, the problem, and the pairs to the bit."""
    content = hashlib.sha256()
    for case in parts:
        for tensor in (case.pairs.x, case.pairs.y):
            content.update(tensor.float().contiguous().numpy().tobytes())
    effort = asked.effort
    return {
        "model": asked.model.hash, "task": task, "nfe": effort.nfe, "seed": asked.seed, "pairs": content.hexdigest(),
        "each": effort.each, "trials": effort.trials, "methods": {name: repr(each) for name, each in asked.methods.items()},
        "baselines": {name: repr(each) for name, each in asked.baselines.items()}, "calls": effort.baseline_calls,
        "exact": asked.exact,
    } | asked.model.conditions  # fmt: skip


def _noise(asked: Asked) -> float | None:
    """The noise's standard deviation; None for a map."""
    given = torch.as_tensor(asked.noise, dtype=torch.float64)
    return float(given) if given.ndim == 0 else None


def _kept(asked: Asked, found: TunedPosterior, task: str) -> Plan:
    """The tuned plan as its file has it: with the measurement that it is for, and what was measured."""
    evidence = {
        KEYS[found.figure]: found.score.to_dict(),
        "against": f"{found.against} at {found.baseline_calls} calls",
        "difference": found.difference.to_dict(),
        "decision": found.decision,
    }
    return replace(found.plan, method=method_of(found.method, task, _noise(asked)), evidence=evidence)


def _results(asked: Asked, found: TunedPosterior, plan: Plan, task: str, seconds: float, command: str) -> Results:
    """The content of results.json."""
    model, key, n = asked.model, KEYS[found.figure], found.effort.pairs
    macs = call_macs(model) or None

    def cost(nfe: int) -> dict[str, Any]:
        return {"nfe": nfe, "macs": None if macs is None else macs * nfe, "ms": None, "rows": nfe}

    def unsure(value: float) -> dict[str, Any]:
        return Score(value, -math.inf, math.inf, n).to_dict() if math.isfinite(value) else {}

    own, its = (_quality(found.held_out, samples, key) for samples in found.samples)
    calls = found.baseline_calls
    against = f"{found.against} at {calls} calls"
    baselines = [
        {
            "name": f"{name} at {calls} calls", "kind": "standard", "nfe": calls, "cost": cost(calls),
            "quality": its if name == found.against else {key: unsure(value) or None}, "fresh": name == found.against,
        }
        for name, value in found.ranked.items()
    ]  # fmt: skip
    verdict = {
        "against": against, "margin": asked.margin, "decision": found.decision, "ratio": None,
        "difference": found.difference.to_dict(), "figure": found.figure,
        "recommended": "tuned" if found.recommended else "standard",
        "reason": f"on {n} held-out pairs its {found.figure} less that of {against} is {found.difference}",
    }  # fmt: skip
    truth = "the model's own samples" if asked.data is None else "the data given"
    notes = [*found.notes, f"the true samples are {truth}" + _caveat(asked)]
    name = name_of("tasks", found.method)
    content = {
        "model": model.describe(), "seed": asked.seed,
        "budget": {"nfe": [plan.nfe], "margin": asked.margin, "time": asked.time, "objective": found.figure},
        "objective": {"figure": key, "title": found.figure, "higher": False}, "cost": cost(plan.nfe), "quality": own,
        "reference": {"nfe": found.effort.own or None, "error": None}, "baselines": baselines, "verdict": verdict,
        "versions": versions(), "evaluations": found.evaluations, "seconds": seconds, "command": command,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "front": [
            {
                "nfe": plan.nfe, "name": plan.name, "plan": f"front/{plan.nfe}.json", "cost": cost(plan.nfe), "quality": own,
                "verdict": verdict, "searched": {key: min(found.searched)},
            }
        ],
        "notes": notes,
        "task": {
            "operator": task, "noise": _noise(asked), "method": name, "settings": dict(method_of(found.method).settings),
            "against": found.against, "baseline": BASELINE, "pairs": n, "each": found.effort.each, "truth": truth,
        },
    }  # fmt: skip
    record = checked(Results, content, "results")
    return record.model_copy(update={"summary": task_summary(record)})


def _caveat(asked: Asked) -> str:
    """What true samples by the model itself do not tell."""
    if asked.data is not None or asked.model.exact is not None:
        return ""
    return f", of {asked.effort.own} calls each: where the model is wrong of the data, this does not show (--data for that)"


def _quality(case: Case, samples: Tensor, key: str) -> dict[str, dict[str, Any]]:
    """The score, and by what shares of true values lie in the central sets of the samples' marginals."""
    figures: dict[str, Interval] = {key: student(case.of_samples(samples).tolist())}
    if case.pairs.posteriors:
        figures["energy_score"] = student(energy_scores(samples, case.pairs.x).tolist())
    if samples.shape[1] >= LEAST:
        for p, share in coverage(samples, case.pairs.x, seed=case.seed).items():
            figures[f"coverage_{100 * p:g}"] = share
    return {name: figure.to_dict() for name, figure in figures.items()}


def _save(folder: Path, asked: Asked, found: TunedPosterior, plan: Plan, record: Results, task: str) -> None:
    """All files, or none where there is no room."""
    calls = found.baseline_calls
    usual = found.best.usual(asked.model, calls).named(f"{found.against}, {calls} calls")
    baseline = replace(usual, method=method_of(found.best, task, _noise(asked)))
    with together(folder, earlier_plans(folder)) as stage:
        plan.save(stage / "front" / f"{plan.nfe}.json")
        plan.save(stage / "plan.json")
        baseline.save(stage / BASELINE)
        if is_picture(asked.model):
            save_pictures(stage, asked.model, _shown(found))
        write_json(stage / RESULTS, record.to_dict())
        write_page(stage, Folder(record, plan, (plan,)))


def _shown(found: TunedPosterior) -> dict[str, Tensor]:
    """True samples, and of each one's measurement a sample of the tuned plan and of the baseline."""
    mine, its = found.samples
    nfe = found.plan.nfe
    shown = {"reference": found.held_out.pairs.x, f"front/{nfe}": mine[:, 0], f"standard/{nfe}": its[:, 0]}
    return {name: x.float() for name, x in shown.items()}
