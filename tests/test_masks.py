"""Masks that are learnt: gates are what a cut does, plans are those of transport, and budgets are met exactly."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import fewer
from fewer.compression.asked import recoveries
from fewer.compression.cut import cut
from fewer.compression.gated import Gated
from fewer.compression.masks.budget import Budget, shift
from fewer.compression.masks.gumbel import GumbelSubnetworks, Topologies, scaled_layer
from fewer.compression.masks.polarised import Agreeing, PolarisedGates
from fewer.compression.masks.transport import Plans, Transport
from fewer.compression.recover.distillation import Distillation
from fewer.compression.subject import Subject
from fewer.errors import InputError
from fewer.testing.compression import costs_of, subject_of
from fewer.testing.models import transformer, unet


def of(*kinds: str) -> Subject:
    return subject_of(transformer(4) if "blocks" in kinds else transformer(), kinds)


def budget_of(subject: Subject, share: float = 0.5) -> Budget:
    """This share of what can be saved is saved."""
    costs = costs_of(subject, 1.0)
    return Budget(subject.groups, replace(costs, limit=costs.whole - share * (costs.whole - costs.least)))


@pytest.mark.parametrize("kind", ["heads", "width", "blocks", "weights"])
def test_closed_gates_are_a_cut(kind):
    subject = of(kind)
    kept = {g.name: torch.arange(0, g.size, 2) for g in subject.groups}
    gates = {g.name: (torch.arange(g.size) % 2 == 0).float() for g in subject.groups}
    batch = subject.states[0]
    light = cut(subject.network, subject.groups, kept)
    torch.testing.assert_close(
        subject.call(Gated(subject.network, subject.groups, gates), batch), subject.call(light, batch)
    )


@pytest.mark.parametrize("model", [unet(), transformer()], ids=["unet", "transformer"])
def test_each_sample_has_its_own_gates(model):
    subject = subject_of(model, ("channels", "heads", "width"))
    batch, n = subject.states[0], len(subject.states[0].x)
    first, second = ({g.name: torch.rand(g.size) for g in subject.groups} for _ in range(2))
    mixed = {name: torch.stack([first[name] if i % 2 else second[name] for i in range(n)]) for name in first}
    called = [subject.call(Gated(subject.network, subject.groups, each), batch) for each in (first, second, mixed)]
    odd = (torch.arange(n) % 2 == 1).view(-1, 1, 1, 1)
    torch.testing.assert_close(called[2], torch.where(odd, called[0], called[1]))


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=12), st.floats(0.02, 0.98), st.integers(0, 2**20))
@settings(max_examples=25, deadline=None)
def test_masks_cost_what_may_stay_and_so_do_their_derivatives(levels: list[float], share: float, seed: int) -> None:
    level = torch.tensor(levels, dtype=torch.float64, requires_grad=True)
    prices = torch.rand(len(levels), dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) + 0.1
    mass = share * prices.sum()
    cost = (prices * torch.sigmoid(level - shift(level, prices, mass))).sum()
    assert float(cost.detach()) == pytest.approx(float(mass), rel=1e-9)
    (slope,) = torch.autograd.grad(cost, level)
    assert float(slope.abs().max()) < 1e-9  # it is that for all levels


def test_plans_are_those_of_transport_from_the_last_plan() -> None:
    """Against Sinkhorn's iterations: three proximal steps with changing scores."""
    subject = of("width")
    budget = budget_of(subject, 0.6)
    masks, softness = Plans(budget, 0.7), 0.7
    units = budget.prices / budget.prices.sum()
    places = torch.tensor([budget.mass, float(budget.prices.sum()) - budget.mass], dtype=torch.float64)
    places = places / places.sum()
    plan = units[:, None] * places[None]
    torch.manual_seed(0)
    for step in range(3):
        scores = torch.randn_like(budget.prices)
        masks.scores.data.copy_(scores)
        mine = torch.cat(list(masks(step / 3).values()))
        cost = torch.stack([(scores - 1).square(), scores.square()], 1)
        plan = sinkhorn(plan * torch.exp(-cost / softness), units, places)
        torch.testing.assert_close(mine, (plan[:, 0] / units).float(), rtol=1e-5, atol=1e-6)


