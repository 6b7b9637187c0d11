"""`fewer.tune`: searches a plan for each budget, and compares it on held-out noises with the best standard plan."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from torch import Tensor

from fewer.engine import MICRO_BATCH
from fewer.errors import InputError
from fewer.evaluate.cost.pace import Forecast, batch_memory, timed_pace
from fewer.evaluate.distances.own_metric import OwnMetric
from fewer.evaluate.features import Features
from fewer.integrations.as_it_is import guidance_notes
from fewer.models.edge import in_own_precision
from fewer.models.ending import Ended
from fewer.models.model import Model
from fewer.search.arguments import Arguments
from fewer.search.deadline import Deadline
from fewer.search.distilled import beside_own_calls, grounds
from fewer.search.forecast import LEAST_NOISES, check_clocking, check_room, foreseen, within
from fewer.search.known_studies import UNKNOWN
from fewer.search.outfolder import own_folder
from fewer.search.request import Budget, Request, check_resumable, identity, notes_for_large
from fewer.search.results import Result, result_of
from fewer.search.shared import Shared
from fewer.search.stages.clocked import kept_within
from fewer.search.stages.explore import Ranked, rank, search
from fewer.search.stages.free_scale import EACH, NOISES, find_scale, or_unguided
from fewer.search.stages.references import References, references, with_pipeline
from fewer.search.stages.run import Overall, Progress, Run, Task
from fewer.search.stages.verify import verify
from fewer.search.starts import From
from fewer.search.strategies.standards import likely_standards
from fewer.search.strategy import Strategy
from fewer.search.study import STUDY, noises_of
from fewer.search.verdict import Outcome, matches, refusal
from fewer.workers.team import team_of
from fewer.workers.where import check_workers

HOPELESS = 4.0  # times the pipeline's error, at which no budget is searched


@in_own_precision
def tune(
    model: Model,
    nfe: int | Sequence[int] | None = None,
    *,
    seed: int = 0,
    guidance: float | Literal["auto"] | None = None,
    keep: Iterable[str] = (),
    margin: float = 0.05,
    playable_by: str | None = None,
    match: bool = False,
    macs: float | Sequence[float] | None = None,
    ms: float | Sequence[float] | None = None,
    data: Tensor | None = None,
    features: Features | None = None,
    metric: OwnMetric | None = None,
    objective: str = "paired",
    teacher: Model | None = None,
    out: str | Path | None = None,
    trials: int | None = None,
    time: float | None = None,
    resume: bool = False,
    force: bool = False,
    batch: int | None = None,
    noises: int | None = None,
    fresh: int | None = None,
    evaluations: int | None = None,
    strategy: str | Strategy = "regression",
    start_from: From = (),
    workers: int | str = 1,
    study: str | None = None,
    command: str = "",
    progress: Progress | None = None,
    overall: Overall | None = None,
) -> Result:
    """Search a plan of `nfe` network evaluations per sample, or of `macs` multiply-adds, or of `ms` milliseconds.

    Several budgets of one kind give a front.

    Ranks every standard plan, moves the best of them by `strategy`, and compares the outcome with the best standard
    plan on noises that the search never saw. The standard plan is kept unless the other is shown to be not worse.

    guidance  scale of classifier-free guidance of the reference solution; guided rows cost 2 evaluations. Unless it is
              kept, the scale of each row is searched, and with a budget in nfe or macs which rows make the second pass.
              "auto": the scale whose samples are nearest to `data`, by `metric` or else the Frechet distance; it is
              searched first
    keep      columns that may not change, of steps, solver, guidance, blocks
    playable_by  a solver that other engines have, such as "euler", "dpmpp-2m" or "res-2m", or a sampler of k-diffusion's such as
              "dpmpp_2m": its levels alone are searched, against its own standard grids, so that the engine plays the plan from
              its sigmas or timesteps (`fewer export`)
    margin    by how much of the standard plan's error 'not worse' may be worse
    match     with the pipeline's own scheduler and step count as the standard: the cheapest budget whose plan is not
              worse (nfe then bounds the budgets that are tried; by default 1 to 40)
    macs, ms  budgets in which a plan may have more rows than they pay for in full, with blocks of the network left out:
              milliseconds per sample, 16 at a time, on this machine as it is now; compared with the standard plans of as
              many whole calls as the budget pays for. Where the model comes with another (`others`), rows call that one
              instead, and no blocks are left out
    data      images (N, *shape) or their folder, for distances to them in the results
    features  that these distances are on, or their name, instead of the data's principal components
    metric    one more figure in the results, against the data or else the reference solution: a function of samples and these,
              or its name (see `OwnMetric`)
    objective by what plans are ranked, the best of them is chosen and the verdict is made: "paired", the errors of samples from
              the same noises; "energy", "fd" or "sliced", the energy, Frechet or sliced Wasserstein distance of all samples to
              `data`, or else to the reference solution's, by which standard samplers with noise are ranked, too; "metric", the
              user's own. Gauss-Newton descends on paired errors all the same.
              "fd:NAME" (energy, sliced) is on the features of this name; with other `features` beside it, the search goes by the
              first, and the verdict and all figures by those, which the search has not seen
    teacher   of a distilled model (see `Model.distilled`, which it implies): the model whose many-step samples its own are to have
              the distribution of. Without one they are held against the model's own calls, as many as it was made for
    out       folder for plan.json, results.json, report.html, study.db, front/ and samples.npz; one search at a time has
              it, and what it writes there comes whole
    trials    most candidates after the standard plans, a budget
    time      most seconds of the whole run, all budgets together (it may be a quarter more): where they are few, on fewer
              noises, with a coarser reference solution and fewer standard plans, which the notes say
    resume    go on with the search in `out`, of a model that has a hash; `time` and `evaluations` are of all of it, so that one
              that has ended gives the same result again, unless more of them is given
    force     write into `out` whatever it holds, and begin anew: otherwise it is new, empty, or holds an earlier search
    noises    starting noises of the search: by default as many as hold 16384 numbers, from 96 to 128;
              `fresh` other ones that the comparison begins with, from 64 to 256, of up to four times as many
    evaluations  most network evaluations of the whole run, of single samples, all budgets together: likewise. Without it, `time`,
              `trials` and `noises`, a network of over 100 million weights has 8,000 for each budget of up to 10 calls, 16,000
              where rows are guided, and in proportion above
    strategy  what moves the plans, of the tuning methods (`fewer methods`): by default times and coefficients together,
              under guidance with the passes too ("guided-regression"), and for macs and ms, unless blocks are kept, "joint"
              besides, from rows of the passes that were found and from rows that all make both, or else the one that is
              named and leaves blocks out; with a second network "networks" besides. Or a strategy of one's own
              (`fewer.search.strategy.Strategy`)
    start_from  strategies that run before it, one after another, each within `trials`: it
              starts from the best of their plans and the standard ones, and the best of what all have chosen is taken.
              And plans (`fewer.Plan`, or their files, by a path or a word that ends in .json) of as many evaluations as a
              budget, such as one tuned before this model was fine-tuned: Gauss-Newton begins with them, too

    workers   processes of this machine, or "dask://host:port", "ray://host:port" or "ray" for those of a cluster, that share the
              network's calls, micro-batch by micro-batch, with the same result to the bit (docs/workers.md); 1 is this process
              alone. The model must be one that `fewer.load` has given
    study     database that several coordinators of this search share, each with an `out` of its own: sqlite:///file.db or
              postgresql://user@host/database. Each candidate is made by one of them, and all end with the same plans
    progress  progress(stage, done, total or None), and overall(evaluations made, those made and to come), as the run goes on

    Raises InputError for budgets, scales and words that make no sense for the model, for a time in which not even a coarse
    run can be done, and for a folder that cannot be written or that another search has.
    """
    arguments = Arguments(
        nfe, seed=seed, guidance=guidance, keep=keep, margin=margin, playable_by=playable_by, match=match, macs=macs, ms=ms,
        data=data, features=features, metric=metric, objective=objective, teacher=teacher, trials=trials, time=time, batch=batch,
        noises=noises, fresh=fresh, evaluations=evaluations, strategy=strategy, start_from=start_from,
    )  # fmt: skip
    model, workers = arguments.model_of(model), check_workers(workers)
    shared = None if study is None else Shared.at(study)
    if resume or shared is not None:
        check_resumable(model)
    judging = arguments.judging(model)
    scoring, free_scale = judging.scoring, arguments.free_scale
    run = Run(progress or (lambda *_: None), Deadline(arguments.time), overall=overall or (lambda *_: None))
    if ms is not None and arguments.time is not None:  # clocking the network for milliseconds takes long itself
        check_clocking(arguments.time, model)
    request_at = arguments.requested(model, judging, run.deadline.late)
    request = request_at(arguments.known_scale)
    run.deadline.evaluations = request.evaluations
    scoring.check(request.held_out)
    found_later = {"guidance": free_scale, "noises": run.deadline.bounded}
    unknown = {key: UNKNOWN for key, later in found_later.items() if later}
    searches = {
        f"nfe-{budget.nfe}": identity(request, model, budget) | unknown
        for budget in request.budgets[: 1 if match else None]
    }
    if shared is not None:
        shared.check(searches)
    with (
        nullcontext() if out is None else own_folder(out, searches, resume, force) as folder,
        team_of(workers, model) as team,
    ):
        task = timed(Task(model, request, scoring, arguments.batch or MICRO_BATCH, folder, resume, team, shared), run)
        if free_scale:
            found = request_at(find_scale(task, run).scale)
            task = replace(task, request=replace(found, noises=task.request.noises, held_out=task.request.held_out))
        return searched(task, run, command, free_scale)


def foresee(model: Model, arguments: Arguments) -> Forecast:
    """What `tune` with these arguments would take, from a timed play of the model; nothing is searched or written.

    The evaluations are right within a factor of 2, and `time` bounds them. Raises InputError as `tune` does.
    """
    model = arguments.model_of(model)
    request = arguments.request(model)
    scale, size = request.guidance, arguments.batch or MICRO_BATCH
    check_room(request, model, timed_pace(model, scale, LEAST_NOISES))
    pace = timed_pace(model, scale, size)
    fitting = within(request, model, pace)
    kept = 4 * math.prod(model.shape) * 3 * (fitting.noises + 4 * fitting.held_out)  # noises, targets and samples
    memory = batch_memory(model, scale, size) + kept
    found = {"guidance scale": EACH * NOISES} if arguments.free_scale else {}
    stages, notes = found | foreseen(fitting, model, pace), notes_for_large(request, model)
    return Forecast(stages, pace, memory, most=request.time, limit=request.evaluations, notes=notes)


def timed(task: Task, run: Run) -> Task:
    """The task with what the requested time allows, and in the run what it is expected to take.

    Raises InputError where the time is too short for any run.
    """
    request, model = task.request, task.model
    if run.deadline.bounded:
        pace = partial(timed_pace, model, request.guidance, clock=run.deadline.clock)
        check_room(request, model, math.inf if request.time is None else pace(LEAST_NOISES))
        if request.time is not None:
            run.pace = pace(task.batch)
        request = within(request, model, run.pace)
        request = replace(request, noises=_noises_before(task) or request.noises)
        run.notes += _fewer_noises(task.request, request)
    run.notes += notes_for_large(request, model)
    run.expected.stages.update(foreseen(request, model, run.pace) | {"clocking": 0})
    return replace(task, request=request)


def _noises_before(task: Task) -> int | None:
    """How many noises the search has that this run goes on with; None where it begins."""
    if task.shared is not None and (shared := task.shared.noises()) is not None:
        return shared
    return noises_of(task.folder / STUDY) if task.folder is not None and task.resume else None


def _fewer_noises(asked: Request, request: Request) -> list[str]:
    """A note where the request has fewer noises than was asked for."""
    pairs = (
        ("{} noises in place of {} in the search", request.noises, asked.noises),
        ("{} held-out ones in place of {}", request.held_out, asked.held_out),
    )
    less = [words.format(now, before) for words, now, before in pairs if now != before]
    return [f"in {_bounds(request)}: {', and '.join(less)}: more makes the figures surer"] if less else []


def _bounds(request: Request) -> str:
    """What the request allows, in words."""
    time = "" if request.time is None else f"{request.time:g} s"
    return " and ".join(
        filter(None, (time, "" if request.evaluations is None else f"{request.evaluations:,} evaluations"))
    )


def searched(task: Task, run: Run, command: str = "", free_scale: bool = False) -> Result:
    """The stages of a run: references, and for each budget the standard plans ranked, the search, and its check on held-out
    noises; then the result.

    With `match` the budgets rise to the first whose plan is not worse than the pipeline as it is, and those at which the best
    standard plan's error is more than four times the pipeline's are not searched.

    free_scale  whether plans must be as near to the data as the standard ones without guidance
    """
    model, request = task.model, task.request
    run.notes += _notes(model, request)
    budgets, last = request.budgets, request.budgets[-1]
    if model.distilled is None:
        refs = references(task, run, likely_standards(model, request, min(last.nfe, 10)))
    else:
        task, refs = grounds(task, run)
        request = task.request
    if request.match and refs.pipeline is None:
        raise InputError(f"match needs a pipeline that runs; that of {model.name} gives no finite samples")
    outcomes: list[Outcome] = []
    for n, budget in enumerate(budgets):
        run.deadline.open([each.nfe for each in budgets[n:]], request.match)
        ranked = rank(task, run, budget, refs.objective)
        if request.match and budget != last and ranked.standards[0].error > HOPELESS * _pipeline_error(refs):
            continue

        def outcome_of(ranked: Ranked, before: list[Outcome] = outcomes) -> Outcome:
            found = verify(task, run, refs, ranked, search(task, run, ranked), before)
            return or_unguided(task, run, refs, ranked.budget, found) if free_scale else found

        def again(other: Budget) -> Outcome:
            return outcome_of(rank(task, run, other, refs.objective))

        taken = {each.nfe for each in budgets if each != budget}
        outcome = kept_within(task, run, budget, outcome_of(ranked), again, taken)
        beside = beside_pipeline if model.distilled is None else beside_own_calls
        outcomes.append(beside(task, run, refs, budget, outcome))
        if (match := outcomes[-1].match) is not None and match.recommended == "tuned":
            break
    if task.resume and request.bounded and not run.searched:
        run.notes.append(
            f"the search had spent its {_bounds(request)} before: nothing was added to it; more goes on with it"
        )
    if request.pipeline_last:
        refs = with_pipeline(task, run, refs)
    return result_of(task, run, refs, outcomes, command)


def beside_pipeline(task: Task, run: Run, refs: References, budget: Budget, outcome: Outcome) -> Outcome:
    """The outcome with its comparison with the pipeline as it is, where a match was requested; under a limit in multiply-adds
    or milliseconds, a note where it is not shown to be as good.
    """
    if refs.pipeline is None or not (task.request.match or budget.limit):
        return outcome
    verdict = matches(refs.judge, outcome, refs.pipeline, task.request.margin, task.request.judged_by)
    if budget.limit is None:
        return replace(outcome, match=verdict)
    if (sentence := refusal(str(budget.limit), verdict)) is not None:
        run.notes.append(sentence)
    return outcome


def _pipeline_error(refs: References) -> float:
    """The pipeline's RMSE to the reference solution; infinite where it adds noise, or plans are judged by something else."""
    if refs.pipeline is None or refs.pipeline.stochastic or not refs.objective.criterion.paired:
        return math.inf
    return float(refs.judge.errors(refs.pipeline.samples).mean().sqrt())


def _notes(model: Model, request: Request) -> list[str]:
    """Notes on the start and on guidance, before anything is searched."""
    notes = []
    if isinstance(model.schedule, Ended):
        notes.append(
            f"all plans and baselines end at t = {float(model.schedule.time(0.0)):.1f}, where the call leaves its samples to"
            " another pipeline (denoising_end); errors are of those samples"
        )
    if model.beginning is not None and model.start == model.beginning.level:
        what = "samples that another pipeline hands on" if model.beginning.handed_on else "the given data, noised"
        notes.append(
            f"all plans and baselines start at t = {float(model.schedule.time(model.start)):.1f}, where the call begins with {what}"
        )
    elif model.start < model.schedule.tau_max:
        notes.append(
            f"all plans and baselines start at t = {float(model.schedule.time(model.start)):.1f} (s = sigma/alpha = "
            f"{model.start / (1 - model.start):.3g}), not at the noisiest time: there the signal is so weak (alpha near zero) "
            "that a small error of the network's noise prediction becomes a large one of the image"
        )
    return notes + guidance_notes(model, request.guidance, [budget.nfe for budget in request.budgets])
