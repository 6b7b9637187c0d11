"""Promises of rules of guidance, and of policies that turn a plan into a plan."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from fewer.engine import sample
from fewer.guidance import PlanPolicy, guide
from fewer.guidance.passes import Passes
from fewer.models.model import Model
from fewer.noise import Stream, unit_noise
from fewer.plan import Guidance, Plan
from fewer.plan.difference import differences
from fewer.registry import name_of
from fewer.samplers import standard
from fewer.testing import demand, kept_by_a_file
from fewer.testing.models import classifier, counted, transformer

N, ROWS = 4, 3


def model() -> Model:
    """What any rule may ask for: classes, layers that can be reached, a weaker network and a classifier."""
    return replace(transformer(), weaker=transformer(seed=1), classifier=classifier())


def check(rule: Guidance) -> None:
    """All of the below."""
    check_parameters(rule)
    check_samples(rule)
    if "cfg" not in rule.parameters() and rule.conditions == ("label", "empty") and not rule.draws:
        check_equal_passes(rule)


def check_parameters(rule: Guidance) -> None:
    """The parameters that a file keeps make the same rule again."""
    again = type(rule)(**json.loads(json.dumps(rule.parameters())))
    demand(again.parameters() == rule.parameters(), f"{rule} has other parameters when it is made of its own")
    if name_of("guidance", rule) == rule.rule:
        kept_by_a_file(guide(standard("ddim", transformer(), ROWS, "logsnr"), rule))


def check_samples(rule: Guidance) -> None:
    """Samples are finite, each its own whatever the batch; passes are those made; noise is drawn where it is said."""
    plan, given = guide(standard("dpmpp-2m", transformer(), ROWS, "logsnr"), rule), model()
    assert given.weaker is not None
    noise = unit_noise(0, Stream.SAMPLES.numbers(N), given.shape)
    play = partial(sample, given, plan, noise=noise)
    with counted(given, given.weaker) as calls:
        found = play()
    made = sum(calls) / (N * ROWS)
    demand(made == rule.passes, f"{rule} says that a row takes {rule.passes} passes and makes {made:g}")
    demand(plan.nfe == ROWS * rule.passes, f"{rule}: a plan of {ROWS} rows counts {plan.nfe} evaluations")
    demand(found.dtype == torch.float32 and found.shape == noise.shape, f"{rule} gives {found.dtype} {found.shape}")
    demand(bool(found.isfinite().all()), f"{rule} gives samples that are not finite")
    demand(torch.equal(found, play()), f"{rule} gives other samples the second time")
    demand(torch.allclose(found, play(batch=1), atol=1e-3, rtol=1e-3), f"{rule}: a sample depends on its batch")
    differs = not torch.equal(found, play(seed=1))
    demand(differs == rule.draws, f"{rule} says draws = {rule.draws}; another seed of its noise says {differs}")
    with torch.enable_grad():
        demand(not play().requires_grad, f"{rule} leaves derivatives on its samples")


def check_equal_passes(rule: Guidance) -> None:
    """A rule that combines two passes leaves passes that agree as they are, where their data lie well within [-1, 1]."""
    data, x = 0.1 * unit_noise(1, range(N), (1, 8, 8)), unit_noise(2, range(N), (1, 8, 8))
    for tau in (0.2, 0.9):
        u = (x - data) / tau
        given = rule.output(
            Passes(partial(_same, u), x, tau, x, 0.0, torch.zeros(N, dtype=torch.int64), 1, lambda f: f)
        )
        demand(torch.allclose(given, u, atol=1e-4), f"{rule} changes passes that agree, at level {tau}")


def _same(u: Tensor, x: Tensor, t: object, labels: Tensor | None) -> Tensor:
    """A network whose passes agree."""
    return u.repeat(len(x) // len(u), 1, 1, 1)


def check_policy(policy: PlanPolicy, plan: Plan) -> None:
    """The new plan can be played and kept, is the same each time, and the given one is left as it was."""
    before = deepcopy(plan)
    made = policy(plan).check()
    demand(not differences(before, plan), "the policy changes the plan that it is given")
    demand(not differences(made, policy(plan)), "the policy makes two plans of one")
    kept_by_a_file(made)
    samples = sample(model(), made, N)
    demand(bool(samples.isfinite().all()), f"samples of {made.name!r} are not finite")
