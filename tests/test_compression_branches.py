"""Blocks that lose their whole branch, patterns of N:M, and repairs by gradient steps while weights go."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_light_folders import folder
from torch import nn

import fewer
from fewer.blocks.find import network_of
from fewer.compression.allocate.knapsack import Knapsack
from fewer.compression.allocate.pagcp import PAGCP, Bins
from fewer.compression.costs import counted_costs
from fewer.compression.cut import cut, narrowing
from fewer.compression.folder import write_network
from fewer.compression.recover.eva import EVA, spectra
from fewer.compression.recover.jackpots import LotteryJackpots, exchanged
from fewer.compression.recover.least_squares import LeastSquares
from fewer.compression.recover.sparse import AnnealedMasks, DecayedMasks, Layer, SoftShrinkage, tightened
from fewer.compression.scores.dimap import DIMAP
from fewer.compression.scores.ecodiff import EcoDiff, gates, opened
from fewer.compression.scores.magnitude import Magnitude
from fewer.compression.subject import with_network
from fewer.compression.units import WIDTHS, Group, find_patterns
from fewer.errors import InputError
from fewer.evaluate.cost.price import call_macs
from fewer.models.pipelines.narrow import Bare, bare_of, narrow_module
from fewer.testing.compression import costs_of, subject_of
from fewer.testing.models import transformer, unet


def without_all(model):
    subject = subject_of(model, WIDTHS)
    kept = {g.name: torch.arange(g.fewest) for g in subject.groups}
    return subject, kept, cut(subject.network, subject.groups, kept)


@pytest.mark.parametrize("model", [unet(), transformer()], ids=["unet", "transformer"])
def test_a_block_without_its_branch_is_one_whose_last_layer_gives_its_bias_alone(model):
    subject, _, light = without_all(model)
    assert all(g.fewest == 0 for g in subject.groups)
    silent = cut(subject.network, (), {})
    with torch.no_grad():
        for group in subject.groups:
            (span,) = (span for span in group.spans if span.dim == 1)
            silent.get_parameter(span.parameter).zero_()
    batch = subject.states[0]
    torch.testing.assert_close(subject.call(light, batch), subject.call(silent, batch))
    saved = sum(g.macs * g.size for g in subject.groups)
    assert call_macs(model) - call_macs(subject.with_network(light)) == saved


def test_a_layer_that_has_no_bias_and_is_given_zeros_stays_as_it_is():
    model = transformer()
    network = cut(network_of(model), (), {})
    attention = network.transformer_blocks[0].attn1
    for each in (attention.to_v.weight, attention.to_v.bias):
        nn.init.zeros_(each)
    attention.to_out[0].bias = None
    subject = subject_of(with_network(model, network), ("heads",))
    subject = replace(subject, groups=subject.groups[:1])
    kept = {subject.groups[0].name: torch.arange(1)}
    light = cut(network, subject.groups, kept)
    before = light.transformer_blocks[0].attn1.to_out[0].weight.clone()
    LeastSquares().recover(subject, light, kept)
    assert torch.equal(light.transformer_blocks[0].attn1.to_out[0].weight, before)


def test_a_block_that_halves_or_doubles_the_resolution_keeps_its_branch():
    from diffusers.models.resnet import ResnetBlock2D

    block = ResnetBlock2D(in_channels=8, out_channels=8, temb_channels=8, groups=4, down=True)
    with pytest.raises(InputError, match="no branch that can go"):
        bare_of(block)


@pytest.mark.usefixtures("short_evidence")
def test_folders_with_blocks_without_branches_come_back(tmp_path):
    model = transformer()
    source = fewer.load(folder(tmp_path / "full", model))
    least = 1.01 * call_macs(subject_of(model, WIDTHS).with_network(without_all(model)[2])) / call_macs(model)
    made = fewer.compress(source, macs=least, tune_steps=0, noises=64, samples=8, batch=16, score="magnitude")
    out = made.save(tmp_path / "light")
    part = out / "transformer"
    named = json.loads((part / "light.json").read_text())["bare"]
    again = fewer.load(out)
    assert named
    assert all(isinstance(network_of(again).get_submodule(name), Bare) for name in named)
    x = torch.randn(3, 1, 8, 8)
    torch.testing.assert_close(again(x, 500.0, again.labels(3)), made.model(x, 500.0, again.labels(3)))
    (part / "light.json").write_text(json.dumps({"version": 1, "heads": {}, "bare": ["nowhere"]}))
    with pytest.raises(InputError, match="no branch of 'nowhere'"):
        fewer.load(out)


def test_a_unet_without_branches_comes_back_from_its_files(tmp_path):
    subject, kept, light = without_all(unet())
    write_network(
        subject.with_network(light), tmp_path, torch.float32, narrowing(subject.groups, dict.fromkeys(kept, 0))
    )
    again, report = narrow_module(type(light), tmp_path)
    assert not any(report.values())
    batch = subject.states[0]
    torch.testing.assert_close(subject.call(again.eval(), batch), subject.call(light, batch))


def test_least_squares_makes_up_for_what_the_shortcut_is_off_by():
    """The last block's constant alone can undo a shift that an earlier layer has added to all positions of a channel."""
    subject = subject_of(unet(), WIDTHS)
    last = next(g for g in reversed(subject.groups) if g.kind == "channels")
    kept = {last.name: torch.arange(0)}
    light = cut(subject.network, [last], kept)
    block = light.get_submodule(last.module)
    plain = cut(light, (), {})
    with torch.no_grad():
        block.conv_shortcut.weight.mul_(0.5)  # what is beside the branch is wrong
    before = subject.loss(light)
    LeastSquares().recover(subject, light, kept)
    assert subject.loss(light) < before
    assert subject.loss(light) <= subject.loss(plain) * 1.001


