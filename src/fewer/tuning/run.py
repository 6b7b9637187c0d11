"""One run of `fewer.tune`: from the standard plans over the search to the verdict on fresh noise."""

from __future__ import annotations

import math
import time as clock_time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fewer.engine import sample
from fewer.errors import InputError
from fewer.integrations.as_it_is import untold_guidance
from fewer.measures.measure import squared_errors
from fewer.measures.reference import Fine, fine_plan, fine_solution
from fewer.memory import out_of_memory
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.parts import find, parts
from fewer.plan import Plan
from fewer.tuning.asked import Asked, enough_noises, identity
from fewer.tuning.attribution import attribute
from fewer.tuning.baselines import (
    PIPELINE_EVALUATIONS,
    Judge,
    Pipeline,
    Scoring,
    finite,
    fresh_noise,
    pipeline_rows,
    play_pipeline,
)
from fewer.tuning.columns import STEPS_SHARE, besides, best_column, listed, strategies
from fewer.tuning.contributions import contributions, refusal
from fewer.tuning.joint import best_pattern, names_of
from fewer.tuning.limit import Limit
from fewer.tuning.pipeline_names import own_grid, own_solver
from fewer.tuning.problem import Problem
from fewer.tuning.results import Result, make_results, save
from fewer.tuning.space import Anchor, Space, fits
from fewer.tuning.standards import Standards, by_grid, standard_plans
from fewer.tuning.study import STUDY, Candidate, Study
from fewer.tuning.verdict import Outcome, judge_pair, matches

Progress = Callable[[str, int, int | None], Any]

# A tuned plan's error is about a third of a standard one's, and the fine solution is to be 10 times better than that:
# an error of its own that has nothing to do with the plan's makes the plan's look half a percent larger.
TUNED_SHARE = 0.3
FINE_SHARE = 0.1
YARDSTICKS = ("unipc logsnr", "unipc uniform", "unipc quadratic", "dpmpp-2m karras")
MATCH_EVALUATIONS = 128_000  # that scoring the pipeline as it is may take where it is to be matched
DRAWS = 8  # random patterns a stratum, by which rows and blocks are told apart
HOPELESS = 4.0  # times the pipeline's error


