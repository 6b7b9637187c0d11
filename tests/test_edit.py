"""`fewer.edit`: exact where theory says so, the image again where it is asked for, and one line for what cannot be."""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from small_networks import small_dit, small_unet
from torch import Tensor

import fewer
from fewer import GaussianMixture, InputError, Model
from fewer.guidance import guide
from fewer.guidance.residual import residual_once
from fewer.models.schedules import Flow, Schedule, VarianceExploding, betas, discrete
from fewer.noise import Draw, unit_noise
from fewer.tasks.editing.attention import places_of, redirected, self_attentions
from fewer.tasks.editing.edit import editors
from fewer.tasks.editing.methods.attentive_eraser import AttentiveEraser
from fewer.tasks.editing.methods.cyclic_one_way import CyclicOneWay, disturbed
from fewer.tasks.editing.methods.rf_inversion import RFInversion
from fewer.tasks.editing.methods.style_ssp import StyleSSP
from fewer.tasks.editing.task import falling, rising

SCHEDULES = (discrete(betas("linear")), Flow(), VarianceExploding(0.01, 50.0))
CLASSES = GaussianMixture.random((1, 4, 4), components=4, seed=1, classes=2)
IMAGES = CLASSES.sample(3, seed=2)[0].float()
HALF = torch.cat([torch.zeros(2, 4), torch.ones(2, 4)])


def model(schedule: Schedule = SCHEDULES[0]) -> Model:
    return Model.from_mixture(CLASSES, schedule, conditional=True)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("solver", ["ddim", "dpmpp-2m", "heun", "unipc"])
@pytest.mark.parametrize("stochastic", [False, True])
def test_full_control_is_the_image_again(schedule: Schedule, solver: str, stochastic: bool) -> None:
    """Gamma = eta = 1 in all rows, for any process and plan, under guidance too: both ways are straight."""
    m = model(schedule)
    plan = guide(fewer.standard(solver, m, 6), 2.0)
    found = fewer.edit(m, IMAGES, 1, plan=plan, method=RFInversion(1.0, 1.0, 0.0, 1.0, stochastic))
    torch.testing.assert_close(found.images, IMAGES, atol=2e-5, rtol=0)


def test_full_control_ends_at_typical_noise() -> None:
    """With gamma 1 the way up is the straight line to the drawn noise."""
    m = model(Flow())
    from fewer.tasks.editing.task import Task

    plan = fewer.standard("ddim", m, 5, "uniform")
    unit = lambda draw, shape: unit_noise(0, range(3), shape, draw)  # noqa: E731
    labels = m.labels(3, 0)
    task = Task(m, plan, IMAGES, labels, labels, None, None, unit)
    target = unit(Draw.START(), m.shape)
    x = task.up(control=lambda x, tau, u: (target - x) / (1 - tau))
    torch.testing.assert_close(task.noise_in(x), target, atol=1e-5, rtol=0)


def test_without_control_it_is_ddim_inversion() -> None:
    """Up by explicit inversion of the same plan and down by it."""
    m = model()
    plan = fewer.standard("ddim", m, 6, "uniform")
    found = fewer.edit(m, IMAGES, 1, source=0, plan=plan, method=RFInversion(0.0, 0.0))
    noise = fewer.invert(m, plan, IMAGES, 0, iterations=0)
    torch.testing.assert_close(found.images, fewer.sample(m, plan, noise=noise, labels=1, n=3), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        found.images, fewer.edit(m, IMAGES, 1, source=0, plan=plan, method="ddim-inversion").images
    )


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda s: type(s).__name__)
def test_without_control_the_stochastic_way_down_is_ancestral_sampling(schedule: Schedule) -> None:
    """Gamma 1 noises with the starting noise, as image-to-image does, and eta 0 takes DDPM's steps."""
    m = model(schedule)
    plan, ancestral = (fewer.standard(solver, m, 9, "logsnr") for solver in ("ddim", "ancestral"))
    given = {"labels": 1, "strength": 0.7, "seed": 2}
    found = fewer.edit(m, IMAGES, plan=plan, method=RFInversion(1.0, 0.0, stochastic=True), **given)
    torch.testing.assert_close(found.images, fewer.sample(m, ancestral, init=IMAGES, **given), atol=2e-5, rtol=1e-4)


