"""Claims of fitted noise: what shares of fresh noise bring a tuned plan, and against the standard samplers that add noise.

Shares are fitted by the energy distance to data on one kind of features, and judged by a distance on another, on other noises. Two
kinds of beds: networks that err by a known amount, beside the exact one, on which noise has nothing to mend; and trained ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

from fewer import Model, Plan, load, sample, tune
from fewer.claims.beds import OVERLAPPING, Bed, scaled_linear
from fewer.claims.broken import KeepsTheWorst
from fewer.claims.claim import Measured, claim
from fewer.claims.guidance.cifar import features as cifar_features
from fewer.claims.guidance.cifar import to_data
from fewer.claims.search.beds import DISTANCES, against
from fewer.evaluate.by_figure import ByEnergy, ByFigure, ByFrechet, parts_left_out
from fewer.evaluate.criterion import Criterion
from fewer.evaluate.distances.energy import OfRows
from fewer.evaluate.evaluator import Evaluator
from fewer.evaluate.features import Pixels, read_features
from fewer.evaluate.own_pipeline import finite
from fewer.evaluate.reference import reference_plan
from fewer.evaluate.scoring import Scoring
from fewer.evaluate.statistics.interval import Interval
from fewer.evaluate.statistics.jackknife import pseudo_values, student
from fewer.models.bundled import digits_images
from fewer.models.flawed import Branch, FlawedMixture, Rough
from fewer.noise import Stream, unit_noise
from fewer.samplers import GRIDS_OF_NOISY, each_noisy_plan
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategies.fitted_noise import FittedNoise
from fewer.solvers.noise_share import noisy_rows, shares_of

ROUGH, SEEN, DRAWN = 0.6, 256, 2048
FINE, MANY = 32, 256  # calls of a fine solution, and samples of it
CHOOSING, KEPT = 128, 8  # noises that standard samplers are chosen on; of so many one is left after the first of them


@dataclass(frozen=True)
class Worst(KeepsTheWorst, FittedNoise):
    """Shares of noise that are fitted to be the worst."""


def fitted(strategy: FittedNoise, objective: Objective, plan: Plan, seed: int) -> Plan:
    """The plan with the shares that a strategy chooses for it."""
    space = Space(objective.model, (plan,))
    return strategy.choose(list(strategy.search(objective, space, [], seed))).plan


def seen(model: Model, by: Criterion, seed: int, n: int = SEEN) -> Objective:
    """Noises of a search, of a stream of their own, with those that rows draw."""
    numbers = Stream.CHOICE.numbers(n)
    noise = unit_noise(seed, numbers, model.shape)
    return Objective(
        model, noise, model.labels(n), torch.zeros_like(noise), batch=n, seed=seed, number=numbers[0], criterion=by
    )


def bed_of(size: float) -> Bed:
    """Three classes in the plane, and a network that errs by this share of its output, by a factor rough in the level."""
    branch = Branch(OVERLAPPING, Rough(size, seed=1))
    flawed = FlawedMixture(OVERLAPPING, branch, branch)
    return Bed(flawed, flawed.model(scaled_linear(), name=f"rough {size:g}"))


def on_bed(size: float, strategy: FittedNoise, seed: int) -> Measured:
    """DPM-Solver++ 2M of 8 calls with fitted noise against the same without."""
    on = bed_of(size)
    plan = on.plain("dpmpp-2m", 8)
    by = ByEnergy(Scoring(on.draws(seed + 1, DRAWN).float(), Pixels()))
    return against(on, fitted(strategy, seen(on.model, by, seed), plan, seed), plan, seed)


@claim(
    "fitted-noise/rough",
    statement="On a network that is rough in the level, fitted noise brings samples of 8 calls nearer to the data: "
    f"{DISTANCES}; beside, the same on the exact network, where noise has nothing to mend.",
    baseline=f"DPM-Solver++ 2M on the same 8 levels without noise; an output that errs by {ROUGH:.0%}, by a factor rough in the "
    f"level, three classes in the plane; shares fitted on {SEEN} other noises to other draws of the data",
    below=0.0,
)
def rough(seed: int, sabotage: bool) -> Measured:
    """The broken variant keeps the worst shares."""
    strategy = replace(Worst() if sabotage else FittedNoise(), candidates=40)
    return on_bed(ROUGH, strategy, seed).with_beside(
        {"exact network": on_bed(0.0, replace(strategy, candidates=20), seed).figure}
    )


class Bench(NamedTuple):
    """How plans of a trained network are searched and judged.

    spent   evaluations of the search of the deterministic plan
    trials  plans with noise that are tried
    seen    noises that they are tried on, and `fresh` those of the verdict
    first   noises after which one in `KEPT` of the standard samplers with noise is left to choose from
    search  what shares are fitted by, and `verdict` what plans are judged by, on features that the search has not seen
    """

    spent: int
    trials: int
    seen: int
    fresh: int
    first: int
    search: Callable[[str, int], ByFigure]
    verdict: Callable[[], tuple[ByFigure, ...]]
    says: str


class ToMoments(ByFrechet):
    """The Frechet distance to the moments of CIFAR's features that are bundled with its classifier."""

    def by_rows(self, evaluator: Evaluator, samples: Tensor) -> OfRows:
        """Of the classifier's features of the samples."""
        features = cifar_features(samples)
        return lambda rows: to_data(features[rows])


