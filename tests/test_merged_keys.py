"""Attentions whose keys are merged into their queries, and training on grids that begins and ends with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_light_folders import folder
from torch import nn

import fewer
from fewer.blocks.find import network_of
from fewer.cli.main import run
from fewer.compression.cut import cut
from fewer.compression.quantise.ofq import OFQ, Scales, coded, doubtful, on_grid
from fewer.compression.quantise.quantise import quantised
from fewer.compression.quantise.reste import ReSTE
from fewer.compression.quantise.states import states_of
from fewer.errors import InputError
from fewer.models.quantised.file import NAME, merged_names
from fewer.models.quantised.merged import can_merge, merge
from fewer.testing.models import transformer, unet


def attentions(network: nn.Module) -> list[str]:
    return [name for name, each in network.named_modules() if can_merge(each)]


@pytest.mark.parametrize("model", [unet(), transformer()], ids=["unet", "transformer"])
def test_merged_keys_change_no_output(model):
    network = cut(network_of(model), (), {})
    with torch.no_grad():
        for name in attentions(network):
            network.get_submodule(name).to_q.bias.normal_(generator=torch.Generator().manual_seed(0))
    whole = cut(network, (), {})
    merge(network, names := attentions(network))
    assert names
    assert not attentions(network)  # none can be merged twice
    kind = type(model.network)
    x, t, labels = torch.randn(3, *model.shape), torch.full((3,), 500.0), model.labels(3)
    before, after = (kind(each, model.empty_label is not None)(x, t, labels) for each in (whole, network))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_what_is_no_plain_attention_is_not_merged() -> None:
    network = cut(network_of(transformer()), (), {})
    name = attentions(network)[0]
    for other in ("nowhere", "transformer_blocks.0.ff"):
        with pytest.raises(InputError, match=other):
            merge(network, [other])
    network.get_submodule(name).norm_q = nn.LayerNorm(4)
    with pytest.raises(InputError, match="no attention whose keys can be merged"):
        merge(network, [name])


def test_grids_reach_to_twice_the_mean_size_and_gradients_go_through() -> None:
    w = torch.randn(5, 40, generator=torch.Generator().manual_seed(0), requires_grad=True)
    reach = Scales()("w", w)
    for bits in (1, 2, 4):
        values = on_grid(w, reach, bits)
        assert len(values[0].unique()) <= 2**bits
        torch.testing.assert_close(
            values.detach().abs().amax(1, keepdim=True), 2 * w.detach().abs().mean(1, keepdim=True)
        )
        inside = w.detach().abs() < reach
        assert float((values - w).detach()[inside].abs().max()) <= float(reach.max()) / (2**bits - 1) + 1e-6
        (slope,) = torch.autograd.grad(values.sum(), w)
        torch.testing.assert_close(slope, inside.float())
        torch.testing.assert_close(coded(w.detach(), reach, bits).weight, values.detach(), rtol=2e-3, atol=1e-3)


def test_weights_near_a_threshold_are_doubtful() -> None:
    """At two bits codes change at -2/3, 0 and 2/3 of the reach, and a step is 2/3 of it."""
    w = torch.tensor([[-1.0, -0.7, -0.6, -0.3, 0.05, 0.3, 0.66, 1.0]])
    found = doubtful(w, torch.ones(1, 1), 2, 0.1)
    assert found.tolist() == [[False, True, True, False, True, False, True, False]]


def test_settling_weights_move_only_where_they_are_in_doubt() -> None:
    """With a band of nothing no quantised weight moves; the others are trained."""
    model = transformer()
    states = states_of(model, 1, 2)
    kept = quantised(
        model,
        2,
        kind="half-step",
        rounding=OFQ(2, batch=4, settling=1.0, band=0.0, merged=False, samples=8),
        states=states,
    )
    own = dict(network_of(model).named_parameters())
    moved = dict(network_of(kept.model).named_parameters())
    for name, codes in kept.quantised.weights.items():
        w = own[name].detach().flatten(1)
        torch.testing.assert_close(codes.weight, coded(own[name].detach(), Scales()(name, w), 2).weight)
    assert any(not torch.equal(own[name], moved[name]) for name in kept.quantised.rest)


@pytest.mark.parametrize("rounding", [OFQ(1, batch=4), ReSTE(1, batch=4)], ids=["ofq", "reste"])
def test_training_on_grids_sees_the_data_that_are_given(rounding: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """And makes no samples of the model beside them; what comes out depends on them."""
    model = transformer()
    monkeypatch.setattr("fewer.compression.calibration.sample", None)
    first, second = (
        quantised(model, 1, kind="half-step", rounding=rounding, data=torch.full((16, *model.shape), value)).quantised
        for value in (-0.9, 0.9)
    )
    assert any(not torch.equal(first.rest[name], second.rest[name]) for name in first.rest)


@pytest.mark.parametrize("narrow", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["plain", "narrow"])
def test_the_command_writes_merged_keys_and_the_folder_comes_back(narrow: bool, tmp_path: Path) -> None:
    full = folder(tmp_path / "full", transformer())
    if narrow:
        made = fewer.compress(full, macs=0.8, tune_steps=0, noises=64, samples=8, batch=8, score="magnitude")
        full = made.save(tmp_path / "narrow")
    source = fewer.load(full)
    states = states_of(source, 1, 2)
    made = quantised(source, 2, kind="half-step", rounding=OFQ(1, batch=4, samples=8), states=states, inputs=8)
    out = made.save(tmp_path / "few", full)
    again = fewer.load(out)
    assert merged_names(out / "transformer" / NAME) == made.quantised.merged != ()
    x, labels = torch.randn(3, *source.shape), source.labels(3)
    torch.testing.assert_close(again(x, 500.0, labels), made.model(x, 500.0, labels))
    assert made.share * made.full == made.bits
    with pytest.raises(InputError, match="merged into its queries"):
        quantised(again, 4, states=states)
    with pytest.raises(InputError, match="merged into its queries"):
        fewer.compress(again, macs=0.8)


def test_merged_keys_of_narrow_heads_take_more_room_which_is_counted_and_a_size_refuses() -> None:
    network = cut(network_of(transformer()), (), {})
    for name in attentions(network):
        network.get_submodule(name).heads = 4
    model = replace(transformer(), network=type(transformer().network)(network, True))
    states = states_of(model, 1, 2)
    bits = [
        quantised(model, 4, kind="half-step", rounding=OFQ(1, batch=4, samples=8, merged=merged), states=states).bits
        for merged in (True, False)
    ]
    assert bits[0] > bits[1]
    with pytest.raises(InputError, match="ofq stores more than its formats say"):
        quantised(model, "mixed", size=0.14, kind="half-step", rounding=OFQ(1, batch=4, samples=8), states=states)
    with pytest.raises(InputError, match="half-step grids"):
        quantised(model, 4, rounding=OFQ(1), states=states)


@pytest.mark.parametrize(
    ("rounding", "kind"), [("reste", "half-step"), ("ofq", "half-step"), ("nearest", "asymmetric")]
)
def test_roundings_for_grids_of_another_kind_are_asked_for_by_name(
    rounding: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command takes the kind from the rounding; with one bit it is asymmetric otherwise."""

    def asked(*given: object, **named: object) -> None:
        raise InputError(f"asked for {named['kind']}")

    monkeypatch.setattr("fewer.compression.quantise.compress.quantised", asked)
    full = folder(tmp_path / "full", transformer())
    assert run(["compress", str(full), "--bits", "1", "--rounding", rounding, "--out", str(tmp_path / "few")]) == 2
    assert f"asked for {kind}" in capsys.readouterr().err
