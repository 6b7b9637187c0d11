"""Whether running the samples of largest predicted error again pays: against one plan of the same mean cost, and against chance.

Errors are paired RMSE to the reference. The share of samples is exact: the threshold lies in the noises at hand, so that
both sides cost the same to the call.
"""

from __future__ import annotations

import math
from functools import cache, partial

import torch
from torch import Tensor

from fewer import GaussianMixture, Model, Plan, load, standard
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.reference import Reference
from fewer.dynamic.escalation import Escalation
from fewer.evaluate.statistics import paired
from fewer.evaluate.statistics.paired import squared_errors
from fewer.models.schedules import betas, discrete

CHEAP, ONE, DEAR = 10, 12, 20  # calls: 10 + 20 / 10 = 12
SHARE = 0.1
COUNT, FINE = (
    {"dit-digits": 4096, "mixture": 16_000},
    {"dit-digits": 64, "mixture": 256},
)  # noises, rows of the reference
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
def reference(name: str, seed: int) -> Reference:
    """The noises that the plans are compared on."""
    return Reference.of(model_of(name), seed, COUNT[name], FINE[name])


def errors(name: str, calls: int, seed: int) -> Tensor:
    """Squared errors of the plan with so many calls (n,)."""
    return reference(name, seed).errors(plan(name, calls))


def escalated(name: str, seed: int) -> Tensor:
    """Squared errors where the tenth of largest predicted error is run again."""
    of, plans, signal = reference(name, seed), (plan(name, CHEAP), plan(name, DEAR)), SIGNAL[name]
    predicted = Escalation(*plans, math.inf, signal).sample(of.model, noise=of.noise, labels=of.labels).predicted_error
    threshold = float(predicted.sort().values[-round(SHARE * len(predicted)) - 1])
    made = Escalation(*plans, threshold, signal).sample(of.model, noise=of.noise, labels=of.labels)
    return squared_errors(made.x, of.samples)


def by_chance(name: str, seed: int, draw: int) -> Tensor:
    """Squared errors where a tenth drawn at random is run again."""
    cheap, dear = errors(name, CHEAP, seed), errors(name, DEAR, seed)
    generator = torch.Generator().manual_seed(2 * seed + draw)
    drawn = torch.randperm(len(cheap), generator=generator)[: round(SHARE * len(cheap))]
    return cheap.index_copy(0, drawn, dear[drawn])


def ninth_decile(mine: Tensor, its: Tensor) -> float:
    """The 90 % quantile of the error over that of another."""
    return float(torch.quantile(mine.double(), 0.9) / torch.quantile(its.double(), 0.9)) ** 0.5


def against_one_plan(name: str, seed: int, sabotage: bool) -> Measured:
    """RMSE over that of one plan with as many calls a sample. Sabotage: a random tenth."""
    mine = by_chance(name, seed, 0) if sabotage else escalated(name, seed)
    its, cheap, dear = (errors(name, calls, seed) for calls in (ONE, CHEAP, DEAR))
    most = (cheap - dear).topk(round(SHARE * len(cheap))).indices
    best = paired.ratio(cheap.index_copy(0, most, dear[most]), its)
    beside: Beside = {
        "90 % quantile, ratio": ninth_decile(mine, its),
        "with the tenth that gains most, in hindsight": best,
    }
    return Measured(paired.ratio(mine, its), beside)


def against_chance(name: str, seed: int, sabotage: bool) -> Measured:
    """RMSE over that of a random tenth. Sabotage: another random tenth."""
    mine = by_chance(name, seed, 1) if sabotage else escalated(name, seed)
    return Measured(paired.ratio(mine, by_chance(name, seed, 0)))


for model_name, called in (("dit-digits", "dit-digits"), ("mixture", "a mixture of eight Gaussians in 16 dimensions")):
    claim(
        f"escalation/against-one-plan-{model_name}",
        statement=f"On {called}, {CHEAP} calls for all samples and {DEAR} more for the tenth of largest doubt have a lower error "
        f"than {ONE} calls for all (ratio of paired RMSE).",
        baseline=f"the same solver and grid with {ONE} calls for every sample, which cost as much; same noise",
        below=1.0,
        tier="full",
    )(partial(against_one_plan, model_name))
    claim(
        f"escalation/against-chance-{model_name}",
        statement=f"On {called} the tenth of largest doubt is worth more to run again than a random one (ratio of paired RMSE).",
        baseline="a tenth drawn at random, same plans and noise",
        below=1.0,
        tier="full",
    )(partial(against_chance, model_name))
