"""Choice of noise by masked attention: the information that it is, whose logits, costs, bad input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from small_networks import small_dit, small_unet

import fewer
from fewer.dynamic.attention_uncertainty import _chosen, _logits, choose_noise, disagreement, enough_layers
from fewer.errors import InputError
from fewer.models.mixture import GaussianMixture
from fewer.models.model import Model
from fewer.models.schedules import Flow
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.testing.models import counted


@pytest.fixture(params=["dit", "unet"])
def model(request: pytest.FixtureRequest) -> Model:
    return small_dit() if request.param == "dit" else small_unet()


def plan(model: Model) -> Plan:
    return fewer.standard("ddim", model, 2, "logsnr")


def test_it_is_the_mutual_information_of_mask_and_place() -> None:
    """Masks that leave one place each, different ones, disagree by log 2; equal masks do not at all."""
    logits = torch.zeros(1, 1, 2, 2)
    one, other = torch.eye(2, dtype=torch.bool), ~torch.eye(2, dtype=torch.bool)
    assert float(disagreement(logits, torch.stack([one, other]))) == pytest.approx(math.log(2))
    assert float(disagreement(logits, torch.stack([one, one]))) == 0
    masks = torch.rand(5, 6, 6, generator=torch.Generator().manual_seed(0)) < 0.7
    masks |= torch.eye(6, dtype=torch.bool)
    found = disagreement(unit_noise(0, range(8), (2, 6, 6)), masks)
    assert bool((found >= 0).all())
    assert bool((found <= math.log(5)).all())


def test_the_logits_are_those_of_the_networks_attention(model: Model) -> None:
    """softmax of them times the values, through the layer's last map, is what its attention gives."""
    attention = _chosen(model, (0,))[0]
    x, given = unit_noise(0, range(2), model.shape), {}
    handle = attention.to_out[0].register_forward_pre_hook(lambda _, args: given.setdefault("mixed", args[0]))
    values = attention.to_v.register_forward_hook(lambda _, args, out: given.setdefault("v", out))
    try:
        (logits,) = _logits(model, [attention], x, 0.5, model.labels(2))
    finally:
        handle.remove()
        values.remove()
    v = given["v"].unflatten(2, (attention.heads, -1)).transpose(1, 2)
    mixed = (logits.softmax(-1) @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(mixed, given["mixed"], atol=1e-4, rtol=1e-3)


def test_the_chosen_noise_is_the_candidate_of_least_mean_score(model: Model) -> None:
    with counted(model) as calls:
        found = choose_noise(model, plan(model), 3, candidates=4, seed=2)
    assert sum(calls) == 12
    candidates = unit_noise(2, range(12), model.shape).view(3, 4, *model.shape)
    best = found.scores.mean(2).argmin(1)
    assert torch.equal(found.noise, candidates[torch.arange(3), best])
    again = choose_noise(model, plan(model), 3, candidates=4, seed=2, batch=5)
    torch.testing.assert_close(again.scores, found.scores, atol=1e-6, rtol=1e-3)
    one = choose_noise(model, plan(model), 3, candidates=4, seed=2, layers=(0,))
    torch.testing.assert_close(one.scores[:, :, 0], found.scores[:, :, 0], atol=1e-6, rtol=1e-3)


def test_enough_layers_are_the_first_that_rank_as_all() -> None:
    generator = torch.Generator().manual_seed(0)
    signal, rest = torch.randn(200, 1, generator=generator), 0.01 * torch.randn(200, 3, generator=generator)
    assert enough_layers(signal.expand(200, 4) + rest.sum(1, keepdim=True)) == 1
    noise_first = torch.cat([torch.randn(200, 1, generator=generator), 5 * signal, 5 * signal], 1)
    assert enough_layers(noise_first) == 2
    assert enough_layers(noise_first.view(20, 10, 3), -1.0) == 1
    assert enough_layers(signal) == 1


def test_bad_input_is_one_line() -> None:
    dit = small_dit()
    exact = Model.from_mixture(GaussianMixture.random((1, 2, 2), 2), Flow())
    wrong: list[Any] = [
        lambda: choose_noise(dit, plan(dit), 0),
        lambda: choose_noise(dit, plan(dit), 2, candidates=0),
        lambda: choose_noise(dit, plan(dit), 2, masks=1),
        lambda: choose_noise(dit, plan(dit), 2, keep=1.0),
        lambda: choose_noise(dit, plan(dit), 2, layers=(7,)),
        lambda: choose_noise(dit, plan(dit), 2, 9),
        lambda: choose_noise(exact, plan(exact), 2),
        lambda: enough_layers(torch.zeros(4, 2), 2.0),
    ]
    for call in wrong:
        with pytest.raises(InputError) as raised:
            call()
        assert len(str(raised.value).splitlines()) == 1