class Run:
    """One run of `tune`: the search's and the judge's noises, and what has been found so far."""

    def __init__(
        self, model: Model, asked: Asked, scoring: Scoring, folder: Path | None, resume: bool, batch: int,
        command: str, progress: Progress | None,
    ) -> None:  # fmt: skip
        self.model, self.asked, self.scoring, self.folder = model, asked, scoring, folder
        self.resume, self.batch, self.command = resume, batch, command
        self.progress: Progress = progress or (lambda stage, done, total: None)
        self.began = clock_time.monotonic()
        self.evaluations = self.counted = 0
        self.notes: list[str] = []
        self.solver: str | None = None
        self.steps: str | None = None
        self.anchors: dict[str, Anchor] = {}
        self.anchored: set[str] = set()
        if "solver" in asked.keep:
            self.solver = own_solver(model)
        if "steps" in asked.keep:
            self.steps = own_grid(model)

    def run(self) -> Result:
        """Search, compare, write."""
        asked, model = self.asked, self.model
        if model.start < model.schedule.tau_max:
            self.notes.append(
                f"starts at t = {float(model.schedule.time(model.start)):.1f} (s = sigma/alpha = "
                f"{model.start / (1 - model.start):.3g}): above, noise prediction divides its error by an alpha near zero"
            )
        if (told := untold_guidance(model, asked.guidance)) is not None:
            self.notes.append(told)
        problem, fine = self.problem()
        judge = self.judge(fine, asked.fresh)
        pipeline = self.pipeline(judge)
        outcomes = self.match(problem, judge, pipeline) if asked.match else self.front(problem, judge, pipeline)
        others = [] if pipeline is None else [nfe for nfe in asked.budgets if nfe != pipeline.nfe]
        beside = pipeline_rows(judge, others, asked.guidance, asked.seed, self.notes)
        self.evaluations += judge.evaluations
        results = make_results(
            model, asked, outcomes, judge, pipeline, beside, self.notes, self.command, self.evaluations,
            clock_time.monotonic() - self.began, self.batch,
        )  # fmt: skip
        result = Result.of(outcomes, results, asked.match)
        if self.folder is not None:
            self.progress("writing", 0, None)
            save(self.folder, model, result, judge, pipeline)
        return result

    def front(self, problem: Problem, judge: Judge, pipeline: Pipeline | None) -> list[Outcome]:
        """One outcome a budget."""
        found = []
        for nfe in self.asked.budgets:
            study, ranked = self.rank(nfe, problem)
            outcome = self.budget(nfe, study, ranked, problem, judge)
            if self.asked.limits and (said := refusal(judge, outcome, self.limit(nfe), pipeline, self.asked.margin)):
                self.notes.append(said)
            found.append(outcome)
        return found

    def limit(self, nfe: int) -> Limit:
        """The budget in multiply-adds or milliseconds that pays for so many evaluations."""
        return self.asked.limits[self.asked.budgets.index(nfe)]

    def match(self, problem: Problem, judge: Judge, pipeline: Pipeline | None) -> list[Outcome]:
        """Outcomes of rising budgets, up to the first whose plan is not worse than the pipeline as it is.

        Budgets at which the best standard plan's error is more than four times the pipeline's are not searched.
        """
        if pipeline is None:
            raise InputError(f"match needs a pipeline that runs; that of {self.model.name} gives no finite samples")
        found: list[Outcome] = []
        own = math.inf if pipeline.stochastic else float(judge.errors(pipeline.samples).mean().sqrt())
        for nfe in self.asked.budgets:
            study, ranked = self.rank(nfe, problem)
            if ranked[0].error > HOPELESS * own and nfe != self.asked.budgets[-1]:
                continue
            outcome = self.budget(nfe, study, ranked, problem, judge)
            verdict = matches(judge, outcome, pipeline, self.asked.margin)
            found.append(replace(outcome, match=verdict))
            if verdict.recommended == "tuned":
                break
        return found

    def standards(self, nfe: int) -> list[Plan]:
        """The standard plans of a budget, of the pipeline's own solver or grid where those are kept."""
        keep = self.asked.keep
        plans = standard_plans(self.model, nfe, self.asked.guidance, self.solver, self.steps)
        if not plans:
            raise InputError(f"no standard plan can be made for nfe {nfe} with {', '.join(sorted(keep)) or 'any'} kept")
        return plans

    def problem(self) -> tuple[Problem, Fine]:
        """The search's noises with their fine solution, whose calls are found for the largest budget (at most 10)."""
        asked, model = self.asked, self.model
        noise = unit_noise(asked.seed, range(asked.noises), model.shape, device=model.device)
        labels = model.labels(len(noise))
        few = min(enough_noises(model, 16, 64), len(noise))
        some = None if labels is None else labels[:few]
        plans = [p for p in self.standards(min(asked.budgets[-1], 10)) if p.name in YARDSTICKS]
        plans = plans or self.standards(min(asked.budgets[-1], 10))[:1]
        there = [sample(model, plan, noise=noise[:few], labels=some, batch=self.batch) for plan in plans]
        self.evaluations += sum(plan.nfe for plan in plans) * few
        fine = fine_solution(
            model, noise, labels, guidance=asked.guidance, batch=self.batch, probe=few, share=FINE_SHARE,
            best=lambda target: TUNED_SHARE * min(float(squared_errors(x, target).mean().sqrt()) for x in there),
            progress=lambda stage: self.progress(stage, 0, None),
        )  # fmt: skip
        self.evaluations += fine.evaluations
        data = None if model.decode is not None else self.scoring.data  # images, which are no samples of a latent model
        return Problem(model, noise, labels, fine.samples, self.batch, data=data), fine

    def judge(self, fine: Fine, n: int, first: int = 0) -> Judge:
        """Fresh noises of numbers first .. n - 1, with a fine solution of as many calls as the search's."""
        model = self.model
        noise = fresh_noise(model, n, self.asked.seed, first)
        labels = model.labels(n)
        labels = None if labels is None else labels[first:]
        self.progress("fine solution of fresh noises", 0, None)
        plan = fine_plan(model, fine.calls, self.asked.guidance)
        samples = sample(
            model, plan, noise=noise, labels=labels, batch=self.batch,
            progress=lambda done, total: self.progress("fine solution of fresh noises", done, total),
        )  # fmt: skip
        spent = plan.nfe * len(noise)
        return Judge(model, noise, labels, replace(fine, samples=samples), self.scoring, self.batch, spent)

    def pipeline(self, judge: Judge) -> Pipeline | None:
        """The pipeline as it is, on fresh noises."""
        if self.model.pipeline is None:
            return None
        self.progress(f"the pipeline as it is ({self.model.pipeline['class']})", 0, None)
        most = MATCH_EVALUATIONS if self.asked.match else PIPELINE_EVALUATIONS
        found = play_pipeline(judge, self.asked.guidance, self.asked.seed, most)
        if found is not None and not finite(found.samples):
            self.notes.append(f"{found.name} gives values that are not finite on this model; it is left out")
            return None
        return found

    def rank(self, nfe: int, problem: Problem) -> tuple[Study, list[Candidate]]:
        """The budget's study, and its standard plans by their error on a quarter of the noises, best first."""
        asked = self.asked
        path = None if self.folder is None else self.folder / STUDY
        study = Study(f"nfe-{nfe}", path, identity(asked, self.model, nfe), self.resume)
        plans = sorted(
            self.standards(nfe), key=lambda plan: plan.name not in YARDSTICKS
        )  # likely the best, to race with
        few = ranking(problem)
        space = Space(self.model, (plans[0],))
        ranked = self.follow(Standards(tuple(plans)), "standard", study, few, space, nfe, len(plans), limited=False)
        self.evaluations += few.evaluations
        return study, sorted(ranked, key=lambda candidate: candidate.error)

    def budget(self, nfe: int, study: Study, ranked: list[Candidate], problem: Problem, judge: Judge) -> Outcome:
        """The best plan found for one budget, compared with the best standard plan on fresh noise."""
        asked = self.asked
        self.counted = problem.evaluations
        found: list[Candidate] = []
        steps, with_blocks = strategies(asked, self.model)
        strategy = find("tuning", steps).make()
        fitted = self.fitted(nfe, study, ranked, problem)
        few = ranking(problem)
        starts = [*ranked, *(Candidate(c.plan, few.rmse(c.plan), c.strategy) for c in fitted)]
        problem.evaluations += few.evaluations
        space = self.space(sorted(starts, key=lambda candidate: candidate.error))
        others: dict[str, Candidate] = {}
        if space is not None:
            space = replace(space, starts=asked.plans_of(nfe))
            total = min(asked.trials or strategy.candidates, strategy.candidates)
            share = 1.0 if with_blocks is None else STEPS_SHARE
            found = self.follow(strategy, steps, study, problem, space, nfe, total, limited=True, share=share)
            if with_blocks is not None:
                first = strategy.choose(found) if found else None
                others = self.columns(with_blocks, nfe, study, space, problem, first)
                found = self.follow(
                    strategy, steps, study, problem, space, nfe, total, limited=True
                )  # with what is left
        made = [*([strategy.choose(found)] if found else []), *fitted]
        best = min(made, key=lambda candidate: candidate.error, default=None)
        alone = {} if best is None else {"steps and passes" if steps == "guided-rows" else "steps": best}
        columns = alone | others
        tuned = best_column(problem, list(columns.values()))
        self.evaluations += problem.evaluations - self.counted
        self.progress(f"{nfe} evaluations: comparing on fresh noise", 0, None)
        outcome = judge_pair(
            judge, nfe, tuned, ranked, asked.margin, asked.guidance, asked.fresh,
            more=lambda n: judge.extend(self.judge(judge.fine, n, len(judge.noise))),
        )  # fmt: skip
        return outcome if with_blocks is None else self.contributed(outcome, columns, judge, problem)

    def columns(
        self, name: str, nfe: int, study: Study, space: Space, problem: Problem, steps: Candidate | None
    ) -> dict[str, Candidate]:
        """What is found with other columns free besides steps, and with these alone, whose best is known on the way."""
        if name != "networks" and not names_of(self.model):
            self.notes.append(f"no blocks are known in the network of {self.model.name}: none can be left out")
            return {}
        found: dict[str, Candidate] = {}
        others = besides(name, self.limit(nfe), nfe, steps)
        for n, (freed, one) in enumerate(others.items(), 1):
            key, share = getattr(one, "name", name), STEPS_SHARE + (1 - STEPS_SHARE) * n / len(others)
            done = self.follow(one, key, study, problem, space, nfe, one.candidates, limited=True, share=share)
            if done:
                alone = {listed(*freed): best_pattern(done)} if name in ("joint", "networks") else {}
                found |= alone | {listed("steps", *freed): one.choose(done)}
        if not found:
            does = "calls the second network" if name == "networks" else "leaves blocks out"
            self.notes.append(f"no plan of {self.limit(nfe)} {does}: more rows do not fit")
        return found

    def contributed(self, outcome: Outcome, columns: dict[str, Candidate], judge: Judge, problem: Problem) -> Outcome:
        """The outcome with what each column brought and which rows and blocks matter, named by its budget."""
        limit = self.limit(outcome.nfe)
        plans = {name: candidate.plan for name, candidate in columns.items()}
        found = contributions(judge, limit, plans, list(plans)[-1], len(outcome.chosen.samples)) if plans else []
        if outcome.verdict.recommended == "tuned":
            outcome = replace(outcome, chosen=replace(outcome.chosen, plan=outcome.plan.named(f"tuned, {limit}")))
        shared = None
        if any(row.blocks for row in outcome.plan.rows) and len({row.conditions for row in outcome.plan.rows}) == 1:
            self.progress(f"{outcome.nfe} evaluations: which rows and blocks matter", 0, None)
            few = problem.first(8)
            shared = attribute(few, outcome.plan, names_of(self.model), DRAWS, self.asked.seed).to_dict()
            self.evaluations += few.evaluations
        return replace(outcome, contributions=tuple(each.to_dict() for each in found), attribution=shared)

    def fitted(self, nfe: int, study: Study, ranked: list[Candidate], problem: Problem) -> list[Candidate]:
        """What the strategies to start from have chosen."""
        found: list[Candidate] = []
        space = self.space(ranked)
        if space is None:
            return found
        for name in self.asked.start_from:
            strategy = find("tuning", name).make()
            if hasattr(strategy, "anchors") and name not in self.anchored:
                self.anchored.add(name)
                self.progress(f"{nfe} evaluations: statistics for {name}", 0, None)
                self.anchors.update(strategy.anchors(problem, space, self.asked.seed))
            space = replace(space, anchors=self.anchors)
            done = self.follow(strategy, name, study, problem, space, nfe, strategy.candidates, limited=True)
            found += [strategy.choose(done)] if done else []
        return found

    def space(self, ranked: list[Candidate]) -> Space | None:
        """The space around the best plan of each grid; None where no plan fits or nothing is free."""
        bases = by_grid([c.plan for c in ranked if fits(c.plan) or c.plan.name.split()[0] in self.anchors])
        known = {kind.name for kind in parts("solvers")}
        solver = next((word for word in (plan.name.split()[0] for plan in bases) if word in known), None)
        space = Space(self.model, bases, self.asked.keep, solver, self.anchors)
        return space if bases and space.names else None

    def follow(
        self, strategy: Any, name: str, study: Study, problem: Problem, space: Space, nfe: int, total: int,
        *, limited: bool, share: float = 1.0,
    ) -> list[Candidate]:  # fmt: skip
        """Run a strategy on from what the study holds of it, as far as trials and its share of time and evaluations allow
        where it is limited. Where memory is too small it goes on with micro-batches of half the size.
        """
        done = study.candidates(name)
        search = strategy.search(problem, space, list(done), self.asked.seed)
        most = self.asked.trials if limited else None
        while (most is None or len(done) < most) and not (limited and done and self.late(problem, share)):
            try:
                candidate = next(search, None)
            except Exception as error:
                if problem.batch == 1 or not out_of_memory(error):
                    raise
                problem.batch //= 2
                search = strategy.search(problem, space, list(done), self.asked.seed)
                continue
            if candidate is None:
                break
            study.add(candidate)
            done.append(candidate)
            self.progress(f"{nfe} evaluations: {name}", len(done), total)
        return done

    def late(self, problem: Problem, share: float) -> bool:
        """Whether this share of the time or the evaluations asked for is used up."""
        time, most = self.asked.time, self.asked.evaluations
        spent = self.evaluations + problem.evaluations - self.counted
        took = clock_time.monotonic() - self.began
        return (time is not None and took > share * time) or (most is not None and spent > share * most)


def ranking(problem: Problem) -> Problem:
    """The noises that plans are ranked on: a quarter of them, at least 32."""
    return problem.first(max(32, len(problem) // 4))
