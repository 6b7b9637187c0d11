"""Task and state that the stages of one run of `fewer.tune` share: evaluations, time and notes so far."""

from __future__ import annotations

import time as clock_time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fewer.errors import out_of_memory
from fewer.evaluate.evaluator import Counter
from fewer.evaluate.scoring import Scoring
from fewer.models.model import Model
from fewer.registry import guarded
from fewer.search.objective import Objective
from fewer.search.request import Budget, Request, identity
from fewer.search.space import Anchor, Space
from fewer.search.strategy import Candidate, Strategy
from fewer.search.study import STUDY, Study

Progress = Callable[[str, int, int | None], Any]


@dataclass(frozen=True)
class Task:
    """The input of every stage: a model, the request, how plans are scored, and the folder where candidates are kept."""

    model: Model
    request: Request
    scoring: Scoring
    batch: int
    folder: Path | None = None
    resume: bool = False

    def study(self, budget: Budget) -> Study:
        """The study of a budget, opened or made."""
        path = None if self.folder is None else self.folder / STUDY
        return Study(f"nfe-{budget.nfe}", path, identity(self.request, self.model, budget), self.resume)


@dataclass
class Run:
    """Progress, counter and time of a run's search, notes for the user, and the solvers that were fitted to the model.

    `prepared` names the strategies whose solvers are among the `anchors`: they are fitted once a run.
    """

    progress: Progress
    began: float = field(default_factory=clock_time.monotonic)
    counter: Counter = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    anchors: dict[str, Anchor] = field(default_factory=dict)
    prepared: set[str] = field(default_factory=set)

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return clock_time.monotonic() - self.began

    def late(self, request: Request, share: float) -> bool:
        """Whether this share of the requested time or evaluations is used up."""
        time, most, spent = request.time, request.evaluations, self.counter.evaluations
        return (time is not None and self.seconds > share * time) or (most is not None and spent > share * most)

    def follow(
        self,
        task: Task,
        study: Study,
        objective: Objective,
        strategy: Strategy,
        space: Space,
        share: float | None = 1.0,
    ) -> list[Candidate]:
        """The candidates of a strategy, on from those that the study holds, as far as trials and this share of time and
        evaluations allow; None: without limits. Where memory is too small it goes on with micro-batches of half the size.
        """
        request, done = task.request, study.candidates(strategy.name)
        most = None if share is None else request.trials
        total = min(most or strategy.candidates, strategy.candidates)
        search = strategy.search(objective, space, list(done), request.seed)
        while (most is None or len(done) < most) and not (share is not None and done and self.late(request, share)):
            try:
                with guarded("search", strategy):
                    candidate = next(search, None)
            except Exception as error:
                if objective.batch == 1 or not out_of_memory(error):
                    raise
                objective.batch //= 2
                search = strategy.search(objective, space, list(done), request.seed)
                continue
            if candidate is None:
                break
            study.add(candidate)
            done.append(candidate)
            self.progress(f"{space.base.nfe} evaluations: {strategy.name}", len(done), total)
        return done
