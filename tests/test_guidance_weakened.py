"""Guidance by weakened layers or blurred queries: the weak pass, that the network stays as it was, costs, bad input."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_networks import a_plan, small_dit, small_unet, with_blocks
from torch import Tensor, nn

import fewer
from fewer.errors import InputError
from fewer.guidance import guide
from fewer.guidance.cfg import ClassifierFree
from fewer.guidance.pag import PerturbedAttention, SkipLayer, Weakened, layers
from fewer.guidance.seg import SmoothedEnergy, kernel
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Plan, Shortcut

RULES = [SkipLayer, PerturbedAttention, SmoothedEnergy]


@pytest.fixture(params=["dit", "unet"])
def model(request: pytest.FixtureRequest) -> Model:
    return small_dit() if request.param == "dit" else small_unet()


def network(model: Model) -> Any:
    return model.network.module  # type: ignore[attr-defined]


def played(model: Model, rule: Weakened | ClassifierFree | None, rows: int = 3) -> Tensor:
    plan = fewer.standard("dpmpp-2m", model, rows, "logsnr")
    return fewer.sample(model, plan if rule is None else guide(plan, rule), n=4)


@pytest.mark.parametrize("kind", RULES)
def test_scale_one_is_the_network_alone(model: Model, kind: type[Weakened]) -> None:
    torch.testing.assert_close(played(model, kind(1.0, (0,))), played(model, None), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", RULES)
@given(scale=st.floats(-2, 4))
@settings(max_examples=5, deadline=None)
def test_one_row_moves_along_the_difference_of_strong_and_weak(kind: type[Weakened], scale: float) -> None:
    """Affine in the scale: 1 gives the network, 0 the weakened one."""
    model = small_dit()
    one, zero, found = (played(model, kind(s, (1,)), rows=1) for s in (1.0, 0.0, scale))
    torch.testing.assert_close(found, zero + scale * (one - zero), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(one, zero, atol=1e-3)


def test_skipping_a_block_is_the_network_without_it() -> None:
    model = small_dit()
    less = copy.deepcopy(network(model))
    del less.transformer_blocks[1]
    shorter = replace(model, network=type(model.network)(less, True))  # type: ignore[call-arg]
    torch.testing.assert_close(played(model, SkipLayer(0.0, (1,)), 1), played(shorter, None, 1), rtol=1e-4, atol=1e-4)


def test_identity_maps_leave_values_as_they_are(model: Model) -> None:
    """With queries and keys that make every place attend to all alike, the weak pass still has V alone."""
    twin = copy.deepcopy(network(model))
    attention = layers(twin)[0]
    attention = getattr(attention, "attn1", attention)
    weak = PerturbedAttention(0.0, (0,))
    other = replace(model, network=type(model.network)(twin, model.classes is not None))  # type: ignore[call-arg]
    played(other, weak, rows=1)  # the first time it is seen whether the layer heeds masks
    seen: list[Tensor] = []
    handles = [
        attention.to_v.register_forward_hook(lambda module, args, out: seen.append(out)),
        attention.to_out[0].register_forward_pre_hook(lambda module, args: seen.append(args[0])),
    ]
    played(other, weak, rows=1)
    for handle in handles:
        handle.remove()
    values, mixed, own, maps = seen  # of the strong pass, then of the weak one
    assert not torch.allclose(values, mixed, atol=1e-4)
    torch.testing.assert_close(maps, own)


def test_queries_far_blurred_are_their_mean(model: Model) -> None:
    """What goes into the maps, and what diffusers' guider makes of it (the mean, for every finite sigma)."""
    from diffusers.hooks.smoothed_energy_guidance_utils import _gaussian_blur_2d

    twin = copy.deepcopy(network(model))
    attention = layers(twin)[0]
    attention = getattr(attention, "attn1", attention)
    seen: list[Tensor] = []
    handle = attention.to_q.register_forward_hook(lambda module, args, out: seen.append(out.clone()))
    other = replace(model, network=type(model.network)(twin, model.classes is not None))  # type: ignore[call-arg]
    played(other, SmoothedEnergy(0.0, (0,)), rows=1)
    handle.remove()
    strong, weak = seen
    torch.testing.assert_close(weak, strong.mean(1, keepdim=True).expand_as(strong), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(weak, _gaussian_blur_2d(strong.clone(), 7, 1.0, 9999.0), rtol=1e-3, atol=1e-4)


def test_without_blur_the_weak_pass_is_the_strong_one(model: Model) -> None:
    weak = played(model, SmoothedEnergy(0.0, (0,), blur=0.0))
    torch.testing.assert_close(weak, played(model, None), rtol=1e-5, atol=1e-5)


@given(st.integers(1, 9), st.floats(0.05, 1e6))
def test_a_blur_keeps_constants_and_lies_between_none_and_the_mean(side: int, blur: float) -> None:
    along = kernel(side, blur)
    torch.testing.assert_close(along.sum(1), torch.ones(side, dtype=torch.float64))
    assert (along.diagonal() >= along.max(1).values).all()
    torch.testing.assert_close(kernel(side, 1e8), torch.full_like(along, 1 / side))
    torch.testing.assert_close(kernel(side, 1e-3), torch.eye(side, dtype=torch.float64))


def test_queries_that_cannot_be_blurred_are_refused() -> None:
    model = small_dit()
    for blur in (-1.0, float("nan")):
        with pytest.raises(InputError, match="guidance blur"):
            SmoothedEnergy(2.0, (0,), blur=blur)
    rule = SmoothedEnergy(2.0, (0,))
    with (
        pytest.raises(InputError, match="places on a square grid; the layer has 6"),
        rule.weakened(layers(network(model))[0]),
    ):
        layers(network(model))[0].attn1.to_q(torch.zeros(1, 6, layers(network(model))[0].attn1.to_q.in_features))  # type: ignore[union-attr, operator]
    fused = copy.deepcopy(network(model))
    fused.transformer_blocks[0].attn1.fused_projections = True
    with pytest.raises(InputError, match="fused"):
        rule.weakened(layers(fused)[0])


@pytest.mark.parametrize("kind", RULES)
def test_the_network_is_as_it_was(model: Model, kind: type[Weakened]) -> None:
    before = {name: dict(module.__dict__) for name, module in network(model).named_modules()}
    plain = played(model, None)
    played(model, kind(2.0, (0,)))
    with pytest.raises(InputError, match="guidance layers has 99"):
        played(model, kind(2.0, (0, 99)))
    after = {name: dict(module.__dict__) for name, module in network(model).named_modules()}
    assert {n: d.keys() for n, d in before.items()} == {n: d.keys() for n, d in after.items()}
    assert torch.equal(played(model, None), plain)


def test_passes_are_counted_and_classifier_free_guidance_is_one_more(tmp_path: Path) -> None:
    model = small_dit()
    plan = fewer.standard("dpmpp-2m", model, 3, "logsnr")
    with_cfg = guide(plan, SkipLayer(2.0, (1,), 1.5))
    assert (guide(plan, SkipLayer(2.0, (1,))).nfe, with_cfg.nfe) == (6, 9)
    calls: list[int] = []
    handle = network(model).register_forward_hook(lambda module, args, out: calls.append(len(args[0])))
    fewer.sample(model, with_cfg, n=2)
    handle.remove()
    assert sum(calls) == 9 * 2
    alone = played(model, SkipLayer(1.0, (1,), 1.5))
    torch.testing.assert_close(alone, played(model, ClassifierFree(1.5)), rtol=1e-4, atol=1e-4)
    assert Plan.load(with_cfg.save(tmp_path / "plan.json")).rows == with_cfg.rows


def test_bad_input_is_one_line() -> None:
    model = small_dit()
    for given_layers in ((), (-1,), (1.5,), "ab", 2):
        with pytest.raises(InputError, match="guidance layers is"):
            SkipLayer(2.0, given_layers)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="guidance scale"):
        PerturbedAttention(float("nan"), (0,))
    mixture = fewer.GaussianMixture.random((3,), components=2, seed=0)
    exact = Model.from_mixture(mixture, model.schedule)
    with pytest.raises(InputError, match=r"skip-layer needs a DiT.*the network is a function"):
        played(exact, SkipLayer(2.0, (0,)))
    other = replace(model, network=nn.Identity(), classes=None, empty_label=None)
    with pytest.raises(InputError, match=r"perturbed-attention needs .* an? Identity"):
        guide(a_plan(1), PerturbedAttention(2.0, (0,))).rows[0].guidance.output(passes_of(other))  # type: ignore[union-attr]
    skipping = with_blocks(guide(a_plan(2), SkipLayer(2.0, (0,))), {1: {"block.1": Shortcut()}})
    with pytest.raises(InputError, match="must run all of their blocks"):
        fewer.sample(model, skipping, noise=unit_noise(0, range(2), model.shape))


def passes_of(model: Model) -> Any:
    """What a row has of a network that is a module of another kind."""
    from fewer.guidance.passes import Passes

    x = torch.zeros(1, *model.shape)
    other = replace(model, network=nn.Identity())
    return Passes(lambda x, t, labels: x, x, 0.5, x, 0.5, None, None, lambda f: f, model=other)
