"""Task and state that the stages of one run of `fewer.tune` share: evaluations, time and notes so far."""

from __future__ import annotations

import logging
import math
from collections import Counter as Counted
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewer.errors import out_of_memory
from fewer.evaluate.evaluator import Counter
from fewer.evaluate.scoring import Scoring
from fewer.models.model import Model
from fewer.registry import guarded
from fewer.search.deadline import RANKED, SEARCHED, Deadline, OutOfTime
from fewer.search.forecast import Expected
from fewer.search.objective import Objective
from fewer.search.request import Budget, Request, identity
from fewer.search.shared import Shared
from fewer.search.space import Anchor, Space
from fewer.search.strategy import Candidate, Strategy
from fewer.search.study import STUDY, Study
from fewer.workers.team import Team

Progress = Callable[[str, int, int | None], Any]
Overall = Callable[[int, int], Any]


log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """The input of every stage: a model, the request, how plans are scored, the folder where candidates are kept, workers
    that share the plays, None for this process alone, and the study that is shared with other coordinators, None for none.
    """

    model: Model
    request: Request
    scoring: Scoring
    batch: int
    folder: Path | None = None
    resume: bool = False
    workers: Team | None = None
    shared: Shared | None = None

    def study(self, budget: Budget) -> Study:
        """The study of a budget, opened or made; in memory for a search of a limit that was clocked again."""
        path = None if self.folder is None or budget.attempt else self.folder / STUDY
        shared = None if budget.attempt else self.shared
        return Study(f"nfe-{budget.nfe}", path, identity(self.request, self.model, budget), self.resume, shared)


@dataclass
class Run:
    """Progress, counter and time of a run's search, notes for the user, and the solvers that were fitted to the model.

    `prepared` names the strategies whose solvers are among the `anchors`: they are fitted once a run.

    counter   of the search's evaluations; `judged` of those on held-out noises
    expected  evaluations of the stages, as foreseen, which `overall` is called with: overall(made, made and to come)
    pace      evaluations a second, as timed before the run
    searched  candidates that this run has made, beside those that the study held
    followed  how often a study's strategies were followed, by the study's name, theirs and their share: each time has spent of
              its own
    """

    report: Progress = lambda stage, done, total: None
    deadline: Deadline = field(default_factory=Deadline)
    counter: Counter = field(default_factory=Counter)
    judged: Counter = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    anchors: dict[str, Anchor] = field(default_factory=dict)
    prepared: set[str] = field(default_factory=set)
    expected: Expected = field(default_factory=Expected)
    overall: Overall = lambda made, whole: None
    pace: float = math.inf
    searched: int = 0
    followed: Counted[tuple[str, str]] = field(default_factory=Counted)
    _stage: str = ""

    def __post_init__(self) -> None:
        self.deadline.made = lambda: self.evaluations

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return self.deadline.spent

    @property
    def evaluations(self) -> int:
        """All so far, of the search and on held-out noises."""
        return self.counter.evaluations + self.judged.evaluations

    def progress(self, stage: str, done: int, total: int | None) -> None:
        """Say what is being done, and how far the whole run is."""
        if stage != self._stage:
            self._stage = stage
            log.info("%s (%d evaluations so far, %.1f s)", stage, self.evaluations, self.seconds)
        self.report(stage, done, total)
        self.overall(self.evaluations, self.expected.whole(self.evaluations))

    def enter(self, stage: str) -> None:
        """Begin a stage of what is expected."""
        self.expected.enter(stage, self.evaluations)

    def affords(self, evaluations: float, share: float = 1.0) -> bool:
        """Whether so many evaluations fit into this share of what is left of the present window."""
        return not self.deadline.bounded or evaluations <= share * self.deadline.left(self.pace)

    def has_room(self, evaluations: int) -> bool:
        """Whether so many evaluations fit into what is left of the whole, and the call whose multiply-adds the results tell."""
        return not self.deadline.bounded or evaluations + 1 <= self.deadline.until(1.0, self.pace)

    @contextmanager
    def stopping(self, at: Callable[[], bool]) -> Iterator[None]:
        """Meanwhile evaluations raise OutOfTime when `at` says so."""

        def stop() -> None:
            if at():
                raise OutOfTime

        before, self.counter.stop = self.counter.stop, stop
        try:
            yield
        finally:
            self.counter.stop = before

    def follow(
        self,
        task: Task,
        study: Study,
        objective: Objective,
        strategy: Strategy,
        space: Space,
        share: float | None = 1.0,
        least: int = 0,
    ) -> list[Candidate]:
        """The candidates of a strategy, on from those that the study holds, as far as trials and this share of the budget's
        window for the search allow; None: all of them in the window for the ranking. Where memory is too small it goes on with
        micro-batches of half the size.

        What the study's candidates took of evaluations and seconds counts as if this run had made them, so that a bound is that of
        the whole search, and one that has ended is found again as it was.

        least  candidates that are made even where that is over
        """
        request, done = task.request, study.candidates(strategy.name)
        key, before = self._place(study, f"spent by {strategy.name} in {share}"), (self.evaluations, self.seconds)
        self._went_on(study, key)
        most = strategy.candidates if share is None else min(request.trials or strategy.candidates, strategy.candidates)
        until = RANKED if share is None else RANKED + share * (SEARCHED - RANKED)
        search: Iterator[Candidate] | None = None

        def late() -> bool:
            return len(done) >= least and self.deadline.late(until)

        while len(done) < most and not late():
            try:
                with study.turn(strategy.name, len(done), late) as candidate:
                    if candidate is not None:  # of another coordinator
                        search = None
                    else:
                        search = search or strategy.search(objective, space, list(done), request.seed)
                        with self.stopping(late), guarded("search", strategy):
                            candidate = next(search, None)
                        if candidate is None:
                            break
                        study.add(candidate)
                        self.searched += 1
                        self._keep(study, key, *before)
            except OutOfTime:
                break
            except Exception as error:
                if objective.batch == 1 or not out_of_memory(error):
                    raise
                objective.batch //= 2
                search = None
                continue
            done.append(candidate)
            log.debug("%s: candidate %d, score %.6g on the search's noises", strategy.name, len(done), candidate.error)
            self.progress(f"{space.base.nfe} evaluations: {strategy.name}", len(done), most)
        self._keep(study, key, *before)
        return done

    def _place(self, study: Study, key: str) -> str:
        """The key of this time among those at which strategies of the same name are followed in the same share."""
        self.followed[study.name, key] += 1
        times = self.followed[study.name, key]
        return key if times == 1 else f"{key}, time {times}"

    def _keep(self, study: Study, key: str, evaluations: int, seconds: float) -> None:
        """Keep in the study what a strategy has taken in a bounded run, since it had taken so much."""
        if self.deadline.bounded:
            study.note(key, {"evaluations": self.evaluations - evaluations, "seconds": self.seconds - seconds})

    def _went_on(self, study: Study, key: str) -> None:
        """Count what a strategy had taken in an earlier run."""
        kept = study.noted(key) if self.deadline.bounded else None
        if not isinstance(kept, dict):
            return
        evaluations, seconds = kept.get("evaluations"), kept.get("seconds")
        if isinstance(evaluations, int):
            self.counter.evaluations += max(0, evaluations)
        if isinstance(seconds, int | float) and math.isfinite(seconds):
            self.deadline.began -= max(0.0, seconds)