def test_sdedit_is_image_to_image() -> None:
    m = model()
    plan = fewer.standard("dpmpp-2m", m, 8)
    found = fewer.edit(m, IMAGES, 1, plan=plan, method="sdedit", strength=0.6, seed=3)
    same = fewer.sample(m, plan, init=IMAGES, strength=0.6, labels=1, seed=3)
    # fewer.sample mixes in noise at the level of the first row that is left, as this does
    torch.testing.assert_close(found.images, same, atol=1e-5, rtol=1e-5)
    assert found.nfe == found.plan.nfe < plan.nfe


def test_more_control_keeps_more() -> None:
    m = model(Flow())
    apart = [
        float(
            (fewer.edit(m, IMAGES, 1, plan=8, method=RFInversion(0.5, eta, 0.0, 0.75)).images - IMAGES).square().mean()
        )
        for eta in (0.0, 0.5, 1.0)
    ]
    assert apart[0] > apart[1] > apart[2]


def test_ways_go_by_levels_once() -> None:
    """Plans of several rows a level are inverted a call a level, from 0 to the top and back."""
    plan = fewer.standard("heun", model(), 8)
    up, down = rising(plan), falling(plan)
    levels = sorted({float(row.tau) for row in plan.rows})
    assert [there for _, _, there in up] == levels
    assert up[0][1] == 0
    assert [here for _, here, _ in down] == levels[::-1]
    assert down[-1][2] == 0
    for n, here, _ in down:
        assert float(plan.rows[n].tau) == here


def test_noise_that_is_put_back_has_the_law_of_its_level() -> None:
    """Disturbing (1 - tau) D + tau eps gives the same with the higher tau, in mean and variance."""
    eps, z = torch.randn(2, 20000, generator=torch.Generator().manual_seed(0))
    x = disturbed(0.7 * 2.0 + 0.3 * eps, 0.3, 0.6, z)
    assert float(x.mean()) == pytest.approx(0.4 * 2.0, abs=0.02)
    assert float(x.std()) == pytest.approx(0.6, abs=0.02)


def test_cycles_cost_their_rows_and_never_skip_one() -> None:
    plan = fewer.standard("ddim", model(), 10, "uniform")
    plain, cyclic = CyclicOneWay(1), CyclicOneWay(4)
    assert plain.way(plan) == list(range(10))
    way = cyclic.way(plan)
    window = (len(way) - 10) // 3
    assert cyclic.cost(plan) - plain.cost(plan) == 3 * window > 0
    assert all(there == here + 1 or there < here for here, there in pairwise(way))


def test_the_filter_weakens_low_frequencies_alone() -> None:
    flat = torch.ones(1, 1, 8, 8)
    fine = torch.ones(8, 8)
    fine[::2] *= -1
    fine[:, ::2] *= -1
    method = StyleSSP(low=0.4, cutoff=0.2)
    torch.testing.assert_close(method.filtered(flat), 0.4 * flat)
    torch.testing.assert_close(method.filtered(fine[None, None]), fine[None, None], atol=1e-4, rtol=0)