@cache
def digits() -> Tensor:
    """All images of handwritten digits, of which the networks have seen four fifths."""
    return torch.cat([digits_images(split)[0] for split in ("train", "test")])


def by_digits(name: str, seed: int) -> ByFigure:
    """The energy distance to the digits on the features of the bundled classifier."""
    return ByEnergy(Scoring(digits(), read_features("digits", digits())))


def on_pixels() -> tuple[ByFigure, ...]:
    """The energy distance to the digits in pixels, and the Frechet distance on 16 principal components of theirs."""
    return ByEnergy(Scoring(digits(), Pixels())), ByFrechet(Scoring(digits()))


def by_many_steps(name: str, seed: int) -> ByFigure:
    """The energy distance in pixels to samples of the model's own fine solution, from noises of their own."""
    model = load(name)
    noise = unit_noise(seed, Stream.CALIBRATION.numbers(MANY), model.shape)
    return ByEnergy(Scoring(sample(model, reference_plan(model, FINE), noise=noise, batch=64), Pixels()))


ON_DIGITS = Bench(
    16_000, 40, 256, 4096, 128, by_digits, on_pixels,
    "energy distances to the digits in pixels; shares fitted by that on the features of their classifier",
)  # fmt: skip
ON_CIFAR = Bench(
    8_000, 16, 128, 1024, 32, by_many_steps, lambda: (ToMoments(),),
    "Frechet distances to CIFAR-10 on the features of its classifier; shares fitted by the energy distance in pixels to samples of "
    f"{FINE} calls",
)  # fmt: skip
ON_DIT_DIGITS = ON_DIGITS._replace(fresh=8192)  # whose distances lie near each other
ON_CIFAR_DIT = ON_CIFAR._replace(fresh=4096)  # likewise
MORE = {("cifar16-dit", 5): 8192}  # fresh noises, by network and calls
BENCHES = {"digits": ON_DIGITS, "dit-digits": ON_DIT_DIGITS, "cifar16-unet": ON_CIFAR, "cifar16-dit": ON_CIFAR_DIT}


@cache
def tuned(name: str, calls: int, seed: int) -> Plan:
    """The best deterministic plan that a search of so many evaluations finds; the best standard one where it finds no better."""
    return tune(load(name), calls, seed=seed, evaluations=BENCHES[name].spent).plan


@cache
def with_fitted_noise(name: str, calls: int, seed: int, sabotage: bool) -> Plan:
    """That plan with the shares of noise that are the best on noises of their own; the broken variant takes the worst."""
    bench, strategy = BENCHES[name], Worst() if sabotage else FittedNoise()
    objective = seen(load(name), bench.search(name, seed), seed, bench.seen)
    return fitted(replace(strategy, candidates=bench.trials), objective, tuned(name, calls, seed), seed)


def fresh(name: str, calls: int) -> int:
    """Noises of the verdict on plans of so many calls."""
    return MORE.get((name, calls), BENCHES[name].fresh)


