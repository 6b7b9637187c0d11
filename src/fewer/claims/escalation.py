"""Whether running only the doubtful samples again pays: against one plan of the same mean cost, and against chance.

Errors are paired RMSE to the fine solution. The doubtful share is exact: the threshold lies in the noises at hand, so that
both sides cost the same to the call.
"""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor

from fewer.claims.claim import Check, Measured, claim
from fewer.engine import sample
from fewer.measures import paired
from fewer.measures.measure import squared_errors
from fewer.measures.reference import fine_plan
from fewer.models.load import load
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import betas, discrete
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.processes.escalation import Escalation
from fewer.solvers import standard

OF = (("processes", "escalation"),)
CHEAP, ONE, DEAR = 10, 12, 20  # calls: 10 + 20 / 10 = 12
SHARE = 0.1
COUNT = {"dit-digits": 160, "mixture": 1000}
FINE = {"dit-digits": 64, "mixture": 256}
SIGNAL = {"dit-digits": "path", "mixture": "last"}  # found on other noise


@cache
def model_of(name: str) -> Model:
    """The bundled transformer, or eight Gaussians in 16 dimensions."""
    if name == "dit-digits":
        return load(name)
    return Model.from_mixture(GaussianMixture.random((1, 4, 4), 8, seed=1), discrete(betas("linear")), name=name)


def plan(name: str, calls: int) -> Plan:
    """A good plan for the model with so many calls."""
    solver, grid = ("ipndm", "karras") if name == "dit-digits" else ("unipc", "logsnr")
    return standard(solver, model_of(name), calls, grid)


@cache
def target(name: str, seed: int) -> tuple[Tensor, Tensor | None, Tensor]:
    """Noise, labels and the fine solution from it."""
    model, n = model_of(name), COUNT[name]
    noise, labels = unit_noise(seed, range(n), model.shape), model.labels(n)
    return noise, labels, sample(model, fine_plan(model, FINE[name]), noise=noise, labels=labels)


def errors(name: str, calls: int, seed: int) -> Tensor:
    """Squared errors of the plan with so many calls (n,)."""
    noise, labels, fine = target(name, seed)
    return squared_errors(sample(model_of(name), plan(name, calls), noise=noise, labels=labels), fine)


def escalated(name: str, seed: int) -> Tensor:
    """Squared errors where the tenth of largest doubt is run again."""
    model, (noise, labels, fine) = model_of(name), target(name, seed)
    plans, signal = (plan(name, CHEAP), plan(name, DEAR)), SIGNAL[name]
    doubt = Escalation(*plans, math.inf, signal).sample(model, noise=noise, labels=labels).doubt
    threshold = float(doubt.sort().values[-round(SHARE * len(doubt)) - 1])
    made = Escalation(*plans, threshold, signal).sample(model, noise=noise, labels=labels)
    return squared_errors(made.x, fine)


def by_chance(name: str, seed: int, draw: int) -> Tensor:
    """Squared errors where a tenth drawn at random is run again."""
    cheap, dear = errors(name, CHEAP, seed), errors(name, DEAR, seed)
    generator = torch.Generator().manual_seed(2 * seed + draw)
    drawn = torch.randperm(len(cheap), generator=generator)[: round(SHARE * len(cheap))]
    return cheap.index_copy(0, drawn, dear[drawn])


def ninth_decile(mine: Tensor, its: Tensor) -> float:
    """The 90 % quantile of the error over that of another."""
    return float(torch.quantile(mine.double(), 0.9) / torch.quantile(its.double(), 0.9)) ** 0.5


def one_plan_check(name: str) -> Check:
    """RMSE over that of one plan with as many calls a sample."""

    def check(seed: int, sabotage: bool) -> Measured:
        mine = by_chance(name, seed, 0) if sabotage else escalated(name, seed)
        its, cheap, dear = (errors(name, calls, seed) for calls in (ONE, CHEAP, DEAR))
        most = (cheap - dear).topk(round(SHARE * len(cheap))).indices
        best = cheap.index_copy(0, most, dear[most])
        return Measured(
            paired.ratio(mine, its),
            {
                "90 % quantile, ratio": ninth_decile(mine, its),
                "with the tenth that gains most, in hindsight": paired.ratio(best, its),
            },
        )

    return check


def chance_check(name: str) -> Check:
    """RMSE over that of a random tenth."""

    def check(seed: int, sabotage: bool) -> Measured:
        mine = by_chance(name, seed, 1) if sabotage else escalated(name, seed)
        return Measured(paired.ratio(mine, by_chance(name, seed, 0)))

    return check


for model_name, told in (("dit-digits", "dit-digits"), ("mixture", "a mixture of eight Gaussians in 16 dimensions")):
    claim(
        f"escalation/against-one-plan-{model_name}",
        of=OF,
        papers=(21,),
        statement=f"On {told}, {CHEAP} calls for all samples and {DEAR} more for the tenth of largest doubt have a lower error "
        f"than {ONE} calls for all (ratio of paired RMSE).",
        baseline=f"the same solver and grid with {ONE} calls for every sample, which cost as much; same noise",
        below=1.0,
    )(one_plan_check(model_name))
    claim(
        f"escalation/against-chance-{model_name}",
        of=OF,
        papers=(21,),
        statement=f"On {told} the tenth of largest doubt is worth more to run again than a random one (ratio of paired RMSE).",
        baseline="a tenth drawn at random, same plans and noise",
        below=1.0,
    )(chance_check(model_name))
