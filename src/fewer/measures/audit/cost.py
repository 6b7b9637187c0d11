"""What faults cost: the pipeline's table against the same table with one fault repaired, from the same noises.

Faults of the path are measured by the paired RMSE to the model's fine solution. Pure noise where the state should hold
data (terminal SNR) changes the law of the samples instead: the table is played once from pure noise z and once from
(1 - tau) D + tau z, with D the fine solution of another noise, and the spread of the samples' means (their overall
brightness) is compared. The fine solution starts from pure noise itself, and its brightness is as narrow, so that
the figure is a lower bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fewer.engine import sample
from fewer.errors import InputError
from fewer.measures import paired
from fewer.measures.audit.case import Case, Fault
from fewer.measures.audit.faults import audit
from fewer.measures.measure import FRESH, squared_errors
from fewer.measures.reference import fine_solution
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.parts import part
from fewer.plan import Plan, Start

MOST = 20_000  # network evaluations that measuring may take, besides the least number of noises
NOISES, LEAST = 64, 16
FINE = 224  # calls that a fine solution usually takes, with those by which its number is found

Progress = Callable[[str, int, int | None], object]


@part(
    "schedule-audit",
    title="Faults of a pipeline's own schedule, and what each costs",
    source="Lin et al. 2024; Martin Garcia et al. 2025, E2E-FT (trailing spacing); this package",
    papers=(210,),
)
def measured(
    cases: Sequence[Case], *, seed: int = 0, batch: int | None = None, progress: Progress | None = None
) -> list[Fault]:
    """The faults of all cases, of one model, with their costs.

    On 64 fresh noises, or as many, at least 16, as 20,000 network evaluations allow. Tables that add noise have no paired
    error: the faults of DDPM are measured on its deterministic form, DDIM on the same times, and of others not at all.
    A fault that no table repairs, and one whose tables give values that are not finite, has no cost.
    """
    found: list[Fault] = []
    pairs: list[tuple[Case | None, Fault]] = []
    for case in cases:
        own, twin = audit(case), _deterministic(case)
        same = own if twin is None or twin is case else audit(twin)
        found += own
        pairs += [(twin, _named(same, fault)) for fault in own]
    played = [(case, fault) for case, fault in pairs if case is not None and (fault.repaired or fault.name == TERMINAL)]
    if not played:
        return found
    model = played[0][0].model
    per_noise = FINE + sum(case.plan.nfe + (fault.repaired or case.plan).nfe for case, fault in played)
    n = max(LEAST, min(NOISES, MOST // per_noise))
    noise = unit_noise(seed, range(FRESH, FRESH + n), model.shape, device=model.device)
    plans = [plan for case, fault in played for plan in (case.plan, fault.repaired) if plan is not None]
    bench = Bench(model, noise, plans, batch, progress)
    priced: list[Fault] = []
    for fault, (twin, same_fault) in zip(found, pairs, strict=True):
        priced.append(fault if twin is None else replace(fault, cost=bench.cost(twin.plan, same_fault)))
    return priced


TERMINAL = "terminal SNR"


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


class Bench:
    """Noises, their fine solution, and each plan's samples, computed once."""

    def __init__(
        self,
        model: Model,
        noise: Tensor,
        plans: Sequence[Plan],
        batch: int | None = None,
        progress: Progress | None = None,
    ) -> None:
        report = progress or (lambda stage, done, total: None)
        self.model, self.noise, self.batch = model, noise, batch
        self.labels = model.labels(len(noise))
        self._samples: dict[int, Tensor | None] = {}
        known = []
        for number, plan in enumerate(plans):
            report("tables as they are and repaired", number, len(plans))
            known.append(self.samples(plan))
        some = [samples for samples in known if samples is not None]
        self.fine = fine_solution(
            model, noise, self.labels, batch=batch, probe=len(noise),
            best=lambda target: min((float(squared_errors(x, target).mean().sqrt()) for x in some), default=1.0),
            progress=lambda stage: report(stage, 0, None),
        ).samples  # fmt: skip

    def samples(self, plan: Plan) -> Tensor | None:
        """From pure noise; None where values are not finite."""
        if id(plan) not in self._samples:
            self._samples[id(plan)] = self._played(plan)
        return self._samples[id(plan)]

    def _played(self, plan: Plan, data: Tensor | None = None) -> Tensor | None:
        strength = None if data is None else float(plan.start.tau)
        try:
            return sample(
                self.model, plan, noise=self.noise, labels=self.labels, batch=self.batch, init=data, strength=strength
            )
        except InputError:
            return None

    def cost(self, plan: Plan, fault: Fault) -> paired.Interval | None:
        """The fault's figure as it is over that of the repaired table."""
        if fault.name == TERMINAL:
            return self._spread(plan)
        if fault.repaired is None:
            return None
        own, other = self.samples(plan), self.samples(fault.repaired)
        if own is None or other is None:
            return None
        mine, its = squared_errors(own, self.fine), squared_errors(other, self.fine)
        return paired.ratio(mine, its) if its.any() else None

    def _spread(self, plan: Plan) -> paired.Interval | None:
        """Spread of the samples' means where the start holds data, over that from pure noise."""
        tau = plan.rows[0].tau
        right = replace(plan, start=Start(tau, tau))
        own, other = self.samples(plan), self._played(right, self.fine[self._others()])
        if own is None or other is None:
            return None
        a, b = (_about_mean(x.double().flatten(1).mean(1).cpu()) for x in (other, own))
        return paired.ratio(a, b) if b.any() else None

    def _others(self) -> Tensor:
        """For each noise the number of another of the same label."""
        n = len(self.noise)
        if self.labels is None:
            return torch.arange(n).roll(1)
        labels, others = self.labels.cpu(), torch.arange(n)
        for label in labels.unique():
            same = (labels == label).nonzero().flatten()
            others[same] = same.roll(1)
        return others


def _about_mean(x: Tensor) -> Tensor:
    return (x - x.mean()).square()