def sinkhorn(kernel: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The plan diag(a) kernel diag(b) with these sums of its rows and columns."""
    b = torch.ones_like(columns)
    for _ in range(2000):
        a = rows / (kernel @ b)
        b = columns / (kernel.T @ a)
    return a[:, None] * kernel * b[None]


def test_equally_many_channels_of_each_part_of_a_norm_stay() -> None:
    subject = subject_of(unet(), ("channels",))
    budget = budget_of(subject)
    levels = torch.randn(len(budget.prices), dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3
    masks = budget.split(torch.sigmoid(budget.centred(levels)))
    assert float(budget.share(budget.joined(masks))) == pytest.approx(1.0)
    for group in subject.groups:
        of_parts = masks[group.name].view(group.parts, -1).sum(1)
        torch.testing.assert_close(of_parts, of_parts.mean().expand(group.parts))


def test_transport_keeps_what_the_outputs_need() -> None:
    """Of two neurons of which nothing reads one."""
    model = transformer()
    whole = subject_of(model, ("width",))
    subject = replace(whole, groups=whole.groups[:1])
    (group,) = subject.groups
    network = cut(whole.network, (), {})
    (span,) = (span for span in group.spans if span.dim == 1)
    idle = torch.arange(group.size) % 2 == 0
    with torch.no_grad():
        network.get_parameter(span.parameter)[:, span.index[idle].flatten()] = 0
    own = replace(subject, model=replace(model, network=type(model.network)(network, True)))
    own = replace(own, calibration=replace(own.calibration, model=own.model))
    costs = costs_of(own, 1.0)
    learner = Transport(steps=12, batch=16, lr=0.0)
    learnt = learner.learn(own, replace(costs, limit=costs.whole - group.macs * group.size / 2))
    assert not learnt.weights
    found = learnt.importance[group.name]
    assert float(found[~idle].mean()) > float(found[idle].mean()) + 0.2


def test_gates_that_agree_within_the_budget_are_not_punished() -> None:
    subject = of("heads", "width")
    masks = Agreeing(subject, budget_of(subject), 1.0, 1.0)
    shut, cost = torch.zeros(len(masks.budget.prices), dtype=torch.bool), 0.0
    for unit in masks.budget.prices.argsort(descending=True).tolist():
        if cost + float(masks.budget.prices[unit]) <= masks.budget.mass:
            cost += float(masks.budget.prices[unit])
        else:
            shut[unit] = True
    with torch.no_grad():
        for gate, closed in zip(masks.gates, masks.budget.split(shut).values(), strict=True):
            gate.weight.zero_()
            gate.bias.copy_(torch.where(closed, -3.0, 3.0))
    subject.call(Gated(subject.network, subject.groups, masks(0.0)), subject.states[0])
    off = (cost / masks.budget.mass - 1) ** 2
    assert float(masks.penalty().detach()) == pytest.approx(off, abs=1e-6)
    with torch.no_grad():
        masks.gates[0].drawn = masks.gates[0].drawn.clone()
        masks.gates[0].drawn[: len(masks.gates[0].drawn) // 2] = 0
    assert float(masks.penalty().detach()) > off + 1e-3


def test_topologies_have_units_as_often_as_their_probability() -> None:
    subject = of("heads")
    budget, draws = budget_of(subject), 400
    masks = Topologies(budget, GumbelSubnetworks(), 3)
    with torch.no_grad():
        masks.levels.copy_(torch.linspace(-2, 2, len(masks.levels)))
        often = torch.stack([torch.cat(list(masks(0.5).values())) for _ in range(draws)]).mean(0)
    probability = budget.joined(masks.importance(subject, subject.network))
    error = (often - probability).abs() / (probability * (1 - probability) / draws).sqrt()
    assert float(error.max()) < 5


@pytest.mark.parametrize("kind", ["width", "weights"])
def test_scales_of_layers_go_into_their_weights(kind: str) -> None:
    subject = of(kind)
    masks = Topologies(budget_of(subject), GumbelSubnetworks(), 0)
    with torch.no_grad():
        masks.scales.copy_(torch.linspace(0.5, 2, len(masks.scales)))
    gates = {g.name: scale.detach().expand(g.size) for g, scale in zip(subject.groups, masks.scales, strict=True)}
    scaled, batch = cut(subject.network, (), {}), subject.states[0]
    with torch.no_grad():
        masks.scaled(scaled)
    gated = Gated(subject.network, subject.groups, gates)
    torch.testing.assert_close(subject.call(scaled, batch), subject.call(gated, batch))


def test_subnetworks_leave_weights_as_they_are_but_for_a_scale() -> None:
    subject = of("weights")
    learnt = GumbelSubnetworks(steps=2, batch=4).learn(subject, costs_of(subject, 0.7))
    assert learnt.steps == 2
    assert {name.removesuffix(".weight") for name in learnt.weights} <= {scaled_layer(g) for g in subject.groups}
    for name, weight in learnt.weights.items():
        own = subject.network.get_parameter(name)
        ratio = weight[own != 0] / own[own != 0]
        torch.testing.assert_close(ratio, ratio.flatten()[0].expand_as(ratio))


def test_kinds_that_a_method_is_not_for_are_refused() -> None:
    blocks, weights = of("blocks"), of("weights")
    with pytest.raises(InputError, match="widths or weights"):
        GumbelSubnetworks(steps=1).learn(blocks, costs_of(blocks, 0.7))
    with pytest.raises(InputError, match="too many of single weights"):
        PolarisedGates(steps=1).learn(weights, costs_of(weights, 0.7))


@pytest.mark.usefixtures("short_evidence")
def test_mask_learners_are_asked_for_as_scores_and_all_steps_are_counted() -> None:
    """Recoveries by name make the steps that are given."""
    made = fewer.compress(
        transformer(), macs=0.8, score=Transport(steps=2, batch=4), recovery=["distillation"], tune_steps=3, noises=64,
        samples=8, batch=8,
    )  # fmt: skip
    assert (made.choice["score"], made.choice["recovery"], made.steps) == ("transport", ["distillation"], 2 + 3)
    assert made.evidence.macs[1] <= 0.8 * made.evidence.macs[0]


def test_what_cannot_be_learnt_or_listed_is_refused() -> None:
    with pytest.raises(InputError, match="N:M"):
        fewer.compress(transformer(), units="2:4", score="transport", noises=64, samples=8)
    with pytest.raises(InputError, match="list of recoveries"):
        fewer.compress(transformer(), macs=0.8, recovery="distillation")


def test_steps_of_named_recoveries_reach_those_that_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of another package need be no dataclass; it has the settings that it makes itself."""

    class Plain:
        steps = 7

        def recover(self, subject: object, light: object, kept: object) -> int:
            return 0

    plain = Plain()
    monkeypatch.setattr(
        "fewer.compression.asked.resolve_as", lambda name, role: plain if name == "plain" else Distillation()
    )
    assert recoveries(["plain", "distillation"], 3, 4) == [plain, Distillation(3, 4)]
    assert plain.steps == 7
