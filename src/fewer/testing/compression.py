"""Promises of the parts that make a network lighter: scores, allocators and recoveries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache

import torch

from fewer.compression import Allocator, Recovery, Score
from fewer.compression.calibration import Calibration
from fewer.compression.costs import Costs, counted_costs
from fewer.compression.cut import cut
from fewer.compression.masks import MaskLearner
from fewer.compression.scores.magnitude import Magnitude
from fewer.compression.subject import Subject
from fewer.compression.units import WIDTHS, Kind, find_units
from fewer.errors import InputError
from fewer.evaluate.cost.price import call_macs
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.testing import demand
from fewer.testing.models import transformer, unet

SHARE = 0.6  # of the multiply-adds that may stay


def check_score(score: Score) -> None:
    """Each unit of a group has an importance of at least 0, the same each time; the network is left as it was.

    Of widths of a transformer and of a UNet, and of single weights, it may refuse some with InputError.
    """
    _check_where_taken(score, lambda whole: _check_importance(score, replace(whole, groups=whole.groups[:2])))


def _check_where_taken(
    part: object, check: Callable[[Subject], None], subjects: Sequence[Subject] | None = None
) -> None:
    """Check a part on every subject that it does not refuse with InputError; it may not refuse all."""
    refused, every = [], with_weights() if subjects is None else subjects
    for subject in every:
        try:
            check(subject)
        except InputError as error:
            refused.append(str(error))
    demand(len(refused) < len(every), f"{part} refuses all networks: {'; '.join(refused)}")


def _check_importance(score: Score, subject: Subject) -> None:
    before = {name: weight.clone() for name, weight in subject.network.state_dict().items()}
    rated, again = score.rate(subject), score.rate(subject)
    demand(rated.keys() == {g.name for g in subject.groups}, f"{score} rates other groups than there are")
    for group in subject.groups:
        own = rated[group.name]
        demand(own.shape == (group.size,), f"{score} gives {tuple(own.shape)} for {group.size} units")
        demand(bool((own.isfinite() & (own >= 0)).all()), f"{score} gives importances below 0, or none")
        demand(torch.equal(own, again[group.name]), f"{score} rates the same units differently the second time")
    same = all(torch.equal(weight, before[name]) for name, weight in subject.network.state_dict().items())
    demand(same, f"{score} changes the network that it rates")
    demand(not any(p.requires_grad for p in subject.network.parameters()), f"{score} leaves gradients on")


def check_mask_learner(learner: MaskLearner) -> None:
    """As a score, of units within a budget; what it trains are weights of the network, and it leaves the network itself as it was.

    Of widths of a transformer and of a UNet, of whole blocks, and of single weights, it may refuse some with InputError.
    """
    every = [*with_weights(), subject_of(transformer(4), ("blocks",))]
    _check_where_taken(learner, lambda of: _check_learnt(learner, replace(of, groups=of.groups[:2])), every)


def _check_learnt(learner: MaskLearner, subject: Subject) -> None:
    costs = costs_of(subject, 1.0)
    half = replace(costs, limit=(costs.whole + costs.least) / 2)
    before = {name: weight.clone() for name, weight in subject.network.state_dict().items()}
    state = torch.get_rng_state()
    learnt, again = (learner.learn(subject, half) for _ in range(2))
    demand(torch.equal(state, torch.get_rng_state()), f"{learner} draws from the generator of all")
    demand(learnt.importance.keys() == {g.name for g in subject.groups}, f"{learner} rates other groups than there are")
    for group in subject.groups:
        own = learnt.importance[group.name]
        demand(own.shape == (group.size,), f"{learner} gives {tuple(own.shape)} for {group.size} units")
        demand(bool((own.isfinite() & (own >= 0)).all()), f"{learner} gives importances below 0, or none")
        demand(torch.equal(own, again.importance[group.name]), f"{learner} learns other masks the second time")
    shapes = {name: p.shape for name, p in subject.network.named_parameters()}
    for name, weight in learnt.weights.items():
        demand(
            weight.shape == shapes.get(name),
            f"{learner} trains {name}, which the network has not, or has in other shapes",
        )
        demand(bool(weight.isfinite().all()), f"{learner} leaves {name} with numbers that are not finite")
    same = all(torch.equal(weight, before[name]) for name, weight in subject.network.state_dict().items())
    demand(same, f"{learner} changes the network that it was given")
    demand(not any(p.requires_grad for p in subject.network.parameters()), f"{learner} leaves gradients on")


def check_allocator(allocator: Allocator) -> None:
    """Numbers are of whole steps, between one and all, and what they cost is within the limit.

    Of widths of a transformer and of a UNet, and of single weights, it may refuse some with InputError.
    """
    _check_where_taken(allocator, lambda subject: _check_numbers(allocator, subject))


def _check_numbers(allocator: Allocator, subject: Subject) -> None:
    importance, costs = Magnitude().rate(subject), costs_of(subject, SHARE)
    kept = allocator.allocate(subject, importance, costs)
    for group in subject.groups:
        number = kept[group.name]
        fits = group.fewest <= number <= group.size and number % group.step == 0
        demand(fits, f"{allocator} keeps {number} of {group.size} units in steps of {group.step}")
    macs = costs.of(subject.groups, kept)
    if subject.groups[0].kind != "weights":
        units = {g.name: g.kept(importance[g.name], kept[g.name]) for g in subject.groups}
        macs = call_macs(subject.with_network(cut(subject.network, subject.groups, units)))
    demand(macs <= costs.limit + 0.5, f"{allocator} leaves {macs} multiply-adds where {costs.limit:g} may stay")


def check_recovery(recovery: Recovery) -> None:
    """Shapes stay, what is cut comes nearer to the full network, which is left as it was, and no gradients are left on.

    Of widths of a transformer and of a UNet, and of single weights, it may refuse some with InputError.
    """
    refused, every = [], with_weights()
    for subject in every:
        importance = Magnitude().rate(subject)
        kept = {g.name: g.kept(importance[g.name], max(1, g.size // g.step // 2) * g.step) for g in subject.groups}
        light = cut(subject.network, subject.groups, kept)
        before, shapes = subject.loss(light), [p.shape for p in light.parameters()]
        own = {name: weight.clone() for name, weight in subject.network.state_dict().items()}
        try:
            steps = recovery.recover(subject, light, kept)
        except InputError as error:
            refused.append(str(error))
            continue
        zeros = all(
            int(light.get_parameter(f"{g.module}.weight").count_nonzero()) <= len(kept[g.name])
            for g in subject.groups
            if g.kind == "weights"
        )
        demand(zeros, f"{recovery} gives weights back that were removed")
        demand(steps >= 0, f"{recovery} makes {steps} gradient steps")
        demand([p.shape for p in light.parameters()] == shapes, f"{recovery} changes shapes")
        demand(subject.loss(light) <= before, f"{recovery} leaves a loss of {subject.loss(light):g} of {before:g}")
        same = all(torch.equal(weight, own[name]) for name, weight in subject.network.state_dict().items())
        demand(same, f"{recovery} changes the full network")
        demand(not any(p.requires_grad for p in light.parameters()), f"{recovery} leaves gradients on")
    demand(len(refused) < len(every), f"{recovery} refuses all networks: {'; '.join(refused)}")


def costs_of(subject: Subject, share: float) -> Costs:
    """Multiply-adds, of which this share may stay."""
    whole = _macs(subject.model)
    return counted_costs(subject.groups, "multiply-adds", whole, share * whole)


@cache
def _macs(model: Model) -> float:
    return float(call_macs(model))


def with_weights() -> list[Subject]:
    """These widths, and the transformer's single weights."""
    return [*subjects(), subject_of(transformer(), ("weights",))]


def subjects() -> Iterator[Subject]:
    """Widths of a transformer and of a UNet."""
    yield from (subject_of(transformer(), WIDTHS), subject_of(unet(), WIDTHS))


@cache
def subject_of(model: Model, kinds: tuple[Kind, ...]) -> Subject:
    """A model with units of these kinds, and states of samples that are noise."""
    samples = unit_noise(1, range(16), model.shape)
    calibration = Calibration(model, samples, model.labels(16))
    return Subject(model, tuple(find_units(model, kinds)), calibration, batch=8, batches=2)