@given(st.integers(1, 3), st.integers(0, 2**20))
@settings(max_examples=6, deadline=None)
def test_of_every_run_the_best_stay(n, seed):
    model = transformer()
    subject = replace(subject_of(model, ("weights",)), groups=tuple(find_patterns(model, n, 4)))
    torch.manual_seed(seed)
    rated = {g.name: torch.rand(g.size, dtype=torch.float64) for g in subject.groups}
    least = counted_costs(subject.groups, "weights", float(sum(g.size for g in subject.groups)), 0.0).least
    costs = counted_costs(subject.groups, "weights", float(sum(g.size for g in subject.groups)), least)
    numbers = Knapsack().allocate(subject, rated, costs)
    kept = {g.name: g.kept(rated[g.name], numbers[g.name]) for g in subject.groups}
    light = cut(subject.network, subject.groups, kept)
    for group in subject.groups:
        runs = light.get_parameter(f"{group.module}.weight").reshape(-1, 4)
        scores = rated[group.name].view(-1, 4)
        assert bool(((runs != 0).sum(1) <= n).all())
        assert torch.equal(scores.topk(n, 1).indices.sort(1).values, kept[group.name].view(-1, n) % 4)


@pytest.mark.usefixtures("short_evidence")
def test_patterns_by_the_command_and_those_that_there_are_not(tmp_path):
    source = fewer.load(folder(tmp_path / "full", transformer()))
    made = fewer.compress(source, units="2:4", tune_steps=1, noises=64, samples=8, batch=16, score="magnitude")
    assert all(2 * some == all_ for some, all_ in made.kept.values())
    for wrong in ("4:4", "0:4", "2:65", "a:4", "2:"):
        with pytest.raises(InputError, match=r"expected N:M with 0 < N < M"):
            fewer.compress(source, units=wrong)
    with pytest.raises(InputError, match="no layers whose rows are whole runs of 63 weights"):
        fewer.compress(source, units="2:63")


STEPS = 12
GRADUAL = [
    AnnealedMasks(STEPS, 8), SoftShrinkage(STEPS, 8), DecayedMasks(STEPS, 8), DecayedMasks(STEPS, 8, decay="structure"),
]  # fmt: skip


