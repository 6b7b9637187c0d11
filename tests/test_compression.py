"""Lighter networks: what units cost, exact choices, and repairs that are exact where they can be."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_networks import of, small_unet
from torch import nn

import fewer
from fewer.blocks.find import network_of
from fewer.compression.allocate.erdos_renyi import ErdosRenyi
from fewer.compression.allocate.knapsack import Global, Knapsack, Uniform, removed
from fewer.compression.calibration import Calibration
from fewer.compression.clocked import allotted_within, clocked_costs
from fewer.compression.compress import lightened
from fewer.compression.costs import Costs, counted_costs
from fewer.compression.cut import cut
from fewer.compression.quantise.compress import compress_bits
from fewer.compression.recover.distillation import Distillation
from fewer.compression.recover.least_squares import LeastSquares, reader
from fewer.compression.scores.lamp import lamp
from fewer.compression.scores.m_fac import inverse_diagonal
from fewer.compression.scores.magnitude import Magnitude
from fewer.compression.scores.output_loss import OutputLoss
from fewer.compression.scores.taylor import Taylor
from fewer.compression.subject import Subject
from fewer.compression.units import WIDTHS, Group, find_units
from fewer.errors import InputError
from fewer.evaluate.cost.price import call_macs
from fewer.evaluate.statistics.interval import Interval
from fewer.testing.compression import costs_of, subject_of
from fewer.testing.models import transformer, unet


def halved(subject: Subject) -> dict[str, torch.Tensor]:
    importance = Magnitude().rate(subject)
    return {g.name: g.kept(importance[g.name], max(1, g.size // g.step // 2) * g.step) for g in subject.groups}


@pytest.mark.parametrize(
    ("model", "kinds"),
    [(transformer(), WIDTHS), (unet(), WIDTHS), (small_unet(resnet_time_scale_shift="scale_shift"), WIDTHS),
     (transformer(4), ("blocks",))],
    ids=["transformer", "unet", "scale-shift", "blocks"],
)  # fmt: skip
def test_units_cost_what_the_network_without_them_saves(model, kinds):
    subject = subject_of(model, kinds)
    kept = halved(subject)
    light = cut(subject.network, subject.groups, kept)
    gone = {g.name: g.size - len(kept[g.name]) for g in subject.groups}
    assert any(gone.values())
    saved = sum(g.macs * gone[g.name] for g in subject.groups)
    assert call_macs(model) - call_macs(subject.with_network(light)) == saved
    weights = sum(p.numel() for p in subject.network.parameters()) - sum(p.numel() for p in light.parameters())
    assert weights == sum(g.weights * gone[g.name] for g in subject.groups)
    assert np.isfinite(subject.loss(light))


@pytest.mark.parametrize("kind", ["heads", "width"])
def test_units_that_nothing_reads_can_go(kind):
    """A unit whose readers have weights of zero changes no output when it is cut."""
    model = transformer()
    subject = subject_of(model, (kind,))
    changed, kept = cut(subject.network, (), {}), {}
    for group in subject.groups:
        (span,) = (span for span in group.spans if span.dim == 1)
        with torch.no_grad():
            changed.get_submodule(span.layer).weight[:, span.index[: group.step].flatten()] = 0
        kept[group.name] = torch.arange(group.step, group.size)
    light = cut(changed, subject.groups, kept)
    batch = subject.states[0]
    torch.testing.assert_close(subject.call(light, batch), subject.call(changed, batch))


def test_blocks_that_do_nothing_can_go_and_the_configuration_says_how_many_are_left():
    model = transformer(4)
    subject = subject_of(model, ("blocks",))
    (group,) = subject.groups
    changed = cut(subject.network, (), {})
    for name in (f"{group.members[1]}.attn1.to_out.0", f"{group.members[1]}.ff.net.2"):
        layer = changed.get_submodule(name)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    light = cut(changed, [group], {group.name: torch.tensor([n for n in range(group.size) if n != 1])})
    batch = subject.states[0]
    torch.testing.assert_close(subject.call(light, batch), subject.call(changed, batch))
    assert light.config.num_layers == 3
    assert changed.config.num_layers == 4


def test_the_block_that_embeds_the_time_of_the_output_stays():
    """DiT's last layer takes its embedding of the time from the first block."""
    (group,) = find_units(transformer(4), ("blocks",))
    assert group.members == ("transformer_blocks.1", "transformer_blocks.2", "transformer_blocks.3")


