"""`fewer.tune`: searches a plan for each budget, and compares it on held-out noises with the best standard plan."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Literal

from torch import Tensor

from fewer.engine import MICRO_BATCH
from fewer.errors import InputError
from fewer.evaluate.distances.own_metric import OwnMetric
from fewer.evaluate.features import Features
from fewer.evaluate.scoring import Scoring
from fewer.integrations.as_it_is import untold_guidance
from fewer.models.model import Model
from fewer.search.outfolder import claimed
from fewer.search.request import Budget, Request, check, enough_noises, evaluations_of, limited, paid_by, strategy_of
from fewer.search.results import Result, result_of
from fewer.search.space import check_keep
from fewer.search.stages.explore import rank, search
from fewer.search.stages.free_scale import PLACEHOLDER, check_auto, find_scale, or_unguided
from fewer.search.stages.references import References, references
from fewer.search.stages.run import Progress, Run, Task
from fewer.search.stages.verify import verify
from fewer.search.starts import From, check_starts, split
from fewer.search.strategies.joint import names_of
from fewer.search.strategies.standards import kept_standards
from fewer.search.strategy import Strategy
from fewer.search.study import STUDY, check_free
from fewer.search.verdict import Outcome, matches, refusal

HOPELESS = 4.0  # times the pipeline's error, at which no budget is searched


def tune(
    model: Model,
    nfe: int | Sequence[int] | None = None,
    *,
    seed: int = 0,
    guidance: float | Literal["auto"] | None = None,
    keep: Iterable[str] = (),
    margin: float = 0.05,
    match: bool = False,
    macs: float | Sequence[float] | None = None,
    ms: float | Sequence[float] | None = None,
    data: Tensor | None = None,
    features: Features | None = None,
    metric: OwnMetric | None = None,
    out: str | Path | None = None,
    trials: int | None = None,
    time: float | None = None,
    resume: bool = False,
    batch: int | None = None,
    noises: int | None = None,
    fresh: int | None = None,
    evaluations: int | None = None,
    strategy: str | Strategy = "gauss-newton",
    start_from: From = (),
    command: str = "",
    progress: Progress | None = None,
) -> Result:
    """Search a plan of `nfe` network evaluations per sample, or of `macs` multiply-adds, or of `ms` milliseconds.

    Several budgets of one kind give a front.

    Ranks every standard plan, moves the best of them by `strategy`, and compares the outcome with the best standard
    plan on noises that the search never saw. The standard plan is kept unless the other is shown to be not worse.

    guidance  scale of classifier-free guidance of the fine solution; guided rows cost 2 evaluations. Unless it is
              kept, the scale of each row is searched, and with a budget in nfe or macs which rows make the second pass.
              "auto": the scale whose samples are nearest to `data`, by `metric` or else the Frechet distance; it is
              searched first
    keep      columns that may not change, of steps, solver, guidance, blocks
    margin    by how much of the standard plan's error 'not worse' may be worse
    match     with the pipeline's own scheduler and step count as the standard: the cheapest budget whose plan is not
              worse (nfe then bounds the budgets that are tried; by default 1 to 40)
    macs, ms  budgets in which a plan may have more rows than they pay for in full, with blocks of the network left out:
              milliseconds per sample, 16 at a time, on this machine as it is now; compared with the standard plans of as
              many whole calls as the budget pays for. Where the model comes with another (`others`), rows call that one
              instead, and no blocks are left out
    data      images (N, *shape), for distances to them in the results
    features  that these distances are on, instead of the data's principal components
    metric    one more figure in the results, against the data or else the fine solution
    out       folder for plan.json, results.json, report.html, study.db, front/ and samples.npz; one search at a time has
              it, and what it writes there comes whole
    trials    most candidates after the standard plans, a budget; `time` most seconds of search, all budgets together
    resume    go on with the search in `out`
    noises    starting noises of the search: by default as many as hold 16384 numbers, from 96 to 256;
              `fresh` other ones that the comparison begins with, from 64 to 256, of up to four times as many
    evaluations  most network evaluations of the search (of single samples), all budgets together
    strategy  what moves the plans, of the tuning methods (`fewer methods`): by default times and coefficients together,
              under guidance with the passes too ("guided-rows"), and for macs and ms, unless blocks are kept, "joint"
              besides, from rows of the passes that were found and from rows that all make both, or else the one that is
              named and leaves blocks out; with a second network "networks" besides. Or a strategy of one's own
              (`fewer.search.strategy.Strategy`)
    start_from  strategies that run before it, one after another, each within `trials` and all within `evaluations`: it
              starts from the best of their plans and the standard ones, and the best of what all have chosen is taken.
              And plans (`fewer.Plan`, or their files, by a path or a word that ends in .json) of as many evaluations as a
              budget, such as one tuned before this model was fine-tuned: Gauss-Newton begins with them, too

    Raises InputError for budgets, scales and words that make no sense for the model, and for a folder that cannot be
    written or that another search has.
    """
    kept = check_keep(keep)
    blocks = names_of(model) if "blocks" not in kept and not model.others and (macs, ms) != (None, None) else ()
    limits = limited(model, blocks, nfe, match, macs, ms)
    strategies, plans = split(start_from, model)

    def request_at(scale: float | None) -> Request:
        request = Request(
            paid_by(model, limits, scale) if limits else evaluations_of(nfe, match),
            seed=seed, guidance=scale, keep=kept, margin=margin, trials=trials, time=time, match=match,
            noises=enough_noises(model, 96) if noises is None else noises,
            held_out=enough_noises(model, 64) if fresh is None else fresh,
            strategy=strategy_of(strategy, "strategy"), evaluations=evaluations, start_from=strategies, start_plans=plans,
        )  # fmt: skip
        check(request, model)
        check_starts(request, model)
        return request

    scoring = Scoring(data, features, metric)
    if isinstance(guidance, str):
        check_auto(guidance, model, scoring)
    request = request_at(PLACEHOLDER if isinstance(guidance, str) else guidance)
    scoring.check(request.held_out)
    with nullcontext() if out is None else claimed(Path(out)) as folder:
        if folder is not None:
            names = [f"nfe-{budget.nfe}" for budget in request.budgets[: 1 if match else None]]
            check_free(folder / STUDY, names, resume)
        task, run = (
            Task(model, request, scoring, batch or MICRO_BATCH, folder, resume),
            Run(progress or (lambda *_: None)),
        )
        if isinstance(guidance, str):
            task = replace(task, request=request_at(find_scale(task, run).scale))
        return searched(task, run, command, free_scale=isinstance(guidance, str))


def searched(task: Task, run: Run, command: str = "", free_scale: bool = False) -> Result:
    """The stages of a run: references, and for each budget the standard plans ranked, the search, and its check on held-out
    noises; then the result.

    With `match` the budgets rise to the first whose plan is not worse than the pipeline as it is, and those at which the best
    standard plan's error is more than four times the pipeline's are not searched.

    free_scale  whether plans must be as near to the data as the standard ones without guidance
    """
    model, request = task.model, task.request
    run.notes += _notes(model, request)
    standards = cache(partial(kept_standards, model, request))
    last = request.budgets[-1]
    refs = references(task, run, standards(min(last.nfe, 10)))
    if request.match and refs.pipeline is None:
        raise InputError(f"match needs a pipeline that runs; that of {model.name} gives no finite samples")
    outcomes: list[Outcome] = []
    for budget in request.budgets:
        ranked = rank(task, run, budget, standards(budget.nfe), refs.objective)
        if request.match and budget != last and ranked.standards[0].error > HOPELESS * _pipeline_error(refs):
            continue
        outcome = verify(task, run, refs, ranked, search(task, run, ranked))
        if free_scale:
            outcome = or_unguided(task, run, refs, budget, outcome)
        outcomes.append(beside_pipeline(task, run, refs, budget, outcome))
        if (match := outcomes[-1].match) is not None and match.recommended == "tuned":
            break
    return result_of(task, run, refs, outcomes, command)


def beside_pipeline(task: Task, run: Run, refs: References, budget: Budget, outcome: Outcome) -> Outcome:
    """The outcome with its comparison with the pipeline as it is, where a match was requested; under a limit in multiply-adds
    or milliseconds, a note where it is not shown to be as good.
    """
    if refs.pipeline is None or not (task.request.match or budget.limit):
        return outcome
    verdict = matches(refs.judge, outcome, refs.pipeline, task.request.margin)
    if budget.limit is None:
        return replace(outcome, match=verdict)
    if (sentence := refusal(str(budget.limit), verdict)) is not None:
        run.notes.append(sentence)
    return outcome


def _pipeline_error(refs: References) -> float:
    """The pipeline's RMSE to the reference solution; infinite where it adds noise."""
    if refs.pipeline is None or refs.pipeline.stochastic:
        return math.inf
    return float(refs.judge.errors(refs.pipeline.samples).mean().sqrt())


def _notes(model: Model, request: Request) -> list[str]:
    """Notes on the start and on guidance, before anything is searched."""
    notes = []
    if model.start < model.schedule.tau_max:
        notes.append(
            f"all plans and baselines start at t = {float(model.schedule.time(model.start)):.1f} (s = sigma/alpha = "
            f"{model.start / (1 - model.start):.3g}), not at the noisiest time: there the signal is so weak (alpha near zero) "
            "that a small error of the network's noise prediction becomes a large one of the image"
        )
    if (note := untold_guidance(model, request.guidance)) is not None:
        notes.append(note)
    return notes