def judge(name: str, calls: int, seed: int) -> Evaluator:
    """Noises that no search has seen, with those that rows draw."""
    model, n = load(name), fresh(name, calls)
    noise = unit_noise(seed, Stream.HELD_OUT.numbers(n), model.shape)
    number = Stream.HELD_OUT.numbers(1)[0]
    return Evaluator(model, noise, model.labels(n), torch.zeros_like(noise), batch=64, seed=seed, number=number)


@cache
def best_stochastic(name: str, calls: int, seed: int) -> Plan:
    """The standard sampler with noise that is the best on other noises by the verdict's own figure."""
    model, bench = load(name), BENCHES[name]
    by, plans = bench.verdict()[0], list(each_noisy_plan(model, calls))
    tried = replace(seen(model, by, seed, CHOOSING), batch=64)

    def figure(plan: Plan, n: int) -> float:
        x = tried.first(n).unchecked(plan)
        return by.by_rows(tried.first(n), x)(torch.arange(n)) if finite(x) else inf

    if bench.first < CHOOSING:
        plans = sorted(plans, key=lambda plan: figure(plan, bench.first))[: -(-len(plans) // KEPT)]
    return min(plans, key=lambda plan: figure(plan, CHOOSING))


def less(by: ByFigure, on: Evaluator, mine: Tensor, its: Tensor, times: float = 1.0) -> Interval:
    """The figure of samples less so many times that of others from the same noises, with the jackknife's interval.

    The energy distance has no bias, and the Frechet distance is taken without its own.
    """
    one, other = by.by_rows(on, mine), by.by_rows(on, its)
    found = parts_left_out(on, lambda rows: one(rows) - times * other(rows), len(mine))
    return replace(student(pseudo_values(found)), n=len(mine))


def compared(name: str, mine: Plan, its: Plan, seed: int, times: float = 1.0) -> Measured:
    """The distance of a plan on the noises of the verdict less so many times that of another; beside, by the other distances."""
    on, bench = judge(name, mine.nfe, seed), BENCHES[name]
    first, *others = bench.verdict()
    x, y = on.samples(mine), on.samples(its)
    beside: dict[str, Interval | float] = {
        "distance": first.by_rows(on, x)(torch.arange(len(x))),
        "baseline's": first.by_rows(on, y)(torch.arange(len(y))),
    }
    beside |= {f"by {by.title}": less(by, on, x, y, times) for by in others}
    beside |= {f"share {n}": share for n, share in enumerate((shares_of(mine) or [])[: noisy_rows(mine)])}
    return Measured(less(first, on, x, y, times), beside)


def against_tuned(name: str, calls: int, seed: int, sabotage: bool) -> Measured:
    """Fitted noise less the plan without."""
    return compared(name, with_fitted_noise(name, calls, seed, sabotage), tuned(name, calls, seed), seed)


def against_standard(name: str, calls: int, seed: int, sabotage: bool) -> Measured:
    """Fitted noise less 0.8 of the best standard sampler with noise."""
    its = best_stochastic(name, calls, seed)
    return compared(name, with_fitted_noise(name, calls, seed, sabotage), its, seed, 0.8)


for name, calls in product(BENCHES, (5, 8)):
    bench = BENCHES[name]
    claim(
        f"fitted-noise/{name}-{calls}",
        statement=f"Of {name} at {calls} calls fitted noise brings samples of the tuned plan nearer to the data, or none is added: "
        f"difference of the {bench.says}.",
        baseline=f"the best deterministic plan of {calls} calls that {bench.spent:,} evaluations find, same "
        f"{fresh(name, calls)} noises",
        below=0.0,
        tier="full",
    )(partial(against_tuned, name, calls))
    claim(
        f"fitted-noise/{name}-{calls}-standard",
        statement=f"Of {name} at {calls} calls, a tuned plan with fitted noise has at most 0.8 of the distance of the best "
        f"standard sampler that adds noise: its distance less 0.8 of that, of the {bench.says}.",
        baseline=f"the best of all stochastic solvers on the grids {', '.join(GRIDS_OF_NOISY)}, chosen on {CHOOSING} other noises "
        "by the verdict's figure"
        + (f", from the best of {KEPT} on {bench.first} of them" if bench.first < CHOOSING else ""),
        below=0.0,
        tier="full",
    )(partial(against_standard, name, calls))
