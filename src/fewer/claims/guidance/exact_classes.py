"""What guidance does, where the class of a sample has a known probability and its true distribution is known."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from fewer import GaussianMixture, Model, Plan, sample, standard
from fewer.claims.claim import Measured, claim
from fewer.claims.exact import conditional, mixture_of
from fewer.claims.repeated import mean
from fewer.evaluate.distances.frechet import frechet
from fewer.evaluate.statistics.interval import Interval
from fewer.guidance import guide
from fewer.guidance.apg import ProjectedGuidance
from fewer.guidance.autoguidance import Autoguidance
from fewer.guidance.cfg import passes_at
from fewer.guidance.cfg_zero_star import ZeroStar
from fewer.guidance.mambo_g import MagnitudeAware
from fewer.guidance.policies.limited_interval import limited_interval
from fewer.guidance.tcfg import Tangential
from fewer.models.flawed import smoothed
from fewer.noise import unit_noise
from fewer.plan import Guidance

SAMPLES, SCALE = 1024, 2.0
STRONG, ROWS, EACH = 3.0, 30, 1024  # of the bias: scale, rows, samples of each class
OTHER_NOISE = 1000
BLUR, MORE_BLUR = 0.3, 0.6  # variance that a network, and its weaker version, add to every component


@cache
def classes() -> Model:
    """Three classes of three Gaussians each in the plane, which overlap."""
    exact = GaussianMixture.random((1, 1, 2), components=9, seed=0, classes=3)
    return conditional(exact)


def mixture() -> GaussianMixture:
    """Its distribution."""
    return mixture_of(classes()).to(dtype=torch.float64)


def surety(x: Tensor, labels: Tensor, of: GaussianMixture | None = None) -> Tensor:
    """Log p(label | x) - log p(label) of each sample, under a mixture in float64, the classes' own unless given."""
    exact = of or mixture()
    return exact.log_prob(x.double(), labels=labels) - exact.log_prob(x.double())


@claim(
    "cfg/class-probability",
    statement=f"A scale of {SCALE:g} makes samples whose class is surer than at scale 1: mean gain of log p(label | x).",
    baseline="the conditional model itself (scale 1), same noise; exact mixture of three classes that overlap",
    above=0.0,
)
def class_probability(seed: int, sabotage: bool) -> Measured:
    """The broken variant guides away from the label."""
    model = classes()
    noise, labels = unit_noise(seed, range(SAMPLES), model.shape), torch.arange(SAMPLES) % 3
    likely = []
    for scale in (2 - SCALE if sabotage else SCALE, 1.0):
        plan = standard("dpmpp-2m", model, 20 * passes_at(scale), "logsnr", guidance=scale)
        likely.append(surety(sample(model, plan, noise=noise, labels=labels), labels))
    return Measured(mean((likely[0] - likely[1]).tolist()))


def drawn(plan: Plan, seed: int, model: Model | None = None) -> Tensor:
    """Samples (classes EACH, ..), the classes in turn."""
    model = model or classes()
    n = EACH * (model.classes or 1)
    return sample(model, plan, noise=unit_noise(seed, range(n), model.shape), batch=EACH)


def bias(x: Tensor, seed: int, of: GaussianMixture | None = None, draws: int = 4 * EACH) -> Interval:
    """The squared Frechet distance of samples to draws of their class, averaged over classes."""
    exact = of or mixture()
    k = exact.classes or 1
    parts = []
    for label in range(k):
        truth, _ = exact.sample(draws, seed=7919 * seed + label, labels=torch.full((draws,), label))
        parts.append(frechet(x[label::k].flatten(1).double(), truth.flatten(1).double()))
    value = sum(part.value for part in parts) / k
    low = math.hypot(*(part.value - part.low for part in parts)) / k
    high = math.hypot(*(part.high - part.value for part in parts)) / k
    return Interval(value, value - low, value + high, len(x))


def gap(one: Interval, other: Interval) -> Interval:
    """One less the other, as if they were independent: same noise makes it narrower in truth."""
    value = one.value - other.value
    low = math.hypot(one.value - one.low, other.high - other.value)
    high = math.hypot(one.high - one.value, other.value - other.low)
    return Interval(value, value - low, value + high, one.n)


