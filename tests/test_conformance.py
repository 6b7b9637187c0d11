"""Every part of every role, as the register finds it, keeps what its role promises."""

from __future__ import annotations

import inspect
from dataclasses import replace
from functools import cache, partial
from typing import Any

import pytest
from small_networks import layers

from fewer.dynamic.early_exit import EarlyExit
from fewer.dynamic.escalation import Escalation
from fewer.dynamic.langevin import Langevin
from fewer.dynamic.negative_merging import NegativeMerging
from fewer.dynamic.predictor_corrector import PredictorCorrector
from fewer.errors import InputError
from fewer.evaluate.cost.price import call_macs
from fewer.models.quantised.grid import Format
from fewer.models.schedules import Flow, VarianceExploding, betas, discrete
from fewer.registry import PROCEDURE, ROLES, Part, parts
from fewer.samplers import standard, standard_plans
from fewer.search.limit import Limit
from fewer.testing import (
    blocks,
    compression,
    editing,
    grids,
    guidance,
    measurements,
    measures,
    models,
    posteriors,
    processes,
    quantise,
    solvers,
    strategies,
    uncertainty,
)

# values of settings without a default, by their names
SETTINGS = {
    "scale": 2.0, "quantile": 0.9, "layers": (1,), "label": (0.5,), "strength": 0.5, "rule": 2.0, "low": 0.1, "high": 1.0,
    "schedule": discrete(betas("linear")), "b": 0.5, "prox": lambda x, smoothing: x,
}  # fmt: skip


def of(*roles: str) -> Any:
    """The parts of some roles, as cases of a test."""
    assert set(roles) <= set(ROLES)
    found = [part for part in parts() if part.role in roles]
    return pytest.mark.parametrize("part", found, ids=[f"{part.room}/{part.name}" for part in found])


def made(part: Part) -> Any:
    """The part's object: a class with settings, or a function whose further settings are given."""
    given = inspect.signature(part.make).parameters.values()
    settings = {each.name: SETTINGS[each.name] for each in given if each.default is each.empty and each.name != "plan"}
    return part.make(**settings) if isinstance(part.make, type) else partial(part.make, **settings)


def test_every_role_has_a_suite():
    marks = [mark for test in list(globals().values()) for mark in getattr(test, "pytestmark", [])]
    tested = {part.role for mark in marks for part in mark.args[1] if isinstance(part, Part)}
    assert tested == set(ROLES)
    assert {part.role for part in parts()} == {*ROLES, PROCEDURE}


@of("solver")
def test_solvers(part):
    """All but their order, which test_solvers measures more sharply."""
    solvers.check(part.make(), order=False)


@of("measurement chooser")
def test_measurement_choosers(part):
    few = {"steps": 3, "learn": 12, "fix": 2, "fade": 3, "longest": 5} if part.name == "tadred" else {}
    measurements.check(part.make(**few))


@of("grid")
def test_grids(part):
    grids.check(part.make)


@of("guidance rule")
def test_guidance_rules(part):
    guidance.check(made(part))


@of("plan policy")
def test_plan_policies(part):
    guidance.check_policy(made(part), standard("ddim", models.transformer(), 6, "logsnr", guidance=2.0))


@of("block policy")
def test_block_policies(part):
    blocks.check(part.make())


# settings of parts that play or train a network again and again, for seconds
FEW: dict[str, dict[str, int]] = {
    "distillation": {"steps": 6, "batch": 8}, "end-distillation": {"steps": 6, "batch": 8},
    "distortion": {"points": 1}, "repaired-distortion": {"points": 1},
    "annealed-masks": {"steps": 10, "batch": 8}, "soft-shrinkage": {"steps": 10, "batch": 8},
    "decayed-masks": {"steps": 10, "batch": 8}, "lottery-jackpots": {"steps": 4, "batch": 8},
    "eva": {"steps": 6, "batch": 8}, "ecodiff": {"steps": 2, "batch": 4, "calls": 2}, "better-end": {},
}  # fmt: skip


@of("score")
def test_scores(part):
    compression.check_score(part.make(**FEW.get(part.name, {})))


@of("mask learner")
def test_mask_learners(part):
    compression.check_mask_learner(part.make(**FEW.get(part.name, {"steps": 2, "batch": 4})))


@of("allocator")
def test_allocators(part):
    compression.check_allocator(part.make(**FEW.get(part.name, {})))


@of("recovery")
def test_recoveries(part):
    compression.check_recovery(part.make(**FEW.get(part.name, {})))


@of("rounding")
def test_roundings(part):
    """In few steps, in a format that each takes."""
    steps = {"steps": 3} if "steps" in inspect.signature(part.make).parameters else {}
    kind = getattr(part.make, "kind", None)
    quantise.check(part.make(**steps), quantise.FOUR if kind is None else Format(1, kind))


@of("bit allocation")
def test_bit_allocations(part):
    quantise.check_allocation(part.make())


@of("uncertainty estimator")
def test_uncertainty_estimators(part):
    few = dict.fromkeys(inspect.signature(part.make).parameters, 4)
    uncertainty.check(part.make(**few))


@of("error predictor")
def test_error_predictors(part):
    steps = {"steps": 60} if "steps" in inspect.signature(part.make).parameters else {}
    uncertainty.check_predictor(part.make(**steps))


@of("distance")
def test_distances(part):
    measures.check(part.make)


@of("shares")
def test_shares(part):
    measures.check_shares(part.make)


@of("schedule")
def test_schedules_that_are_parts(part):
    processes.check_schedule(made(part))


@pytest.mark.parametrize("schedule", [discrete(betas("linear")), Flow(), VarianceExploding()])
def test_schedules(schedule):
    processes.check_schedule(schedule)


@of("sampler")
def test_samplers(part):
    model = models.transformer()
    cheap, dear = (standard("ddim", model, calls, "logsnr") for calls in (3, 5))
    fitted = {
        EarlyExit: lambda: EarlyExit.fitted(model, cheap, 0.9, noises=8),
        Escalation: lambda: Escalation.calibrated(model, cheap, dear, 0.5, noises=8),
        PredictorCorrector: lambda: PredictorCorrector(cheap, Langevin()),
        NegativeMerging: lambda: NegativeMerging(cheap, group=3),
    }
    processes.check(fitted[part.make](), model)


@of("corrector")
def test_correctors(part):
    processes.check_corrector(made(part))


@of("posterior sampler")
def test_posterior_samplers(part):
    posteriors.check(part.make())


@of("editor")
def test_editors(part):
    editing.check(part.make())


@cache
def tasks() -> dict[str, Any]:
    """What strategies search: steps, passes too, blocks too, and rows for another network."""
    network = layers()
    both = replace(network, others=(layers(1),))
    macs = 4.2 * call_macs(network)
    return {
        "steps": ({"plans": tuple(standard_plans(models.mixture(), 3)[:6])}, strategies.task(models.mixture(), noises=16)),
        "passes": ({}, strategies.task(network, 2.0, noises=8)),
        "blocks": ({"limit": Limit(network, "macs", macs)}, strategies.task(network, noises=8)),
        "networks": ({"limit": Limit(both, "macs", macs)}, strategies.task(both, noises=8)),
    }  # fmt: skip


@of("strategy")
def test_strategies(part):
    """On the first task that the strategy does not refuse."""
    takes, refused = inspect.signature(part.make).parameters, []
    for settings, task in tasks().values():
        strategy = part.make(**{name: value for name, value in settings.items() if name in takes})
        try:
            return strategies.check(strategy, task, candidates=4)
        except InputError as error:
            refused.append(str(error))
    pytest.fail("; ".join(refused))
