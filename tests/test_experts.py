"""Pipelines with two experts and a boundary: which of them makes a row is a column of the plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import diffusers
import pytest
import tiny_video
import torch

import fewer
from fewer.engine import times
from fewer.errors import InputError
from fewer.models.model import Model
from fewer.models.pipelines.experts import CLEAN, NOISY, ratio_between
from fewer.search.experts import best_split, own_split, split
from fewer.search.objective import Objective
from fewer.search.strategy import Candidate

RATIO, ROWS = 0.6, 4


@pytest.fixture(scope="module")
def made() -> tuple[Any, dict[str, Any], Model]:
    pipe, call = tiny_video.wan()
    other = tiny_video.wan()[0].transformer
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(-0.7).add_(0.05)
    two = diffusers.WanPipeline(None, None, None, pipe.scheduler, pipe.transformer, other, boundary_ratio=RATIO)
    two.set_progress_bar_config(disable=True)
    return two, call, Model.from_pipeline(two, call)


def test_each_expert_is_asked_alone(made: tuple[Any, dict[str, Any], Model]) -> None:
    """Above its boundary the pipeline's network is the first expert, below the other, and they differ at both."""
    _, _, model = made
    x = torch.randn(1, *model.shape, generator=torch.Generator().manual_seed(0))
    labels = model.labels(1)
    for t, whose, other in ((900.0, NOISY, CLEAN), (300.0, CLEAN, NOISY)):
        own = model(x, t, labels)
        torch.testing.assert_close(model.called(whose)(x, t, labels), own, rtol=1e-5, atol=1e-6)
        assert not torch.allclose(model.called(other)(x, t, labels), own, atol=1e-3)


@pytest.mark.parametrize("first", range(ROWS + 1))
def test_a_split_is_played_by_moving_the_boundary(made: tuple[Any, dict[str, Any], Model], first: int) -> None:
    """Under `apply` the pipeline gives the samples of the plan, whichever rows it gives to which expert, and is itself again."""
    pipe, call, model = made
    plan = split(fewer.standard("dpmpp-2m", model, nfe=ROWS), first)
    ours = fewer.sample(model, plan, noise=call["latents"].float(), labels=[0])
    fewer.apply(plan, pipe)
    theirs = pipe(**call | {"num_inference_steps": ROWS}).frames
    fewer.unapply(pipe)
    assert pipe.config.boundary_ratio == RATIO
    assert float((ours - theirs).abs().max()) < 1e-3 * float(theirs.abs().max())


def test_the_own_split_is_that_of_the_times(made: tuple[Any, dict[str, Any], Model]) -> None:
    _, call, model = made
    plan = fewer.standard("dpmpp-2m", model, nfe=ROWS)
    own = own_split(model, plan)
    assert own == sum(float(t) >= 1000 * RATIO for t in times(model, plan))
    noise = call["latents"].float()
    whole, parted = (fewer.sample(model, each, noise=noise, labels=[0]) for each in (plan, split(plan, own)))
    torch.testing.assert_close(parted, whole, rtol=1e-4, atol=1e-4)


def test_the_best_split_is_found(made: tuple[Any, dict[str, Any], Model]) -> None:
    """Where the target is what another split gives, that one is found; where it is the own, the plan stays as it is."""
    _, _, model = made
    plan = fewer.standard("ddim", model, nfe=ROWS)
    noise = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(2))
    objective = Objective(model, noise, model.labels(2))
    assert own_split(model, plan) != 3
    for target, expected in ((split(plan, 3), [NOISY, NOISY, NOISY, CLEAN]), (plan, [0] * ROWS)):
        of = replace(objective, target=objective.samples(target))
        found = best_split(of, Candidate(plan, of.score(plan), "regression"))
        assert [row.network for row in found.plan.rows] == expected


def test_rows_that_go_back_are_refused(made: tuple[Any, dict[str, Any], Model]) -> None:
    pipe, _, model = made
    plan = fewer.standard("ddim", model, nfe=2)
    back = replace(plan, rows=tuple(replace(row, network=k) for row, k in zip(plan.rows, (CLEAN, NOISY), strict=True)))
    with pytest.raises(InputError, match="goes back to the expert of noisy times"):
        fewer.apply(back, pipe)
    with pytest.raises(InputError, match="one for all plans"):
        fewer.apply([split(plan, 1), fewer.standard("ddim", model, nfe=3)], pipe)
    assert pipe.config.boundary_ratio == RATIO
    assert ratio_between([900.0, 500.0], [NOISY, CLEAN], 1000) == pytest.approx(0.7)
    assert ratio_between([900.0, 500.0], [CLEAN, NOISY], 1000) is None