def less_bias(mine: Tensor, its: Tensor, seed: int) -> Measured:
    """Difference of the biases of samples from the same noise, with the mean surety of both."""
    labels = torch.arange(len(mine)) % 3
    sure, its_sure = (mean(surety(x, labels).tolist()) for x in (mine, its))
    return Measured(gap(bias(mine, seed), bias(its, seed)), {"surety": sure, "baseline's": its_sure})


def plain(solver: str = "dpmpp-2m") -> Plan:
    """The rows that rules play here."""
    return standard(solver, classes(), ROWS, "logsnr")


@claim(
    "cfg/bias",
    statement=f"Guidance of scale {STRONG:g} leaves the class's true distribution, which the conditional network alone has: "
    "squared Frechet distance to it, averaged over classes; beside, the same of other rules at this scale.",
    baseline="the truth, exact mixture of three classes that overlap",
    above=0.0,
)
def cfg_bias(seed: int, sabotage: bool) -> Measured:
    """The broken variant does not guide; above 0 its distance, which has no bias, need not be."""
    rules: dict[str, float | Guidance] = {
        "conditional network": 1.0, "apg": ProjectedGuidance(STRONG, 0.0, 1.0, -0.5), "zero-star": ZeroStar(STRONG),
        "tangential": Tangential(STRONG), "magnitude-aware": MagnitudeAware(STRONG),
    }  # fmt: skip
    beside = {name: bias(drawn(guide(plain(), rule), seed), seed) for name, rule in rules.items()}
    beside["limited-interval"] = bias(drawn(limited_interval(plain(), STRONG, 0.2, 0.6), seed), seed)
    return Measured(bias(drawn(guide(plain(), 1.0 if sabotage else STRONG), seed), seed), beside)


@claim(
    "limited-interval/bias",
    statement=f"Scale {STRONG:g} at levels 0.2 to 0.6 alone leaves the class's true distribution less than at all levels: "
    "difference of squared Frechet distances.",
    baseline="the same scale in all rows, same noise; exact mixture of three classes that overlap",
    below=0.0,
)
def interval_bias(seed: int, sabotage: bool) -> Measured:
    """The broken variant guides away from the label within the interval."""
    inside = limited_interval(plain(), -2 * STRONG if sabotage else STRONG, 0.2, 0.6)
    everywhere = guide(plain(), STRONG)
    measured = less_bias(drawn(inside, seed), drawn(everywhere, seed), seed)
    return measured.with_beside({"passes saved": float(everywhere.nfe - inside.nfe)})


def matched(plan: Plan, plain_plan: Plan, seed: int) -> float:
    """The constant scale whose samples are as sure of their class as the plan's, by halving."""
    labels = torch.arange(3 * EACH) % 3
    wanted = float(surety(drawn(plan, seed), labels).mean())
    low, high = 1.0, 12.0
    for _ in range(8):
        middle = (low + high) / 2
        sure = float(surety(drawn(guide(plain_plan, middle), seed), labels).mean())
        low, high = (middle, high) if sure < wanted else (low, middle)
    return (low + high) / 2


def blurred(variance: float) -> Model:
    """A network that saw the data through noise of this variance: every component is wider."""
    return Model.from_mixture(smoothed(mixture(), variance), classes().schedule, conditional=True)


@claim(
    "autoguidance/blurred",
    statement=f"A network whose distribution is too wide by a variance of {BLUR:g}, guided at scale {SCALE:g} by one too wide "
    f"by {MORE_BLUR:g}, is nearer to the class's true distribution: difference of squared Frechet distances.",
    baseline="the first network alone, same noise; exact mixture of three classes that overlap",
    below=0.0,
)
def autoguidance(seed: int, sabotage: bool) -> Measured:
    """The broken variant guides towards the weaker network."""
    model = replace(blurred(BLUR), weaker=blurred(MORE_BLUR))
    scale = 1.2
    mine = drawn(guide(plain(), Autoguidance(2 - SCALE if sabotage else SCALE)), seed, model)
    alone, weak = drawn(guide(plain(), 1.0), seed, model), drawn(guide(plain(), 1.0), seed, blurred(MORE_BLUR))
    gentle = drawn(guide(plain(), Autoguidance(scale)), seed, model)
    beside = {"alone": bias(alone, seed), "weaker alone": bias(weak, seed), f"at scale {scale:g}": bias(gentle, seed)}
    return Measured(gap(bias(mine, seed), bias(alone, seed)), beside)