def test_channels_that_are_twins_are_repaired_without_loss():
    """Of channels that are equal in pairs within each group of the norm, one of each is enough: least squares finds it."""
    model = unet()
    network = cut(network_of(model), (), {})
    group = next(g for g in find_units(model) if g.kind == "channels")
    each = group.size // group.parts
    twins = torch.arange(group.size).view(group.parts, each // 2, 2)
    with torch.no_grad():
        for span in group.spans:
            if span.dim == 0:
                values = getattr(network.get_submodule(span.layer), span.parameter.rpartition(".")[2])
                values[twins[..., 1].flatten()] = values[twins[..., 0].flatten()]
    own = replace(model, network=type(model.network)(network, False))
    subject = Subject(own, (group,), Calibration(own, torch.randn(16, 1, 8, 8), None), batch=16, batches=2)
    kept = {group.name: twins[..., 0].flatten()}
    light = cut(network, [group], kept)
    before = subject.loss(light)
    assert LeastSquares(ridge=1e-12).recover(subject, light, kept) == 0
    assert subject.loss(light) < 1e-8 * before


def test_no_other_weights_fit_better_than_least_squares():
    subject = subject_of(transformer(), ("width",))
    group, kept = subject.groups[0], halved(subject)
    light = cut(subject.network, [group], {group.name: kept[group.name]})
    only = replace(subject, groups=(group,))
    LeastSquares(ridge=0.0).recover(only, light, kept)
    name = reader(group)

    def error(network: nn.Module) -> float:
        from fewer.compression.subject import watched

        total = 0.0
        for batch in subject.states:
            with watched(subject.network, [name]) as full, watched(network, [name]) as own:
                subject.call(subject.network, batch)
                subject.call(network, batch)
            total += float((full[name] - own[name]).double().square().sum())
        return total

    least = error(light)
    for seed in range(4):
        other = cut(light, (), {})
        torch.manual_seed(seed)
        with torch.no_grad():
            weight = other.get_submodule(name).weight
            weight += 1e-2 * torch.randn_like(weight)
        assert error(other) > least


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=2, max_size=4), min_size=1, max_size=4),
    st.lists(st.integers(1, 9), min_size=4, max_size=4), st.floats(0.05, 0.95),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_the_knapsack_is_that_of_brute_force(importances, prices, share):
    """On whole costs, of which the budget is divided finely enough."""
    groups = [
        Group("width", f"g{n}", (), len(each), price, price)
        for n, (each, price) in enumerate(zip(importances, prices, strict=False))
    ]
    rated = {g.name: torch.tensor(each, dtype=torch.float64) for g, each in zip(groups, importances, strict=True)}
    whole = float(sum(g.size * g.macs for g in groups))
    least = sum(g.macs for g in groups)
    limit = least + np.floor(share * (whole - least))
    costs = counted_costs(groups, "multiply-adds", whole, limit)
    subject = Subject(transformer(), tuple(groups), Calibration(transformer(), torch.zeros(1, 1, 8, 8), None))
    kept = Knapsack().allocate(subject, rated, costs)
    assert costs.of(groups, kept) <= limit + 1e-9
    losses = {g.name: removed(g, rated[g.name]) for g in groups}
    every = itertools.product(*(range(g.steps + 1) for g in groups))
    best = min(
        sum(losses[g.name][n] for g, n in zip(groups, steps, strict=True))
        for steps in every
        if sum(costs.saved[g.name][n] for g, n in zip(groups, steps, strict=True)) >= whole - limit - 1e-9
    )
    found = sum(losses[g.name][g.size - kept[g.name]] for g in groups)
    assert found == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("allocator", [Knapsack(), Uniform(), Global()])
def test_budgets_that_cannot_be_kept_are_refused(allocator):
    subject = subject_of(unet(), WIDTHS)
    with pytest.raises(InputError, match=r"cannot be cut to 0\.01 of its multiply-adds"):
        allocator.allocate(subject, Magnitude().rate(subject), costs_of(subject, 0.01))


def test_no_step_can_be_taken_back_within_the_limit():
    """`uniform` and `global` stop as soon as the rest fits."""
    subject = subject_of(transformer(), WIDTHS)
    importance = Magnitude().rate(subject)
    costs = costs_of(subject, 0.7)
    kept = Global().allocate(subject, importance, costs)
    cut_groups = [g for g in subject.groups if kept[g.name] < g.size]
    assert any(costs.of(subject.groups, kept | {g.name: kept[g.name] + g.step}) > costs.limit for g in cut_groups)


def test_matrix_free_inverse_is_the_dense_one():
    torch.manual_seed(0)
    gradients = torch.randn(6, 40, dtype=torch.float64)
    fisher = gradients.T @ gradients / 6
    dense = torch.linalg.inv(0.1 * torch.eye(40, dtype=torch.float64) + fisher)
    torch.testing.assert_close(inverse_diagonal(gradients, 0.1), dense.diagonal())


