"""What `compress` would take and leave: evaluations by stage, gradient steps, time here, and what may stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fewer.compression.calibration import CALLS as SAMPLE_CALLS
from fewer.compression.clocked import clocked
from fewer.compression.evidence import calls_of_evidence
from fewer.compression.request import Request
from fewer.compression.work import BACKWARD, WithWork
from fewer.evaluate.cost.pace import Forecast, timed_pace
from fewer.models.model import Model
from fewer.registry import name_of

TIMED = 1.0  # seconds of a timed play that are enough: all calls are of whole batches
COUNTED = (
    f"a gradient counts as {BACKWARD} evaluations beside its own, and a call of the light network as one of the full"
)


def foresee(asked: Request) -> Forecast:
    """Without a state computed; the network is called for its pace alone, and for milliseconds where those are the budget."""
    subject, costs = asked.subject, asked.costs
    stages: dict[str, int] = {}
    if asked.images is None:
        stages["samples of the model, on which units are rated"] = SAMPLE_CALLS * asked.samples
    stages["calibration states"] = subject.size
    unknown, steps = [], 0
    for what, part in (
        ("score", asked.score), ("allocator", asked.allocator), *(("recovery", each) for each in asked.repairs)
    ):  # fmt: skip
        name = name_of("compress", part)
        if not isinstance(part, WithWork):
            unknown.append(name)
            continue
        work = part.work(subject)
        steps += work.steps
        stages[f"{what} {name}"] = stages.get(f"{what} {name}", 0) + work.in_evaluations
    stages["losses before and after each recovery"] = subject.size * 2 * (1 + len(asked.repairs))
    if costs.unit == "milliseconds":
        stages["clock of networks and their parts"] = clocked(subject.batch)
    macs = None if subject.groups[0].kind == "weights" else costs.limit / costs.whole  # about, of other budgets
    stages["samples of both networks, and their clock"] = calls_of_evidence(
        asked.noises, subject.batch, macs, own=asked.images is None
    )
    notes = [f"{steps:,} gradient steps; {COUNTED}", *not_counted(unknown), left(asked)]
    return timed(asked.model, subject.batch, stages, notes)


def timed(model: Model, batch: int, stages: Mapping[str, int], notes: Sequence[str]) -> Forecast:
    """Evaluations by stage, but for stages without any, at the pace of this device."""
    made = {stage: n for stage, n in stages.items() if n}
    return Forecast(made, timed_pace(model, None, batch, enough=TIMED), notes=tuple(notes))


def not_counted(names: list[str]) -> list[str]:
    """What is said of parts that do not say what they take."""
    return [f"not counted: the calls of {' and '.join(names)}"] if names else []


def left(asked: Request) -> str:
    """What may stay, in words."""
    costs = asked.costs
    if costs.unit == "milliseconds":
        return f"at most {costs.limit:.3g} of {costs.whole:.3g} ms a call of one sample would be left"
    return f"at most {int(costs.limit):,} of {int(costs.whole):,} {costs.unit} would be left ({costs.limit / costs.whole:.1%})"
