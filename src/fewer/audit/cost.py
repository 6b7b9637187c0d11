"""What faults cost: the pipeline's table against the same table with one fault repaired, from the same noises.

Faults of the path are measured by the paired RMSE to the model's reference solution. Pure noise where the state should hold
data (terminal SNR) changes the law of the samples instead: the table is played once from pure noise z and once from
(1 - tau) D + tau z, with D the reference solution of another noise, and the spread of the samples' means (their overall
brightness) is compared. The reference solution starts from pure noise itself, and its brightness is as narrow, so that
the figure is a lower bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fewer.audit.case import Case, Fault
from fewer.audit.faults import audit
from fewer.engine import MICRO_BATCH
from fewer.errors import InputError
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.held_out import held_out_noise
from fewer.evaluate.reference import Doubling
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.interval import Interval
from fewer.plan import Plan, Start
from fewer.registry import part

MOST = 20_000  # network evaluations that measuring may take, besides the least number of noises
NOISES, LEAST = 64, 16
TERMINAL = "terminal SNR"
FINE = 224  # calls that a reference solution usually takes, with those of finding that number

Progress = Callable[[str, int, int | None], object]
Pair = tuple[Case | None, Fault]


@part(
    "schedule-audit",
    room="evaluate",
    title="Faults of a pipeline's own schedule, and what each costs",
    source="Lin et al. 2024, arXiv:2305.08891; Martin Garcia et al. 2025, E2E-FT (trailing spacing), "
    "arXiv:2409.11355; this package",
    papers=(210,),
    role="procedure",
)
def measured(
    cases: Sequence[Case], *, seed: int = 0, batch: int | None = None, progress: Progress | None = None
) -> list[Fault]:
    """The faults of all cases, of one model, with their costs.

    On 64 held-out noises, or as many, at least 16, as 20,000 network evaluations allow. Tables that add noise have no paired
    error: the faults of DDPM are measured on its deterministic form, DDIM on the same times, and of others not at all.
    A fault that no table repairs, and one whose tables give values that are not finite, has no cost.
    """
    faults, pairs = _pairs(cases)
    played = _played(pairs)
    if not played:
        return faults
    model = played[0][0].model
    n = _noises(played)
    noise = held_out_noise(model, n, seed)
    plans = [plan for case, fault in played for plan in (case.plan, fault.repaired) if plan is not None]
    size = MICRO_BATCH if batch is None else batch
    costs = Costs(Evaluator(model, noise, model.labels(n), batch=size), plans, progress)
    return [
        fault if twin is None else replace(fault, cost=costs.of(twin.plan, same))
        for fault, (twin, same) in zip(faults, pairs, strict=True)
    ]


def cost_evaluations(cases: Sequence[Case]) -> int:
    """Network evaluations that `measured` takes, about: those of the reference solution are the usual ones."""
    played = _played(_pairs(cases)[1])
    return _noises(played) * _per_noise(played) if played else 0


def _pairs(cases: Sequence[Case]) -> tuple[list[Fault], list[Pair]]:
    """The faults of all cases, and of each the case without added noise with the same fault there."""
    faults: list[Fault] = []
    pairs: list[Pair] = []
    for case in cases:
        own, twin = audit(case), _deterministic(case)
        same = own if twin is None or twin is case else audit(twin)
        faults += own
        pairs += [(twin, _named(same, fault)) for fault in own]
    return faults, pairs


def _played(pairs: Sequence[Pair]) -> list[tuple[Case, Fault]]:
    """The pairs whose fault can be measured."""
    return [(case, fault) for case, fault in pairs if case is not None and (fault.repaired or fault.name == TERMINAL)]


def _per_noise(played: Sequence[tuple[Case, Fault]]) -> int:
    return FINE + sum(case.plan.nfe + (fault.repaired or case.plan).nfe for case, fault in played)


def _noises(played: Sequence[tuple[Case, Fault]]) -> int:
    return max(LEAST, min(NOISES, MOST // _per_noise(played)))


def _deterministic(case: Case) -> Case | None:
    """The case itself, DDIM for DDPM, None for another one that adds noise."""
    if not case.plan.stochastic:
        return case
    if type(case.scheduler).__name__ != "DDPMScheduler":
        return None
    try:
        return case.but("DDIMScheduler")
    except InputError:
        return None


def _named(faults: Sequence[Fault], fault: Fault) -> Fault:
    """The fault of this name among others, else the fault without its repair."""
    return next((other for other in faults if other.name == fault.name), replace(fault, repaired=None))


class Costs:
    """Costs of faults on an evaluator's noises: each table is played once, and all share one reference solution."""

    def __init__(self, noises: Evaluator, plans: Sequence[Plan], progress: Progress | None = None) -> None:
        report = progress or (lambda stage, done, total: None)
        self.evaluator = noises
        self._samples: dict[int, Tensor | None] = {}
        for number, plan in enumerate(plans):
            report("tables as they are and repaired", number, len(plans))
            self.samples(plan)
        known = [samples for samples in self._samples.values() if samples is not None]
        self.evaluator = noises.with_reference(
            known, doubling=Doubling(probe=len(noises)), progress=lambda stage: report(stage, 0, None)
        )

    def samples(self, plan: Plan) -> Tensor | None:
        """From pure noise; None where values are not finite."""
        if id(plan) not in self._samples:
            self._samples[id(plan)] = self._played(plan)
        return self._samples[id(plan)]

    def _played(self, plan: Plan, data: Tensor | None = None) -> Tensor | None:
        try:
            return self.evaluator.samples(plan, init=data)
        except InputError:
            return None

    def of(self, plan: Plan, fault: Fault) -> Interval | None:
        """The fault's figure as it is over that of the repaired table."""
        if fault.name == TERMINAL:
            return self._spread(plan)
        own, other = self.samples(plan), None if fault.repaired is None else self.samples(fault.repaired)
        if own is None or other is None:
            return None
        return _ratio(self.evaluator.errors(own), self.evaluator.errors(other))

    def _spread(self, plan: Plan) -> Interval | None:
        """Spread of the samples' means where the start holds data, over that from pure noise."""
        tau = plan.rows[0].tau
        right = replace(plan, start=Start(tau, tau))
        own, other = self.samples(plan), self._played(right, self.evaluator.target[self._others()])
        if own is None or other is None:
            return None
        means = (x.double().flatten(1).mean(1).cpu() for x in (other, own))
        return _ratio(*((mean - mean.mean()).square() for mean in means))

    def _others(self) -> Tensor:
        """For each noise the number of another of the same label."""
        n = len(self.evaluator)
        if self.evaluator.labels is None:
            return torch.arange(n).roll(1)
        labels, others = self.evaluator.labels.cpu(), torch.arange(n)
        for label in labels.unique():
            same = (labels == label).nonzero().flatten()
            others[same] = same.roll(1)
        return others


def _ratio(a: Tensor, b: Tensor) -> Interval | None:
    """The paired ratio of squared errors; None where the second has none."""
    return paired.ratio(a, b) if b.any() else None