def test_first_order_score_is_the_slope_along_the_unit():
    """The derivative of the loss by a scale on all weights of a unit, squared."""
    subject = subject_of(transformer(), ("heads",))
    few = replace(subject, batches=1)
    rated = Taylor(each=8).rate(few)
    group, batch, h = subject.groups[0], few.states[0], 1e-3
    for unit in range(group.size):
        losses = []
        for scale in (1 + h, 1 - h):
            moved = cut(subject.network, (), {})
            for span in group.spans:
                weight = moved.get_parameter(span.parameter)
                with torch.no_grad():
                    weight.index_copy_(
                        span.dim, span.index[unit], weight.index_select(span.dim, span.index[unit]) * scale
                    )
            losses.append(float((subject.call(moved, batch) - batch.truth).double().square().mean()))
        slope = (losses[0] - losses[1]) / (2 * h)
        assert float(rated[group.name][unit]) == pytest.approx(slope**2, rel=0.05, abs=1e-9)


def test_output_loss_is_that_of_the_network_without_the_unit():
    subject = subject_of(transformer(4), ("blocks",))
    (group,) = subject.groups
    rated = OutputLoss(batches=2).rate(subject)[group.name]
    light = cut(subject.network, [group], {group.name: torch.tensor([0, 2])})
    assert float(rated[1]) == pytest.approx(subject.loss(light))


def test_states_have_the_output_that_the_network_was_trained_to_give():
    """Of a network that predicts noise it is the noise: x = alpha D + sigma eps."""
    model = transformer()
    data = torch.randn(4, 1, 8, 8).clamp(-1, 1)
    calibration = Calibration(model, data, model.labels(4))
    batch = calibration.batch(64, 0)
    tau = model.schedule.tau(batch.t.double())
    alpha, sigma = ((part * model.schedule.scale(tau)).float().view(-1, 1, 1, 1) for part in (1 - tau, tau))
    clean = (batch.x - sigma * batch.truth) / alpha
    nearest = torch.cdist(clean.flatten(1).double(), data.flatten(1).double()).min(1).values
    assert float((nearest * alpha.flatten()).max()) < 1e-3


def test_distillation_lowers_the_loss_and_more_steps_lower_it_more():
    subject = subject_of(transformer(), WIDTHS)
    kept, losses = halved(subject), []
    for steps in (0, 4, 24):
        light = cut(subject.network, subject.groups, kept)
        if steps:
            assert Distillation(steps, batch=16, lr=1e-3).recover(subject, light, kept) == steps
        losses.append(subject.loss(light))
    assert losses[2] < losses[1] < losses[0]


def test_distillation_ends_where_its_loss_is_not_finite():
    subject = subject_of(transformer(), WIDTHS)
    light = cut(subject.network, subject.groups, kept := halved(subject))
    next(light.parameters()).data.fill_(math.nan)
    assert Distillation(steps=4, batch=8).recover(subject, light, kept) == 0


@pytest.mark.parametrize("harm", [10.0, math.nan])
def test_a_recovery_that_does_harm_is_taken_back(harm):
    """Farther outputs, and weights that are not finite."""

    class Harmful:
        def recover(self, subject, light, kept):
            with torch.no_grad():
                for parameter in light.parameters():
                    parameter.mul_(harm)
            return 3

    subject = subject_of(transformer(), WIDTHS)
    made = lightened(subject, Magnitude(), Knapsack(), [Harmful()], costs_of(subject, 0.8))
    assert made.steps == 3
    assert made.loss[0] == made.loss[1] < math.inf
    assert made.repairs == ()
    assert all(bool(parameter.isfinite().all()) for parameter in made.network.parameters())