@pytest.mark.parametrize("network", [small_dit, small_unet], ids=["dit", "unet"])
def test_redirected_attention_does_not_see_what_is_masked(network: Any) -> None:
    """What one such layer gives outside of the mask does not depend on what lies under it."""
    m = network()
    layer = self_attentions(m.network.module)[0]
    width = layer.to_q.in_features
    x = torch.randn(2, 16, width, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(2, 1, 8, 8)
    mask[:, :, :3, :3] = 1
    under = places_of(mask, 16)
    assert under[0].view(4, 4).tolist() == [[i < 2 and j < 2 for j in range(4)] for i in range(4)]

    def given(moved: float) -> Tensor:
        """The layer's output where keys and values under the mask are moved."""
        hooks = [
            layer.get_submodule(name).register_forward_hook(
                lambda _, __, out: torch.where(under[..., None], out + moved, out)
            )
            for name in ("to_k", "to_v")
        ]
        with torch.no_grad():
            found: Tensor = layer(x)
        for hook in hooks:
            hook.remove()
        return found

    with redirected([layer], mask, 1.0):
        torch.testing.assert_close(given(0.0), given(5.0), atol=1e-5, rtol=0)
    assert float((given(0.0) - given(5.0)).abs().max()) > 1e-2


def test_similarity_zero_attends_evenly() -> None:
    """Queries of 0 weigh all places outside of the mask alike: each place under it gets the mean of their values."""
    layer = self_attentions(small_dit().network.module)[0]
    x = torch.randn(1, 16, layer.to_q.in_features, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    under = places_of(mask, 16)[0]
    with torch.no_grad(), redirected([layer], mask, 0.0):
        got = layer(x)[0, under]
        mean = layer.to_out[0](layer.to_v(x)[0, ~under].mean(0))
    torch.testing.assert_close(got, mean.expand_as(got), atol=1e-5, rtol=1e-4)


def test_masks_of_each_image_and_of_all() -> None:
    m = model()
    of_each = torch.stack([HALF, 1 - HALF, torch.ones(4, 4)])
    found = fewer.edit(m, IMAGES, 1, mask=of_each, plan=6, method="sdedit").images
    assert float((found - IMAGES)[of_each[:, None] == 0].abs().max()) < 1e-6
    all_the_same = [
        fewer.edit(m, IMAGES, 1, mask=given, plan=4).images for given in (HALF, HALF.bool(), HALF.expand(3, 1, 4, 4))
    ]
    torch.testing.assert_close(all_the_same[0], all_the_same[1])
    torch.testing.assert_close(all_the_same[0], all_the_same[2])
    assert fewer.edit(m, IMAGES[0], 1, plan=3).images.shape == IMAGES[0].shape


def test_the_mask_of_one_image_of_colours_has_its_shape() -> None:
    m = Model.from_mixture(GaussianMixture.random((3, 2, 2), 2, seed=0), Flow())
    mask = torch.zeros(3, 2, 2)
    mask[1] = 1
    found = fewer.edit(m, torch.zeros(3, 2, 2), mask=mask, method="sdedit", plan=2).images
    assert found.shape == mask.shape
    assert torch.equal(found != 0, mask == 1)


def test_progress_and_any_batch() -> None:
    told: list[tuple[int, int]] = []
    m = model()
    two = fewer.edit(m, IMAGES, torch.tensor([0, 1, 0]), plan=4, batch=2, progress=lambda k, n: told.append((k, n)))
    assert told == [(2, 3), (3, 3)]
    torch.testing.assert_close(
        two.images, fewer.edit(m, IMAGES, torch.tensor([0, 1, 0]), plan=4).images, atol=1e-5, rtol=1e-5
    )


def bad(value: float) -> Tensor:
    x = IMAGES.clone()
    x[1, 0, 0, 0] = value
    return x


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"images": IMAGES[:, :, :3]}, "images have shape .*needs"), ({"images": bad(math.nan)}, "images hold 1 values"),
        ({"images": bad(math.inf)}, "images hold 1 values"), ({"images": IMAGES[:0]}, "images have shape"),
        ({"images": "x"}, "images is"), ({"images": torch.zeros(3, 1, 4, 4, dtype=torch.int64)}, "floating-point"),
        ({"labels": 7}, "labels: label 7 is out of range"), ({"labels": [0, 1]}, "labels: labels have shape"),
        ({"labels": 0.5}, "labels: labels must be integers"),
        ({"source": -1}, "source: label -1"), ({"avoid": 9}, "avoid: label 9"),
        ({"strength": 0.0}, "strength is 0"), ({"strength": 1.5}, "strength is 1.5"), ({"strength": math.nan}, "strength"),
        ({"strength": 1e-9}, "larger strength"), ({"method": "sdedt"}, "sdedit"), ({"method": "mmps"}, "methods of editing"),
        ({"method": "cyclic-one-way"}, "needs a mask: give mask"), ({"method": "style-ssp"}, "needs a label to keep away from"),
        ({"method": "attentive-eraser", "mask": HALF}, "self-attention"), ({"mask": torch.ones(3, 3)}, "mask has shape"),
        ({"mask": 2 * HALF}, r"outside of \[0, 1\]"), ({"mask": HALF * math.nan}, "nan"), ({"mask": "x"}, "mask is"),
        ({"plan": 0}, "plan is 0"), ({"batch": 0}, "batch is 0"), ({"seed": -1}, "seed is -1"),
        ({"plan": fewer.standard("ancestral", model(), 5)}, "draws some besides"),
        ({"plan": residual_once(fewer.standard("ddim", model(), 4), 2.0)}, "remembers earlier rows"),
        ({"mask": HALF, "plan": 2, "method": CyclicOneWay(3, 0.5, 0.49)}, "take more calls"),
    ],
)  # fmt: skip
def test_one_line_for_what_cannot_be(given: dict[str, Any], says: str) -> None:
    arguments: dict[str, Any] = {"images": IMAGES, "labels": 1, "plan": 4} | given
    with pytest.raises(InputError, match=says) as raised:
        fewer.edit(model(), **arguments)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: RFInversion(gamma=1.5), "gamma is 1.5"), (lambda: RFInversion(eta=-0.1), "eta is"),
        (lambda: RFInversion(begin=0.8, end=0.2), "begins before it ends"), (lambda: CyclicOneWay(0), "cycles"),
        (lambda: CyclicOneWay(2, 0.3, 0.6), "low < high"), (lambda: StyleSSP(low=2.0), "low is"),
        (lambda: StyleSSP(cutoff=0.0), "cutoff is"), (lambda: AttentiveEraser(-1.0), "scale is"),
        (lambda: AttentiveEraser(first=-1), "first is"), (lambda: AttentiveEraser(similarity=math.nan), "similarity is"),
    ],
)  # fmt: skip
def test_settings_out_of_range(make: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()


def test_models_that_cannot_be_edited_with() -> None:
    m = model()
    with pytest.raises(InputError, match="no empty label: give labels"):
        fewer.edit(replace(m, empty_label=None), IMAGES)
    dit = small_dit()
    image = torch.zeros(1, *dit.shape)
    with pytest.raises(InputError, match="covers a whole image"):
        fewer.edit(dit, image, 0, mask=torch.ones(8, 8), method="attentive-eraser", plan=3)
    with pytest.raises(InputError, match="self-attentions 0"):
        fewer.edit(dit, image, 0, mask=torch.eye(8), method=AttentiveEraser(first=99), plan=3)
    dit = copy.deepcopy(dit)  # which other tests have, too
    self_attentions(dit.network.module)[0].norm_q = torch.nn.LayerNorm(4)
    with pytest.raises(InputError, match="give similarity=1"):
        fewer.edit(dit, image, 0, mask=torch.eye(8), method="attentive-eraser", plan=3)
    flat = Model.from_mixture(GaussianMixture.random((3,), 2, seed=0, classes=2), Flow(), conditional=True)
    with pytest.raises(InputError, match="filters pictures"):
        fewer.edit(flat, torch.zeros(2, 3), 0, avoid=1, method="style-ssp", plan=3)


def test_without_classes_and_of_vectors() -> None:
    """Models without labels edit as well, under masks of values."""
    m = Model.from_mixture(GaussianMixture.random((3,), 2, seed=0), Flow())
    x = torch.zeros(2, 3)
    for method in ("rf-inversion", "sdedit", "cyclic-one-way"):
        found = fewer.edit(m, x, mask=torch.tensor([0.0, 1.0, 1.0]), method=method, plan=8).images
        assert float(found[:, 0].abs().max()) < 1e-6 < float(found[:, 1].abs().max())
    with pytest.raises(InputError, match="no classes"):
        fewer.edit(m, x, 1, plan=3)
    with pytest.raises(InputError, match="mask has shape"):
        fewer.edit(m, x, mask=torch.ones(2, 1, 3), plan=3)


def test_all_methods_are_known_by_name() -> None:
    assert {"rf-inversion", "ddim-inversion", "sdedit", "style-ssp", "cyclic-one-way", "attentive-eraser"} <= set(
        editors()
    )
