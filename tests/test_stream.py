"""Streams: each frame is what it is alone, one call a frame, skipped frames; residual guidance and what it stands for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from small_networks import small_dit, small_unet
from torch import Tensor

import fewer
from fewer.errors import InputError
from fewer.guidance import guide
from fewer.guidance.apg import ProjectedGuidance
from fewer.guidance.residual import ResidualGuidance, residual_once
from fewer.models.model import Model
from fewer.noise import unit_noise
from fewer.plan import Plan
from fewer.tasks.stream import Stream
from fewer.testing.models import counted

FRAMES = 0.3 * unit_noise(9, range(5), (1, 8, 8))


def rows(solver: str = "dpmpp-2m", n: int = 3) -> Plan:
    return fewer.standard(solver, small_dit(), n, "logsnr")


def alone(model: Model, plan: Plan, strength: float, label: int | None) -> Tensor:
    made = [
        fewer.sample(model, plan, init=FRAMES[k : k + 1], strength=strength, seed=4, first_sample=k, labels=label)
        for k in range(len(FRAMES))
    ]
    return torch.cat(made)


@pytest.mark.parametrize("strength", [0.7, 1.0])
@pytest.mark.parametrize(
    "plan",
    [
        rows(), rows("heun", 4), rows("ancestral"), guide(rows(), 2.5), guide(rows(), ProjectedGuidance(3.0, 0.0, 1.0)),
        residual_once(rows("ddim"), 2.0), guide(rows(), 2.0, lambda row: float(row.tau) > 0.6),
    ],
    ids=["multistep", "stages", "noise", "cfg", "apg", "residual", "interval"],
)  # fmt: skip
def test_a_frame_is_what_it_is_alone(plan: Plan, strength: float) -> None:
    model = small_dit()
    if plan.rows[0].guidance is not None and plan.rows[0].guidance.rule == "residual" and strength < 1:
        plan = residual_once(rows("ddim").from_level(strength), 2.0)
    stream = Stream(model, plan, strength=strength, label=1, seed=4)
    found = list(stream.play(FRAMES))
    torch.testing.assert_close(torch.stack(found), alone(model, plan, strength, 1), atol=2e-5, rtol=1e-4)


def test_one_call_a_frame_with_all_under_way() -> None:
    model = small_unet()
    plan = fewer.standard("ddim", model, 3, "logsnr")
    stream = Stream(model, plan, seed=4)
    with counted(model) as calls:
        given = [stream.push(frame) for frame in FRAMES]
    assert calls == [1, 2, 3, 3, 3]
    assert stream.delay == 2
    assert [each is None for each in given] == [True, True, False, False, False]
    assert len(stream.flush()) == 2
    torch.testing.assert_close(given[2], alone(model, plan, 1.0, None)[0], atol=2e-5, rtol=1e-4)


def test_equal_frames_are_skipped_and_others_are_not() -> None:
    model = small_unet()
    plan = fewer.standard("ddim", model, 2, "logsnr")
    stream = Stream(model, plan, similarity=0.9)
    first, other = FRAMES[0], -FRAMES[0]
    results = [stream.push(frame) for frame in (first, first, first, other, other, first)]
    assert stream.skipped == 3
    assert stream.calls == 3
    assert results[1] is results[2] is None
    assert results[4] is results[3] is not None
    shares = []
    for seed in range(40):  # at a cosine of 0.95, half way, half of the frames
        near = first + (first.norm() / FRAMES[1].norm()) * (1 / 0.95**2 - 1) ** 0.5 * _across(FRAMES[1], first)
        one = Stream(model, plan, similarity=0.9, seed=seed)
        one.push(first)
        one.push(near)
        shares.append(one.skipped)
    assert 0.25 < sum(shares) / 40 < 0.75


def _across(a: Tensor, b: Tensor) -> Tensor:
    rest = a - (a * b).sum() / (b * b).sum() * b
    return rest * a.norm() / rest.norm()


def test_the_frame_itself_is_what_residual_guidance_goes_away_from() -> None:
    """In one row to level 0 the data prediction is D' + scale (D(label) - D'), in one pass."""
    model, plan = small_dit(), rows("ddim", 1)
    assert float(plan.end) == 0
    (without,) = Stream(model, guide(plan, 1.0), label=2).play(FRAMES[:1])
    with counted(model) as calls:
        (found,) = Stream(model, guide(plan, ResidualGuidance(2.5, 1.0, 0.0)), label=2).play(FRAMES[:1])
    assert calls == [1]
    torch.testing.assert_close(found, FRAMES[0] + 2.5 * (without - FRAMES[0]), atol=1e-4, rtol=1e-4)


def test_fresh_in_every_row_is_classifier_free_guidance() -> None:
    model = small_dit()
    found, cfg = (fewer.sample(model, guide(rows(), rule), 4) for rule in (ResidualGuidance(2.5), 2.5))
    torch.testing.assert_close(found, cfg, atol=1e-5, rtol=1e-5)


def test_passes_and_the_share_of_the_negative_noise() -> None:
    model, plan = small_dit(), rows("ddim", 4)
    assert residual_once(plan, 3.0).nfe == 5
    with counted(model) as calls:
        fewer.sample(model, residual_once(plan, 3.0), 2)
    assert calls == [4, 2, 2, 2]
    one = plan.from_row(0).rows[0]
    tau = float(one.tau)
    seen: list[Tensor] = []
    start = unit_noise(0, range(2), model.shape)
    for delta in (1.0, 0.6):
        rule = ResidualGuidance(3.0, delta)
        fewer.sample(
            model, guide(plan, rule), noise=start, labels=0,
            callback=lambda row, x, data: seen.append((x - (1 - tau) * data) / tau),
        )  # fmt: skip
    x = float(plan.start.scale) * start
    label, empty = ((1 - tau) * model.velocity(x, tau, torch.full((2,), y)) + x for y in (0, model.empty_label))
    for noise, delta in ((seen[0], 1.0), (seen[4], 0.6)):
        torch.testing.assert_close(noise, delta * empty + 3.0 * (label - delta * empty), atol=1e-3, rtol=1e-3)


def test_bad_input_is_one_line() -> None:
    model = small_dit()
    wrong: list[Any] = [
        lambda: ResidualGuidance(2.0, 1.5),
        lambda: ResidualGuidance(2.0, 1.0, 0.5),
        lambda: fewer.sample(model, guide(rows(), ResidualGuidance(2.0, 1.0, 0.0)), 2),
        lambda: Stream(model, rows(), strength=0.0, label=0),
        lambda: Stream(model, rows(), similarity=1.0, label=0),
        lambda: Stream(model, rows()),
        lambda: Stream(model, rows(), label=9),
        lambda: Stream(model, guide(rows(), ProjectedGuidance(2.0, momentum=-0.5)), label=0),
        lambda: Stream(model, rows(), label=0).push(torch.zeros(3, 8, 8)),
    ]
    for call in wrong:
        with pytest.raises(InputError) as raised:
            call()
        assert len(str(raised.value).splitlines()) == 1
