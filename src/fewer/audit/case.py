"""A pipeline's scheduler at a number of steps, as a table, and what a fault of it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fewer.engine import times
from fewer.errors import InputError
from fewer.evaluate.statistics.interval import Interval
from fewer.integrations.probe import from_diffusers
from fewer.models.model import Model
from fewer.models.pipelines.defaults import own_scheduler
from fewer.models.pipelines.scheduler_config import make_scheduler, options, settings
from fewer.plan import Plan


@dataclass(frozen=True)
class Case:
    """A scheduler at `steps` steps on a model, and its table `plan`. `sigmas` are given to it where there are any."""

    model: Model
    scheduler: Any
    steps: int
    plan: Plan
    sigmas: tuple[float, ...] | None = None

    @classmethod
    def of(cls, model: Model, scheduler: Any, steps: int, sigmas: tuple[float, ...] | None = None) -> Case:
        """The case of a scheduler; InputError where no table holds it."""
        return cls(model, scheduler, steps, from_diffusers(scheduler, steps, model, sigmas=sigmas), sigmas)

    @classmethod
    def of_pipeline(cls, model: Model, steps: int | None = None) -> Case:
        """The case of the model's own pipeline, by default at its own number of steps; InputError where it has none."""
        if model.pipeline is None:
            raise InputError(f"{model.name} has no pipeline with a scheduler that could be audited")
        scheduler = own_scheduler(model.pipeline)
        return cls.of(model, scheduler, model.pipeline.steps if steps is None else steps)

    @property
    def options(self) -> dict[str, Any]:
        """The options of the scheduler's configuration that it uses."""
        return options(self.scheduler)

    @cached_property
    def times(self) -> list[float]:
        """The network's time input in each call."""
        return [float(t) for t in times(self.model, self.plan)]

    def but(self, kind: str | None = None, **changed: Any) -> Case:
        """The same case with some options changed, or another class of scheduler."""
        config = {**settings(self.scheduler), **changed}
        return Case.of(
            self.model, make_scheduler(kind or type(self.scheduler).__name__, config), self.steps, self.sigmas
        )


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a pipeline's table at one number of steps.

    name      of the kind of fault
    steps     of the scheduler, at which the table has the fault
    sentence  what is wrong, with figures
    rows      of the table in which it is, counted from 0
    repair    what to do about it
    repaired  the same table with this fault alone repaired; None where no table repairs it
    cost      how many times larger the figure named `measure` is than without the fault: by default the paired RMSE to the
              reference solution, as it is over repaired. None where it was not measured
    tune_repairs  whether fewer's own plans are without it (but a search may start lower on purpose, where it has measured
                  that this is better)
    """

    name: str
    steps: int
    sentence: str
    rows: tuple[int, ...]
    repair: str
    repaired: Plan | None = field(default=None, repr=False)
    measure: str = "paired RMSE"
    cost: Interval | None = None
    tune_repairs: bool = True

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `repaired` tells whether a table repairs it."""
        return {
            "name": self.name, "steps": self.steps, "sentence": self.sentence, "rows": list(self.rows),
            "repair": self.repair, "repaired": self.repaired is not None, "measure": self.measure,
            "cost": None if self.cost is None else self.cost.to_dict(), "tune_repairs": self.tune_repairs,
        }  # fmt: skip
