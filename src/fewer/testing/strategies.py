"""Promises of search strategies."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from fewer.engine import sample
from fewer.models.model import Model
from fewer.noise import Stream, unit_noise
from fewer.plan.difference import differences
from fewer.samplers import standard
from fewer.search.objective import Objective
from fewer.search.space import Space
from fewer.search.strategy import Candidate, Strategy
from fewer.testing import demand, kept_by_a_file
from fewer.testing.models import counted, mixture

CALLS, NOISES, FINE = 3, 40, 24
BASES = (("dpmpp-2m", "logsnr"), ("ddim", "karras"))
Task = Callable[[], tuple[Objective, Space]]


def task(model: Model, guidance: float | None = None, noises: int = NOISES) -> Task:
    """What makes the same task each time: noises with their reference samples, and the plans of 3 rows around two bases."""
    noise, labels = unit_noise(0, Stream.SAMPLES.numbers(noises), model.shape), model.labels(noises)
    rows = 1 if guidance is None else 2
    reference = standard("dpmpp-2m", model, rows * FINE, "logsnr", guidance=guidance)
    target = sample(model, reference, noise=noise, labels=labels)
    bases = tuple(standard(solver, model, rows * CALLS, grid, guidance=guidance) for solver, grid in BASES)
    return lambda: (Objective(model, noise, labels, target), Space(model, bases, solver="dpmpp-2m"))


def check(strategy: Strategy, of: Task | None = None, candidates: int = 12, seed: int = 0) -> None:
    """The first candidates are the same each time and after an interruption, can be played, and are paid for."""
    of, name = of or task(mixture()), type(strategy).__name__
    before = list(islice(strategy.search(*of(), [], seed), candidates // 2))
    objective, space = of()
    with counted(space.model, *space.model.others) as calls:
        whole = list(islice(strategy.search(objective, space, [], seed), candidates))
    demand(bool(whole), f"{name} makes no candidate")
    made = sum(n for n in calls if n > 1)  # multiply-adds are counted on a single sample
    said = objective.evaluations
    demand(made <= said <= 3 * made, f"{name} makes {made} evaluations and counts {said}; a derivative counts as two")
    demand(len(whole) <= strategy.candidates, f"{name} makes more than its {strategy.candidates} candidates")
    _demand_same(name, before, whole[: len(before)], "the second time")
    half = len(whole) // 2  # the others are made a second time from here on
    resumed = list(islice(strategy.search(*of(), whole[:half], seed), len(whole) - half))
    _demand_same(name, whole[half:], resumed, f"when it goes on after {half}")
    for candidate in whole:
        candidate.plan.check(tuple(space.model.shape))
        demand(candidate.error >= 0, f"{name}: plan {candidate.plan.name!r} has an error of {candidate.error}")
    chosen = strategy.choose(whole)
    kept_by_a_file(chosen.plan)
    demand(any(not differences(chosen.plan, each.plan) for each in whole), f"{name} chooses what it has not made")


def _demand_same(name: str, one: list[Candidate], other: list[Candidate], when: str) -> None:
    plans = [[(repr(each.plan.rows), each.error) for each in found] for found in (one, other)]
    demand(plans[0] == plans[1], f"{name} makes other candidates {when}")