@pytest.mark.parametrize("recovery", GRADUAL, ids=lambda each: f"{type(each).__name__}-{getattr(each, 'decay', '')}")
def test_patterns_stay_patterns_while_weights_go(recovery):
    model = transformer()
    subject = replace(subject_of(model, ("weights",)), groups=tuple(find_patterns(model, 2, 4)))
    importance = Magnitude().rate(subject)
    kept = {g.name: g.kept(importance[g.name], g.fewest) for g in subject.groups}
    light = cut(subject.network, subject.groups, kept)
    before = subject.loss(light)
    assert recovery.recover(subject, light, kept) == STEPS
    assert subject.loss(light) < before
    for group in subject.groups:
        runs = light.get_parameter(f"{group.module}.weight").reshape(-1, 4)
        assert bool(((runs != 0).sum(1) <= 2).all())
        if isinstance(recovery, AnnealedMasks):  # its subnetwork is the one that was cut
            gone = torch.ones(group.size, dtype=torch.bool)
            gone[kept[group.name]] = False
            assert not bool(runs.flatten()[gone].any())


def test_learned_masks_leave_weights_as_they_are_and_exchange_the_best_pairs():
    group = Group("weights", "layer", (), 8, 1, 1, parts=2, step=2, least=4)
    mask = torch.tensor([1, 1, 0, 0, 1, 1, 0, 0], dtype=torch.bool)
    scores = torch.tensor([0.0, 0.9, 0.5, 0.1, 0.3, 0.4, 0.9, 0.8])
    layer = Layer(
        group, mask.nonzero().flatten()
    )  # the first run asks for one exchange (0.5), the second for two (0.5, 0.5)
    whole = exchanged(mask, scores, layer, 1.0)
    assert whole.tolist() == [False, True, True, False, False, False, True, True]
    one = exchanged(mask, scores, layer, 0.1)
    assert int((one != mask).sum()) == 2
    assert one.view(2, 4).sum(1).tolist() == [2, 2]
    model = transformer()
    subject = replace(subject_of(model, ("weights",)), groups=tuple(find_patterns(model, 2, 4)))
    kept = {g.name: g.kept(rating, g.fewest) for g in subject.groups for rating in [Magnitude().rate(subject)[g.name]]}
    light = cut(subject.network, subject.groups, kept)
    before = subject.loss(light)
    assert LotteryJackpots(4, 8).recover(subject, light, kept) == 4
    for name, weight in light.named_parameters():
        assert bool(((weight == 0) | (weight == subject.network.get_parameter(name))).all())
    for group in subject.groups:
        assert bool(((light.get_parameter(f"{group.module}.weight").reshape(-1, 4) != 0).sum(1) <= 2).all())
    assert subject.loss(light) <= before


def test_gradual_repairs_are_for_single_weights():
    subject, kept, light = without_all(transformer())
    with pytest.raises(InputError, match="soft-shrinkage is for single weights"):
        SoftShrinkage(STEPS, 8).recover(subject, light, kept)


def test_patterns_tighten_by_one_entry_at_a_time():
    group = Group("weights", "layer", (), 80, 1, 1, parts=10, step=60, least=20)
    stages = [tightened(group, 20, s / 12) for s in range(13)]
    assert stages[0] == 70
    assert stages[-1] == 20
    assert sorted(set(stages), reverse=True) == [70, 60, 50, 40, 30, 20]


def test_roles_are_ranked_as_by_magnitude_and_each_adds_up_alike():
    """Within a role the order is that of magnitudes over all layers; its largest weight has the score 1."""
    subject = subject_of(transformer(), ("weights",))
    rated, squares = DIMAP().rate(subject), Magnitude().rate(subject)
    projections = [g.name for g in subject.groups if g.module.endswith("to_out.0")]
    assert len(projections) == 2
    own, sizes = (torch.cat([each[name] for name in projections]) for each in (rated, squares))
    assert torch.equal(own.argsort(stable=True), sizes.argsort(stable=True))
    assert float(own.max()) == 1
    assert sum(float(each.max()) == 1 for each in rated.values()) <= 4