def test_single_weights_become_zeros_that_stay_zeros():
    subject = subject_of(transformer(), ("weights",))
    importance = Magnitude().rate(subject)
    kept = {g.name: g.kept(importance[g.name], g.size // g.step // 2 * g.step) for g in subject.groups}
    light = cut(subject.network, subject.groups, kept)
    for recovery in (None, Distillation(3, batch=8)):
        if recovery is not None:
            recovery.recover(subject, light, kept)
        for group in subject.groups:
            weight, full = (n.get_parameter(f"{group.module}.weight").flatten() for n in (light, subject.network))
            assert weight.count_nonzero() <= len(kept[group.name])
            if recovery is None:
                gone = weight == 0
                assert bool((full[gone].abs().max() <= full[~gone].abs().min()).all())
                assert torch.equal(weight[~gone], full[~gone])


@given(st.lists(st.floats(0, 10), min_size=1, max_size=8))
@settings(max_examples=50, deadline=None)
@example([2e-311])
def test_lamp_is_the_share_of_what_is_left_when_a_weight_goes_next(squares):
    values = torch.tensor(squares, dtype=torch.float64)
    scores = lamp(values)
    left = list(range(len(values)))
    for n in values.sort(stable=True).indices.tolist():
        total = sum(float(values[k]) for k in left)
        assert float(scores[n]) == pytest.approx(float(values[n]) / total if total else 0.0)
        left.remove(n)
    assert scores.max() <= 1


@pytest.mark.parametrize("densities", ["er", "balanced"])
def test_random_masks_have_the_densities_of_random_graphs(densities):
    subject = subject_of(transformer(), ("weights",))
    whole = float(sum(g.size for g in subject.groups))
    costs = counted_costs(subject.groups, "weights", whole, 0.3 * whole)
    kept = ErdosRenyi(densities).allocate(subject, {}, costs)
    assert costs.of(subject.groups, kept) <= costs.limit
    partly = {g: kept[g.name] / g.size for g in subject.groups if g.step < kept[g.name] < g.size}
    shapes = {g: subject.network.get_parameter(f"{g.module}.weight").shape for g in partly}
    constants = [p * g.size / (sum(shapes[g]) if densities == "er" else 1) for g, p in partly.items()]
    steps = [g.step / (sum(shapes[g]) if densities == "er" else 1) for g in partly]
    assert max(constants) - min(constants) <= max(steps) + 1e-9


class Stand:
    """A clock whose network takes a tenth more than the sum of its parts says."""

    def __init__(self) -> None:
        self.asked: list[float] = []

    def __call__(self, subject: Subject, network: nn.Module) -> Interval:
        macs = call_macs(subject.with_network(network))
        self.asked.append(1.1 * macs)
        return Interval(1.1 * macs, macs, 1.2 * macs, 9)


def test_a_network_that_is_slower_than_its_parts_is_cut_again(monkeypatch):
    subject = subject_of(transformer(), WIDTHS)
    importance, costs = Magnitude().rate(subject), replace(costs_of(subject, 0.8), unit="milliseconds")
    clock = Stand()
    monkeypatch.setattr("fewer.compression.clocked.call_time", clock)
    numbers = allotted_within(subject, Knapsack(), importance, costs)
    assert len(clock.asked) > 1
    assert clock.asked[-1] <= costs.limit < clock.asked[0]
    kept = {g.name: g.kept(importance[g.name], numbers[g.name]) for g in subject.groups}
    assert 1.1 * call_macs(subject.with_network(cut(subject.network, subject.groups, kept))) <= costs.limit
    with pytest.raises(InputError, match=r"cannot be cut|give more milliseconds"):
        allotted_within(subject, Knapsack(), importance, replace(costs, limit=0.21 * costs.whole))


def test_clocked_costs_rise_with_the_units_that_go():
    subject = replace(subject_of(transformer(), WIDTHS), batch=4)
    costs = clocked_costs(subject, 1.0)
    assert costs.whole > 0
    for group in subject.groups:
        assert len(costs.saved[group.name]) == group.steps + 1
        assert costs.saved[group.name][0] == 0
        assert bool((np.diff(costs.saved[group.name]) >= 0).all())


def test_tied_weights_are_refused_by_name():
    model = transformer()
    network = cut(network_of(model), (), {})
    blocks = network.transformer_blocks
    blocks[1].ff.net[2].weight = blocks[0].ff.net[2].weight
    tied = replace(model, network=type(model.network)(network, True))
    with pytest.raises(
        InputError, match=r"transformer_blocks.0.ff.net.2.weight and transformer_blocks.1.ff.net.2.weight"
    ):
        find_units(tied)


def test_networks_without_units_are_refused():
    with pytest.raises(InputError, match="own has no channels, heads, width that can be pruned"):
        find_units(of(nn.Linear(4, 4), (2, 4, 4), lambda module, x, t: module(x)))


def test_features_need_data():
    with pytest.raises(InputError, match="data is missing"):
        fewer.compress(transformer(), macs=0.8, features="pixels")
    with pytest.raises(InputError, match="data is missing"):
        compress_bits(transformer(), 8, features="pixels")


def test_costs_say_what_is_left():
    groups = [Group("width", "a", (), 8, 5, 3, step=2), Group("width", "b", (), 4, 10, 2)]
    costs = counted_costs(groups, "multiply-adds", 100.0, 60.0)
    assert costs.of(groups, {"a: width": 4, "b: width": 2}) == 100 - 4 * 5 - 2 * 10
    assert isinstance(costs, Costs)
