"""Negative token merging: the formula, groups and references, that the network stays as it was, costs, bad input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_networks import small_dit, small_unet

import fewer
from fewer.dynamic.negative_merging import NegativeMerging, pushed_apart
from fewer.errors import InputError
from fewer.guidance import guide
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
    rows = fewer.standard("ddim", model, 2, "logsnr")
    return guide(rows, 2.0) if model.classes else rows


def test_a_token_moves_away_from_the_most_similar_one_if_it_is_similar_enough() -> None:
    tokens = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    others = torch.tensor([[[3.0, 0.3], [1.0, 1.0]]])
    found = pushed_apart(tokens, others, 0.5, 0.9)
    torch.testing.assert_close(found[0, 0], torch.tensor([1.0, 0.0]) + 0.5 * torch.tensor([-2.0, -0.3]))
    assert torch.equal(found[0, 1], tokens[0, 1])  # its best match is at cos 45 degrees
    assert not torch.equal(pushed_apart(tokens, others, 0.5, 0.7)[0, 1], tokens[0, 1])
    assert torch.equal(pushed_apart(tokens, others, 0.5, 0.9, torch.ones(2, 2, dtype=torch.bool)), tokens)


@pytest.mark.parametrize("changes", [{"strength": 0.0}, {"threshold": 1.0}])
def test_without_strength_or_match_it_is_the_plan_alone(model: Model, changes: dict[str, float]) -> None:
    alone = fewer.sample(model, plan(model), 4, seed=1)
    for more in ({}, {"references": torch.zeros(1, *model.shape), "reference_labels": 0 if model.classes else None}):
        found = NegativeMerging(plan(model), **changes, **more).sample(model, 4, seed=1)  # type: ignore[arg-type]
        torch.testing.assert_close(found.x, alone, atol=1e-5, rtol=1e-5)


def test_the_network_is_as_it_was(model: Model) -> None:
    before = fewer.sample(model, plan(model), 4)
    changed = NegativeMerging(plan(model), 2.0, -1.0).sample(model, 4).x
    assert not torch.allclose(changed, before, atol=1e-3)
    assert torch.equal(fewer.sample(model, plan(model), 4), before)


def test_a_group_is_its_own_in_any_batch(model: Model) -> None:
    merging = NegativeMerging(plan(model), 1.0, 0.0, group=2)
    together = merging.sample(model, 6, seed=2).x
    torch.testing.assert_close(merging.sample(model, 6, seed=2, batch=3).x, together, atol=1e-4, rtol=1e-4)
    noise = unit_noise(2, range(6), model.shape)
    labels = model.labels(6)
    for k in range(0, 6, 2):
        mine = None if labels is None else labels[k : k + 2]
        part = merging.sample(model, noise=noise[k : k + 2], labels=mine).x
        torch.testing.assert_close(part, together[k : k + 2], atol=1e-4, rtol=1e-4)


def test_images_of_other_layers_or_references_differ(model: Model) -> None:
    known = 3 if model.classes else 1
    found = [NegativeMerging(plan(model), 1.0, -1.0, layers=(k,)).sample(model, 4).x for k in range(known)]
    every = NegativeMerging(plan(model), 1.0, -1.0).sample(model, 4).x
    assert all(not torch.equal(a, b) for a, b in zip(found, [*found[1:], every], strict=True)) or known == 1
    labels = 0 if model.classes else None
    by_reference = [
        NegativeMerging(plan(model), 1.0, -1.0, references=scale * torch.ones(2, *model.shape), reference_labels=labels)
        for scale in (-1.0, 1.0)
    ]
    one, other = (merging.sample(model, 3).x for merging in by_reference)
    assert not torch.allclose(one, other, atol=1e-4)


def test_evaluations_are_those_made(model: Model) -> None:
    rows = plan(model)
    labels = 0 if model.classes else None
    for merging, n, batch in (
        (NegativeMerging(rows), 4, 64),
        (NegativeMerging(rows, references=torch.zeros(3, *model.shape), reference_labels=labels), 5, 2),
    ):
        with counted(model) as calls:
            found = merging.sample(model, n, batch=batch)
        assert sum(calls) / n == pytest.approx(found.evaluations)


def test_bad_input_is_one_line() -> None:
    dit = small_dit()
    rows = plan(dit)
    exact = Model.from_mixture(GaussianMixture.random((1, 2, 2), 2), Flow())
    wrong: list[Any] = [
        lambda: NegativeMerging(rows, -1.0),
        lambda: NegativeMerging(rows, threshold=2.0),
        lambda: NegativeMerging(rows, group=1),
        lambda: NegativeMerging(rows).sample(dit, 6),
        lambda: NegativeMerging(rows, layers=(3,)).sample(dit, 4),
        lambda: NegativeMerging(rows, references=torch.zeros(1, *dit.shape)).sample(dit, 4),
        lambda: NegativeMerging(rows, references=torch.zeros(1, 3, 8, 8), reference_labels=0).sample(dit, 4),
        lambda: NegativeMerging(fewer.standard("ddim", exact, 2)).sample(exact, 4),
    ]
    for call in wrong:
        with pytest.raises(InputError) as raised:
            call()
        assert len(str(raised.value).splitlines()) == 1
