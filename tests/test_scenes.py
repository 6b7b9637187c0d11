"""Layers of scenes: what a layout shows, least squares in closed form, and one line for what cannot be."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

import fewer
from fewer import InputError
from fewer.engine import bind, output
from fewer.guidance import guide
from fewer.tasks.editing.scenes import Layer, Placed, _blended, _gather, composed, scene
from fewer.testing.models import counted, transformer

BOX = torch.zeros(8, 8)
BOX[1:3, 1:3] = 1
GROUND = torch.ones(8, 8)
LAYERS = (Layer(BOX, 0, (-1, 4), (-1, 4)), Layer(GROUND, 1))
PLAN = fewer.standard("ddim", transformer(), 3)
OWN_START = replace(PLAN, start=replace(PLAN.start, noise=0.1))
F = torch.randn(2, 2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def test_a_view_shows_each_pixel_once() -> None:
    view, alphas = composed(F, LAYERS, [Placed(0, (3, 2)), Placed(1)])
    assert bool((alphas.sum(0) == 1).all())
    torch.testing.assert_close(view[..., 4:6, 3:5], F[:, 0, :, 1:3, 1:3])
    where = alphas[1].bool()
    torch.testing.assert_close(view[..., where], F[:, 1][..., where])
    behind = composed(F, LAYERS, [Placed(1), Placed(0)])[0]
    torch.testing.assert_close(behind, F[:, 1])


def test_clones_scales_and_edges() -> None:
    twice = composed(F, LAYERS, [Placed(0), Placed(0, (4, 4)), Placed(1)])[1]
    assert twice.sum((1, 2)).tolist() == [4, 4, 56]
    large = composed(F, LAYERS, [Placed(0, (1, 1), 2.0), Placed(1)])[1]
    assert float(large[0].sum()) == 16
    out = composed(F, LAYERS, [Placed(0, (-2, 0)), Placed(1)])[1]
    assert float(out[0].sum()) == 2


def test_layers_are_the_least_squares_solution() -> None:
    """Of targets for several layouts with weights: the gradient of the sum of squares vanishes at what `_gather` gives."""
    layouts = [[Placed(0, off), Placed(1)] for off in ((0, 0), (2, 1), (1, 1))]
    targets = [torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(k)) for k in range(3)]
    weights = [1.0, 1.0, 10.0]
    sums, seen = torch.zeros_like(F), torch.zeros(2, 8, 8)
    for layout, target, weight in zip(layouts, targets, weights, strict=True):
        _gather(sums, seen, target, composed(F, LAYERS, layout)[1], layout, weight)
    best = torch.where(seen[:, None] > 0, sums / seen.clamp_min(1e-30)[:, None], F).requires_grad_()
    loss = sum(
        weight * (composed(best, LAYERS, layout)[0] - target).square().sum()
        for layout, target, weight in zip(layouts, targets, weights, strict=True)
    )
    loss.backward()  # type: ignore[union-attr]
    assert best.grad is not None
    assert float(best.grad.abs().max()) < 1e-4


def test_calls_are_counted_and_a_layout_costs_what_is_left() -> None:
    model = transformer()
    plan = guide(fewer.standard("ddim", model, 5, "uniform"), 2.0)
    with counted(model) as calls:
        found = scene(model, LAYERS, plan=plan, layouts=3, below=0.5, n=2, seed=1)
    assert sum(calls) == 2 * found.nfe
    assert len(found.rest.rows) < 5
    with counted(model) as calls:
        image = found.render([Placed(0, (2, 2)), Placed(1)])
    assert sum(calls) == 2 * found.rest.nfe
    assert image.shape == (2, 1, 8, 8)
    torch.testing.assert_close(image, found.render([Placed(0, (2, 2)), Placed(1)]))


def test_each_scene_has_its_own_labels() -> None:
    """Layers share a pass where their labels are alike in all scenes, not in the first alone."""
    model = transformer()
    x = torch.randn(2, *model.shape, generator=torch.Generator().manual_seed(0))
    step = bind(model, fewer.standard("ddim", model, 2, "uniform"))[0]
    own = [torch.tensor([0, 1]), torch.tensor([0, 0])]
    alphas = torch.stack([BOX, GROUND - BOX])
    expected = sum(alpha * output(step, x, labels) for labels, alpha in zip(own, alphas, strict=True))
    torch.testing.assert_close(_blended(step, x, own, alphas), expected)
    with counted(model) as calls:
        found = scene(model, (*LAYERS[:1], Layer(GROUND)), plan=3, layouts=1, n=2, label=own[0])
    assert sum(calls) == 2 * found.nfe


def test_with_an_image_its_layers_are_the_image_noised() -> None:
    """An anchor that outweighs everything: what a layer shows of the image is (1 - tau) y + tau times its own noise."""
    model = transformer()
    image = 0.3 * torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(2))
    found = scene(model, LAYERS, image=image, plan=6, layouts=2, below=0.4, anchor=1e8, seed=1)
    free = scene(model, LAYERS, plan=1, layouts=1, below=0.999, seed=1)  # no step is above the level: the start alone
    tau, top = (float(each.rest.rows[0].tau) for each in (found, free))
    noise = composed(free.features / top, LAYERS, [Placed(0), Placed(1)])[0]
    view = composed(found.features, LAYERS, [Placed(0), Placed(1)])[0]
    torch.testing.assert_close(view, (1 - tau) * image + tau * noise, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"layers": ()}, "leave pixels empty"), ({"layers": LAYERS[:1]}, "leave pixels empty"),
        ({"layers": (Layer(torch.ones(4, 4)), LAYERS[1])}, "mask of layer 0"),
        ({"layers": (Layer(0.5 * BOX), LAYERS[1])}, "of 0 and 1"), ({"layers": (Layer(0 * BOX), LAYERS[1])}, "not all 0"),
        ({"layers": (BOX, LAYERS[1])}, "expected a Layer"), ({"layers": (Layer(BOX, 0, (3, 1)), LAYERS[1])}, "down of layer 0"),
        ({"layers": (Layer(BOX, 0, None), LAYERS[1])}, "down of layer 0"),  # type: ignore[arg-type]
        ({"layers": (Layer(BOX, 9), LAYERS[1])}, "label 9"), ({"image": torch.zeros(1, 4, 4)}, "image has shape"),
        ({"image": torch.full((1, 8, 8), math.nan)}, "not finite"), ({"below": 0.0}, "below"), ({"below": 1.0}, "below"),
        ({"layouts": 0}, "layouts is 0"), ({"n": 0}, "n is 0"), ({"anchor": -1.0}, "anchor"),
        ({"plan": OWN_START}, "noise of its own law"),
    ],
)  # fmt: skip
def test_one_line_for_what_cannot_be(given: dict[str, Any], says: str) -> None:
    arguments: dict[str, Any] = {"layers": LAYERS, "plan": 3, "layouts": 1} | given
    with pytest.raises(InputError, match=says) as raised:
        scene(transformer(), **arguments)
    assert "\n" not in str(raised.value)


def test_layouts_that_cannot_be() -> None:
    found = scene(transformer(), LAYERS, plan=4, layouts=1)
    odd: Any = Placed
    for layout, says in (
        ([Placed(5)], "expected Placed"),
        ([Placed(0)], "leaves pixels empty"),
        ([Placed(1, scale=0.0)], "expected"), ([odd(1, (1,))], "whole pixels"), ([odd(1, (0.5, 0))], "whole pixels"),
        ([odd(1, None)], "whole pixels"), ([odd(0.5)], "expected Placed"), ([Placed(1, scale=math.inf)], "scale above 0"),
        ([odd(1, scale="2")], "scale above 0"), ([], "the layout is empty"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=says):
            found.render(layout)
