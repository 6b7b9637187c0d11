"""The unchanged pipeline: its own scheduler, at its default number of steps or within a requested number of calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fewer.engine import sample
from fewer.errors import InputError
from fewer.guidance.cfg import passes_at
from fewer.integrations.probe import from_diffusers
from fewer.integrations.schedulers import at_steps, calls_of, is_stochastic, play_scheduler
from fewer.models.model import Model
from fewer.models.pipelines.defaults import own_scheduler
from fewer.plan import Plan
from fewer.samplers import guided, short_of_guidance


@dataclass(frozen=True)
class AsItIs:
    """A pipeline's scheduler at a number of steps, with its `plan` where a table can hold it.

    Schedulers that clip are played themselves: some bound the data prediction in one term of a step and not in the other.
    """

    scheduler: Any
    steps: int
    calls: int
    guidance: float | None
    plan: Plan | None

    @property
    def name(self) -> str:
        """Name in leaderboards."""
        return f"pipeline as it is, {self.calls} calls"

    @property
    def nfe(self) -> int:
        """Network evaluations a sample, of which a guided call makes two."""
        return self.calls * passes_at(self.guidance)

    @property
    def stochastic(self) -> bool:
        """Whether two runs from the same noise differ."""
        return is_stochastic(self.scheduler) if self.plan is None else self.plan.stochastic

    def samples(self, model: Model, noise: Tensor, labels: Tensor | None, seed: int, batch: int | None) -> Tensor:
        """Samples (n, *shape) from unit noise; InputError where the scheduler cannot play the model."""
        if self.plan is not None:
            return sample(model, self.plan, noise=noise, labels=labels, seed=seed, batch=batch)
        scheduler = at_steps(self.scheduler, self.steps)
        return play_scheduler(model, scheduler, noise, labels, guidance=self.guidance, seed=seed, batch=batch)


def as_it_is(model: Model, nfe: int | None = None, guidance: float | None = None) -> AsItIs | None:
    """The model's pipeline at its own number of steps, or at as many as `nfe` evaluations pay for.

    None where the model has no pipeline, or where its scheduler cannot make so few calls. Raises InputError for
    a scheduler that cannot be built or set to its own steps.
    """
    if model.pipeline is None:
        return None
    scheduler = own_scheduler(model.pipeline)
    own = model.pipeline.steps
    steps = own if nfe is None else _steps_of(scheduler, nfe // passes_at(guidance))
    if steps is None:
        return None
    return AsItIs(scheduler, steps, calls_of(scheduler, steps), guidance, _plan(model, scheduler, steps, guidance))


def own_evaluations(model: Model, guidance: float | None = None) -> int:
    """Network evaluations of a sample by the model's pipeline at its own number of steps, each of which may make several calls.

    0 for a model without a pipeline. For a scheduler that cannot be built or set one call a step is counted; playing it raises.
    """
    if model.pipeline is None:
        return 0
    try:
        calls = calls_of(own_scheduler(model.pipeline), model.pipeline.steps)
    except InputError:
        calls = model.pipeline.steps
    return calls * passes_at(guidance)


def guidance_notes(model: Model, guidance: float | None, nfe: Sequence[int]) -> list[str]:
    """Notes for the user where the pipeline's own scale is not used, and where budgets leave a row of a standard plan unguided."""
    notes = ignored_guidance(model, guidance), short_of_guidance(guidance, *nfe)
    return [note for note in notes if note is not None]


def ignored_guidance(model: Model, guidance: float | None) -> str | None:
    """Note for the user where the pipeline has a default guidance scale that this run does not use; else None."""
    own = None if model.pipeline is None else model.pipeline.guidance
    if model.embedded_guidance is not None:
        if model.embedded_guidance != own:
            return None
        return (
            f"the network is given guidance {own:g}, which it takes as an input, as its pipeline does when it is given no scale "
            "(--guidance SCALE tells another)"
        )
    if own is None or guidance is not None:
        return None
    return (
        f"no plan guides here, nor does the pipeline's own sampler; given no scale, the pipeline itself guides by {own:g} "
        f"(--guidance {own:g})"
    )


def _steps_of(scheduler: Any, calls: int) -> int | None:
    """The most steps that take no more than `calls` calls, of which a step may make several."""
    for steps in range(calls, 0, -1):
        try:
            if calls_of(scheduler, steps) <= calls:
                return steps
        except InputError:
            continue
    return None


def _plan(model: Model, scheduler: Any, steps: int, guidance: float | None) -> Plan | None:
    if model.clip is not None:
        return None
    try:
        plan = from_diffusers(scheduler, steps, model)
    except InputError:
        return None
    return guided(plan, guidance, len(plan.rows) * passes_at(guidance))
