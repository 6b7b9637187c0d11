"""Objects that are moved, and objects that are removed."""

from __future__ import annotations

import torch
from torch import Tensor

import fewer
from fewer.claims.bundled import model_of
from fewer.claims.claim import Beside, Measured, claim
from fewer.claims.editing.beds import KINDS, OBJECT, SHADES, SIDE, placed, scenes, shown
from fewer.claims.repeated import mean
from fewer.models.bundled import cifar_classifier
from fewer.tasks.editing.methods.attentive_eraser import AttentiveEraser
from fewer.tasks.editing.scenes import Layer, Placed, scene

MOVED, LEVELS, LAYOUTS, BELOW, AT, MOVE = 144, 12, 3, 0.2, 2, (2, 3)
ERASED, CALLS, SCALE, TRIED = 48, 10, 6.0, 3  # TRIED: times as many pictures, of which the clearest are taken


@claim(
    "scene-diffusion/moving",
    statement=f"Of {MOVED} scenes whose object is moved by {MOVE} pixels, more show the same one, where it should be, on the same "
    "ground: difference of the shares. Beside, pasting where the old place is inpainted from noise.",
    baseline=f"the object pasted at its new place, its old one grey, and denoised from the same level, {BELOW:g}; scenes of an "
    "object on a ground, exact denoiser",
    above=0.0,
    tier="full",
)
def moving(seed: int, sabotage: bool) -> Measured:
    """The broken variant has no view of the image."""
    generator = torch.Generator().manual_seed(seed)
    kind, shade = (torch.randint(0, many, (MOVED,), generator=generator) for many in (KINDS, SHADES))
    images = placed(kind, shade, AT, AT, generator)
    here, there = (slice(AT, AT + OBJECT),) * 2, tuple(slice(AT + by, AT + by + OBJECT) for by in MOVE)
    box = torch.zeros(SIDE, SIDE)
    box[here] = 1
    most = SIDE - OBJECT - AT
    layers = [Layer(box, 0, (-AT, most), (-AT, most)), Layer(torch.ones(SIDE, SIDE), 1)]
    made = []
    for k, image in enumerate(images):
        found = scene(
            scenes(),
            layers,
            image=None if sabotage else image,
            plan=LEVELS,
            layouts=LAYOUTS,
            below=BELOW,
            seed=MOVED * seed + k,
        )
        made.append(found.render([Placed(0, MOVE), Placed(1)], label=0))
    pasted = images.clone()
    pasted[..., here[0], here[1]] = 0
    pasted[..., there[0], there[1]] = images[..., here[0], here[1]]
    its = fewer.edit(scenes(), pasted, 0, method="sdedit", strength=BELOW, plan=LEVELS, seed=seed).images
    hole = box.clone()
    hole[there] = 0
    filled = fewer.edit(scenes(), pasted, 0, method="sdedit", strength=1.0, plan=LEVELS, seed=seed, mask=hole).images
    mine, theirs, others = (_right(x, kind, shade) for x in (torch.cat(made), its, filled))
    beside: Beside = {
        "scenes": mean(mine.tolist()), "pasted": mean(theirs.tolist()), "pasted, its old place inpainted": mean(others.tolist())
    }  # fmt: skip
    return Measured(mean((mine - theirs).tolist()), beside)


def _right(images: Tensor, kind: Tensor, shade: Tensor) -> Tensor:
    """Whether each scene shows its object at the new place on its ground, (n,) of 0 and 1."""
    found = shown(images)
    at = (found.row == AT + MOVE[0]) & (found.column == AT + MOVE[1])
    return (at & (found.kind == kind) & (found.shade == shade)).double()


@claim(
    "attentive-eraser/removal",
    statement=f"Of the network's own {ERASED} clearest pictures, whose inner 10 x 10 pixels are erased, fewer are still taken for "
    f"what they were: difference of a classifier's probabilities, scale {SCALE:g}. Beside, inpainting from fresh noise.",
    baseline="inpainting from the same inverted start without the guidance; cifar16-unet, no label",
    below=0.0,
    tier="full",
)
def removal(seed: int, sabotage: bool) -> Measured:
    """The broken variant has no guidance, and is held against the one that has."""
    model, classify = model_of("cifar16-unet"), cifar_classifier()
    tried = torch.arange(TRIED * ERASED) % 10
    drawn = fewer.sample(model, fewer.standard("dpmpp-2m", model, CALLS), labels=tried, n=len(tried), seed=seed)
    with torch.no_grad():
        clear = classify(drawn.clamp(-1, 1)).softmax(1).gather(1, tried[:, None])[:, 0].topk(ERASED).indices
    images, labels = drawn[clear], tried[clear]
    mask = torch.zeros(16, 16)
    mask[3:13, 3:13] = 1

    def left(method: object) -> Tensor:
        made = fewer.edit(model, images, mask=mask, method=method, plan=CALLS, strength=0.8, seed=seed).images  # type: ignore[arg-type]
        with torch.no_grad():
            return classify(made.clamp(-1, 1)).softmax(1).gather(1, labels[:, None])[:, 0].double()

    scales = (0.0, SCALE) if sabotage else (SCALE, 0.0)
    mine, its, fresh = (left(each) for each in (*map(AttentiveEraser, scales), "sdedit"))
    beside: Beside = {
        "erased": mean(mine.tolist()),
        "without": mean(its.tolist()),
        "from fresh noise": mean(fresh.tolist()),
    }
    return Measured(mean((mine - its).tolist()), beside)