def test_no_quarter_of_the_levels_loses_more_than_the_tolerance(monkeypatch):
    """The first step that all bins bear is taken; one that any bin does not bear is left."""
    subject = subject_of(transformer(), WIDTHS)
    importance = Magnitude().rate(subject)
    rises = []
    losses = Bins.losses

    def seen(self, *given):
        rises.append(losses(self, *given))
        return rises[-1]

    monkeypatch.setattr(Bins, "losses", seen)
    costs = costs_of(subject, 0.8)
    kept = PAGCP(bins=2).allocate(subject, importance, costs)
    assert costs.of(subject.groups, kept) <= costs.limit
    units = {g.name: g.kept(importance[g.name], kept[g.name]) for g in subject.groups}
    last = cut(subject.network, subject.groups, units)
    batch = subject.states[0]
    with torch.no_grad():
        off = (subject.call(last, batch) - batch.target).flatten(1).double().square().mean(1)
    low = batch.t.argsort(stable=True).chunk(2)
    mine = [float(off[which].mean() / batch.target[which].double().square().mean()) for which in low]
    torch.testing.assert_close(rises[-1], torch.tensor(mine, dtype=torch.float64), rtol=1e-4, atol=1e-8)
    with pytest.raises(InputError, match="too many of single weights"):
        PAGCP().allocate(subject_of(transformer(), ("weights",)), {}, costs)


def test_directions_are_those_of_the_singular_values():
    subject = subject_of(transformer(), WIDTHS)
    values, vectors = spectra(subject, subject.network, 1)["transformer_blocks.0.ff.net.2"]
    seen = []
    layer = subject.network.get_submodule("transformer_blocks.0.ff.net.2")
    hook = layer.register_forward_pre_hook(lambda module, args: seen.append(args[0].flatten(0, -2)))
    with torch.no_grad():
        subject.call(subject.network, subject.states[0])
    hook.remove()
    singular = torch.linalg.svdvals(seen[0].double())
    torch.testing.assert_close(values[: len(singular)], singular.square(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(vectors @ vectors.T, torch.eye(len(vectors)), rtol=1e-4, atol=1e-4)
    found = EVA(rank=4).directions(subject, subject.network)
    assert max(len(each) for each in found.values()) <= 8
    assert sum(len(each) for each in found.values()) <= 4 * len(spectra(subject, subject.network, 1))


@given(st.floats(-3, 3), st.integers(0, 2**20))
@settings(max_examples=10, deadline=None)
def test_gates_are_open_as_often_as_their_probability_says(level, seed):
    levels = torch.full((20_000,), level)
    drawn = gates(levels, torch.Generator().manual_seed(seed))
    assert 0 <= float(drawn.min()) <= float(drawn.max()) <= 1
    assert float((drawn > 0).double().mean()) == pytest.approx(float(opened(torch.tensor(level))), abs=0.02)


def test_gates_close_on_what_changes_no_sample():
    """A head whose projection is zero is rated below all others, by the end of the trajectory alone."""
    model = transformer()
    subject = subject_of(model, ("heads",))
    network = cut(subject.network, (), {})
    group = subject.groups[0]
    (span,) = (span for span in group.spans if span.dim == 1)
    with torch.no_grad():
        network.get_parameter(span.parameter)[:, span.index[0]] = 0
    own = replace(model, network=type(model.network)(network, True))
    rated = EcoDiff(steps=8, batch=4, calls=2, sparsity=0.02).rate(subject_of.__wrapped__(own, ("heads",)))
    assert float(rated[group.name][0]) == min(float(each.min()) for each in rated.values())
    with pytest.raises(InputError, match="ecodiff is for channels"):
        EcoDiff(steps=1).rate(subject_of(model, ("weights",)))


def test_a_bare_block_adds_its_constant():
    bias = torch.randn(4)
    x, tokens = torch.randn(2, 4, 3, 3), torch.randn(2, 9, 4)
    torch.testing.assert_close(Bare(None, bias, True, 2.0)(x), (x + bias.view(-1, 1, 1)) / 2)
    torch.testing.assert_close(Bare(None, bias, False, 1.0)(tokens), bias.expand(2, 9, 4))
    conv = nn.Conv2d(4, 4, 1)
    torch.testing.assert_close(Bare(conv, bias, True, 1.0)(x), conv(x) + bias.view(-1, 1, 1))
